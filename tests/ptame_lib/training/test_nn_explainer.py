"""The Explainer's training loop: it learns, stops, is reproducible, can be interrupted, moves nothing else."""

import json
from dataclasses import replace

import helpers
import pytest
import torch
from helpers import TinyBackbone, same

from ptame_lib import (
    PTAME,
    Classifier,
    Explainer,
    ExplainerConfig,
    ExplainerWeights,
    RTISWeights,
    TrainingConfig,
    explainer_loss,
    train_explainer,
    train_ptame,
)
from ptame_lib.losses.nn_explainer import target_masks
from ptame_lib.masking import blend
from ptame_lib.training.loop import stops
from ptame_lib.training.nn_explainer import validate

QUICK = ExplainerConfig(steps=6, batch_size=4, lr=1e-3, validate_every=2, seed=0)
CLASSES = 3


class Images(helpers.Images):
    """The same with one or more labels for each image."""

    def __init__(self, n=10, side=16, seed=4):
        generator = torch.Generator().manual_seed(seed)
        self.pixels = torch.rand(n, 3, side, side, generator=generator)
        self.labels = torch.rand(n, CLASSES, generator=generator) < 0.5
        self.labels[torch.arange(n), torch.arange(n) % CLASSES] = True

    def __getitem__(self, i):
        return super().__getitem__(i) | {"labels": self.labels[i]}

    def draw(self, i, generator):
        return super().draw(i, generator) | {"labels": self.labels[i]}


@pytest.fixture
def classifier():
    torch.manual_seed(1)
    return Classifier(TinyBackbone(CLASSES), [0.4] * 3, [0.2] * 3, 16, multi_label=True)


def fresh(seed=5):
    torch.manual_seed(seed)
    return Explainer(CLASSES, "small")


def train(explainer, classifier, config=QUICK, data=None, val=None, **more):
    return train_explainer(explainer, classifier, data or Images(), val or Images(6, seed=7), config, **more)


def weights(explainer):
    return {key: value.clone() for key, value in explainer.state_dict().items()}


def test_the_first_steps_loss_is_that_of_its_parts(classifier):
    """One batch that holds all images, in whatever order, unaugmented."""
    data = [Images()[i] for i in range(4)]
    pixels, labels = torch.stack([item["pixels"] for item in data]), torch.stack([item["labels"] for item in data])
    explainer = fresh().train()
    logits = explainer(pixels)
    masks = target_masks(logits, labels)
    mean = torch.full((1, 3, 1, 1), 0.4)
    kept, removed = classifier(blend(pixels, masks[0], mean)), classifier(blend(pixels, 1 - masks[0], mean))
    expected = explainer_loss(logits, labels, kept, removed, masks, ExplainerWeights(entropy=3.0))
    config = replace(QUICK, steps=1, loss=ExplainerWeights(entropy=3.0))
    row = train(fresh(), classifier, config, data)[0]
    assert {k: row[k] for k in expected._fields} == pytest.approx(
        {k: v.item() for k, v in expected._asdict().items()}, rel=1e-4
    )


@pytest.mark.parametrize(("loss", "less"), [(ExplainerWeights(), 0.8), (RTISWeights(removed=0.0), 0.9)])
def test_the_loss_goes_down(classifier, loss, less):
    history = train(fresh(), classifier, replace(QUICK, steps=20, lr=5e-3, validate_every=20, loss=loss))
    totals = [row["total"] for row in history]
    assert sum(totals[-5:]) < less * sum(totals[:5])


def test_the_history(classifier):
    explainer, seen = fresh(), []
    history = train(explainer, classifier, on_step=seen.append)
    terms = {"total", "ce", "entropy", "tv", "class_area", "area", "non_target_area"}
    assert seen == history
    assert [row["step"] for row in history] == list(range(6))
    assert set(history[0]) == {"step", "lr"} | terms
    assert set(history[1]) == {"step", "lr"} | terms | {f"val_{term}" for term in terms}
    assert [row["step"] for row in history if "val_total" in row] == [1, 3, 5]
    assert all(row["lr"] == 1e-3 for row in history)
    assert not explainer.training
    rtis = train(fresh(), classifier, replace(QUICK, steps=1, loss=RTISWeights(), schedule="onecycle"))
    assert set(rtis[0]) >= {"kept", "removed", "tv", "area", "val_kept"}
    assert rtis[0]["lr"] < 1e-3


def test_it_ends_with_the_weights_of_the_lowest_validation_loss(classifier, monkeypatch):
    losses, seen = iter([3.0, 1.0, 2.0, 4.0]), []

    def scripted(explainer, *_):
        seen.append(weights(explainer))
        return {"val_total": next(losses)}

    monkeypatch.setattr("ptame_lib.training.nn_explainer.validate", scripted)
    explainer = fresh()
    train(explainer, classifier, replace(QUICK, steps=4, validate_every=1))
    assert same(weights(explainer), seen[1])
    assert not same(seen[1], seen[3])


def test_a_validation_is_the_mean_over_its_images_and_leaves_no_trace(classifier):
    explainer, val = fresh().train(), Images(7, seed=7)
    before = weights(explainer)
    found = validate(explainer, classifier, val, QUICK)  # batches of 4 and 3
    parts = [
        validate(explainer, classifier, [val.draw(i, torch.Generator().manual_seed(i))], QUICK)["val_ce"]
        for i in range(7)
    ]
    assert found["val_ce"] == pytest.approx(sum(parts) / 7, rel=1e-4)
    assert explainer.training
    assert same(weights(explainer), before)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], False),
        ([5.0, 4.0, 3.0], False),
        ([3.0, 3.5, 3.4], True),
        ([3.0, 2.9995, 2.9985], False),
        ([3.0, 2.9995, 2.9993], True),
    ],
)
def test_it_stops_when_it_gets_no_better(losses, expected):
    """Two validations in a row that are not better than the best by 0.001."""
    history = [row for loss in losses for row in ({"total": 1.0}, {"total": 1.0, "val_total": loss})]
    assert stops(history, replace(QUICK, patience=2, min_delta=1e-3)) is expected


def test_early_stopping_ends_the_run(classifier):
    history = train(fresh(), classifier, replace(QUICK, steps=50, min_delta=10.0, validate_every=3, patience=2))
    assert len(history) == 9


def test_without_a_number_it_validates_once_per_epoch(classifier):
    history = train(fresh(), classifier, replace(QUICK, validate_every=0))  # 10 images: two batches of four
    assert [row["step"] for row in history if "val_total" in row] == [1, 3, 5]


def test_equal_seeds_give_equal_weights(classifier):
    trained = []
    for seed in (0, 0, 1):
        explainer = fresh()
        torch.rand(seed + len(trained))  # whatever was drawn before
        train(explainer, classifier, replace(QUICK, seed=seed))
        trained.append(weights(explainer))
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


def test_training_moves_nothing_but_the_explainer(classifier):
    before, explainer = weights(classifier), fresh()
    start = weights(explainer)
    train(explainer, classifier)
    assert same(weights(classifier), before)
    assert all(p.grad is None for p in classifier.parameters())
    assert not any(value.equal(start[key]) for key, value in weights(explainer).items() if value.numel() > 1)


@pytest.mark.parametrize(("stop", "schedule"), [(2, "onecycle"), (4, "constant")])
def test_an_interrupted_run_ends_with_exactly_the_same_weights(stop, schedule, classifier, tmp_path):
    config, whole, interrupted = replace(QUICK, schedule=schedule), fresh(), fresh()
    expected = train(whole, classifier, config)

    def interrupt(row):
        if row["step"] == stop:
            raise KeyboardInterrupt

    file = tmp_path / "runs" / "e.ckpt"
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, classifier, config, checkpoint=file, on_step=interrupt)
    resumed, seen = fresh(seed=99), []
    history = train(resumed, classifier, config, checkpoint=file, resume=True, on_step=seen.append)
    assert len(seen) == 6 - stop  # from the last validation
    assert history == expected
    assert same(weights(resumed), weights(whole))
    assert json.loads(file.with_suffix(".history.json").read_text()) == expected


def test_resuming_a_run_that_stopped_early_changes_nothing(classifier, tmp_path):
    config = replace(QUICK, steps=40, lr=0.1, validate_every=1, patience=1)
    done, again = fresh(), fresh(seed=99)
    expected = train(done, classifier, config, checkpoint=tmp_path / "e.ckpt")
    assert len(expected) < 40
    assert train(again, classifier, config, checkpoint=tmp_path / "e.ckpt", resume=True) == expected
    assert same(weights(again), weights(done))


def test_a_checkpoint_of_something_else_is_refused(classifier, tmp_path):
    train(fresh(), classifier, checkpoint=tmp_path / "e.ckpt")
    for other in (replace(QUICK, lr=0.02), replace(QUICK, loss=RTISWeights())):
        with pytest.raises(
            ValueError, match=r"e\.ckpt was made with other settings \((lr|loss): .*: use those, or start"
        ):
            train(fresh(), classifier, other, checkpoint=tmp_path / "e.ckpt", resume=True)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone\.ckpt: start with resume=False"):
        train(fresh(), classifier, checkpoint=tmp_path / "gone.ckpt", resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(classifier):
    data = Images(n=4)
    data.pixels[2] = float("nan")
    explainer = fresh()
    start = explainer.net.head.weight.clone()
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 0: lower lr \(now 0\.001\)"):
        train(explainer, classifier, data=data)
    assert explainer.net.head.weight.equal(start)
    with pytest.raises(FloatingPointError, match="the validation loss is nan at step 1: "):
        train(explainer.eval(), classifier, val=data)
    assert not any(module.training for module in explainer.modules())


def test_a_validation_that_fails_gives_the_modes_back(classifier):
    explainer = fresh().train()
    explainer.net.head.eval()
    modes = [module.training for module in explainer.modules()]
    with pytest.raises(KeyError):
        validate(explainer, classifier, [{"pixels": torch.rand(3, 16, 16)}], QUICK)
    assert [module.training for module in explainer.modules()] == modes


class Unlabelled(Images):
    def __getitem__(self, i):
        return {"pixels": self.pixels[i], "label": torch.tensor(0)}


def test_what_cannot_be_trained(classifier, auxiliary):
    with pytest.raises(
        ValueError, match=r"the training images need labels .* 3 classes, found none: use multi-label data"
    ):
        train(fresh(), classifier, data=Unlabelled())
    with pytest.raises(ValueError, match=r"the validation images need labels .* 4 classes, found shape \(3,\)"):
        train(Explainer(4, "small"), classifier, data=[{"pixels": torch.rand(3, 8, 8), "labels": torch.ones(4)}] * 4)
    with pytest.raises(ValueError, match="there are no validation images"):
        train_explainer(fresh(), classifier, Images(), [], QUICK)
    with pytest.raises(ValueError, match="3 training images are fewer than one batch of 4"):
        train(fresh(), classifier, data=Images(n=3))
    with pytest.raises(ValueError, match="unknown schedule 'cosine': choose constant or onecycle"):
        train(fresh(), classifier, replace(QUICK, schedule="cosine"))
    with pytest.raises(ValueError, match="TinyBackbone can't be used"):
        train(fresh(), TinyBackbone(CLASSES))


class Patches(torch.nn.Module):
    """Logits: 10 times how red, green and blue the most coloured 8x8 patch is, beyond the other two colours."""

    def forward(self, pixels):
        beyond = pixels - (pixels.sum(1, keepdim=True) - pixels) / 2
        return 10 * torch.nn.functional.avg_pool2d(beyond, 8).amax((2, 3))


def test_a_single_label_classifiers_mask_is_where_its_evidence_is():
    """Grey noise with one coloured patch of 1/16 of the image; the colour is the class."""
    generator = torch.Generator().manual_seed(3)
    pixels = (0.3 + 0.2 * torch.rand(48, 1, 32, 32, generator=generator)).repeat(1, 3, 1, 1)
    colours, places = torch.arange(48) % 3, torch.randint(0, 16, (48,), generator=generator)
    truth = torch.zeros(48, 4, 8, 4, 8)
    truth[torch.arange(48), places // 4, :, places % 4] = 1
    truth = truth.view(48, 32, 32)
    pixels = pixels * (1 - truth[:, None]) + truth[:, None] * torch.eye(3)[colours][:, :, None, None]
    data = [{"pixels": p, "labels": torch.eye(3)[c].bool()} for p, c in zip(pixels, colours, strict=True)]
    classifier = Classifier(Patches(), [0.4] * 3, [1.0] * 3, 32)
    explainer = fresh()
    loss = ExplainerWeights(area=1.0, non_target_area=1.0, largest=0.15)
    config = ExplainerConfig(steps=40, batch_size=8, lr=5e-3, loss=loss, validate_every=40, schedule="onecycle", seed=0)
    history = train(explainer, classifier, config, data[:40], data[40:])
    assert history[-1]["val_ce"] < 0.2
    masks = explainer.masks(pixels[40:])
    own = masks[torch.arange(8), colours[40:]]
    assert truth[40:].flatten(1)[torch.arange(8), own.flatten(1).argmax(1)].eq(1).all()
    assert ((own * truth[40:]).sum((1, 2)) / own.sum((1, 2))).min() > 0.4  # of 1/16 by chance
    assert (masks.sum(1) - own).mean() < 0.05


def test_several_labels_are_no_single_label_classifiers():
    classifier = Classifier(TinyBackbone(CLASSES), [0.4] * 3, [0.2] * 3, 16)
    with pytest.raises(ValueError, match="of the batch has 2 labels, but the classifier gives one class per image"):
        train(fresh(), classifier, data=[{"pixels": torch.rand(3, 16, 16), "labels": torch.tensor([1, 1, 0])}] * 4)


def test_both_loops_follow_each_other(classifier, auxiliary):
    train(fresh(), classifier, replace(QUICK, steps=1, precision="bf16"))
    train_ptame(PTAME(auxiliary, CLASSES), classifier, Images(), TrainingConfig(steps=1, batch_size=4))
    assert len(train(fresh(), classifier, replace(QUICK, steps=1))) == 1
