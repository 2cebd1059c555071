"""The training loop: it learns, it is reproducible, it can be interrupted, it moves nothing else."""

import json
import os
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import (
    Arrays,
    Images,
    Noise,
    assert_caught,
    classifier_of,
    explainer_of,
    keep_normalised,
    same,
    small_cnn,
    weights,
    weights_of,
)
from torch import nn

from ptame_lib import PTAME, TrainingConfig, files, keep, keep_share, normalise, ptame_loss, resize, train_ptame
from ptame_lib.losses.swaps import matched_masks
from ptame_lib.training.batches import Batches
from ptame_lib.training.ptame import SOFT

QUICK = TrainingConfig(steps=7, batch_size=4, lr=1e-2, checkpoint_every=2)


class Files(torch.utils.data.Dataset):
    """The same images, as they are, with files."""

    def __init__(self, folder):
        self.pixels, self.files = Images().pixels, [folder / f"{i}.png" for i in range(10)]

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return {"pixels": self.pixels[i]}


@pytest.fixture
def fresh(auxiliary):
    def make(classes=7, seed=5):
        torch.manual_seed(seed)
        return PTAME(auxiliary, classes)

    return make


def first_loss(case, loss_set):
    """The loss of train_ptame's first step on a parity file's images, drawn in any order, and the original's."""
    arrays = Arrays(f"ptame_pipeline_{case}")
    data = [{"pixels": image} for image in arrays.pixels("images")]
    config = TrainingConfig(steps=1, batch_size=len(data), loss=weights_of(arrays.description["losses"][loss_set]))
    row = train_ptame(explainer_of(arrays), classifier_of(arrays), data, config)[0]
    return [row[term] for term in ("total", "ce", "area", "smooth")], arrays[f"loss_train/{loss_set}"].tolist()


@pytest.mark.parametrize("loss_set", ["default", "resnet50", "vgg16", "vit"])
@pytest.mark.parametrize("case", [0, 1, 2])
def test_the_first_step_is_the_originals(case, loss_set):
    found, expected = first_loss(case, loss_set)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_loss_goes_down(fresh, classifier):
    history = train_ptame(fresh(), classifier, Images(), replace(QUICK, steps=40))
    totals = [row["total"] for row in history]
    assert sum(totals[-5:]) < 0.8 * sum(totals[:5])


def test_the_history(fresh, classifier):
    explainer, seen = fresh(), []
    history = train_ptame(explainer, classifier, Images(), QUICK, on_step=seen.append)
    assert seen == history
    assert [row["step"] for row in history] == list(range(7))
    assert set(history[0]) == {"step", "lr", "total", "ce", "area", "smooth"}
    assert max(row["lr"] for row in history) <= QUICK.lr
    assert all(
        row["total"] == pytest.approx(1.5 * row["ce"] + 2 * row["area"] + 0.01 * row["smooth"], rel=1e-5)
        for row in history
    )
    assert not explainer.training


def test_equal_seeds_give_equal_weights(fresh, classifier):
    trained = []
    for seed in (0, 0, 1):
        explainer = fresh()
        torch.rand(seed + len(trained))  # whatever was drawn before
        train_ptame(explainer, classifier, Images(), replace(QUICK, seed=seed))
        trained.append(weights(explainer))
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


def test_training_moves_nothing_but_the_explainer(fresh, classifier, auxiliary):
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (classifier, auxiliary)]
    explainer = fresh()
    start = weights(explainer)
    train_ptame(explainer, classifier, Images(), QUICK)
    for net, state in zip((classifier, auxiliary), before, strict=True):
        assert same(net.state_dict(), state)
        assert all(p.grad is None for p in net.parameters())
    assert not any(value.equal(start[key]) for key, value in weights(explainer).items() if value.numel() > 1)


def test_a_bare_network_is_asked_at_rest_and_left_as_it_was(fresh):
    net = small_cnn()
    net.append(nn.Dropout(0.5))
    net.l1.eval()
    before, modes = {k: v.clone() for k, v in net.state_dict().items()}, [part.training for part in net.modules()]
    asked = []
    net.register_forward_pre_hook(lambda net, _: asked.append(any(part.training for part in net.modules())))
    train_ptame(fresh(), net, Images(), QUICK)
    assert asked
    assert not any(asked)
    assert same(net.state_dict(), before)
    assert [part.training for part in net.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_training_leaves_the_random_states_as_they_were(fresh, classifier):
    def draws():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    def seed():
        random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002

    explainer = fresh()
    seed()
    wanted = draws()
    seed()
    train_ptame(explainer, classifier, Images(), QUICK)
    assert draws() == wanted
    # nor does a seed that NumPy refuses, after Python has taken it
    seed()
    with pytest.raises(ValueError, match="Seed must be between 0 and"):
        train_ptame(explainer, classifier, Images(), replace(QUICK, seed=2**32))
    assert draws() == wanted


@pytest.mark.parametrize("stop", [1, 2, 4, 5])
def test_an_interrupted_run_ends_with_exactly_the_same_weights(stop, fresh, classifier, tmp_path):
    whole, interrupted = fresh(), fresh()
    expected = train_ptame(whole, classifier, Images(), QUICK)

    def interrupt(row):
        if row["step"] == stop:
            raise KeyboardInterrupt

    file = tmp_path / "runs" / "e.ckpt"
    modes = [module.training for module in interrupted.modules()]
    with pytest.raises(KeyboardInterrupt):
        train_ptame(interrupted, classifier, Images(), QUICK, checkpoint=file, on_step=interrupt)
    assert [module.training for module in interrupted.modules()] == modes
    resumed, seen = fresh(seed=99), []
    history = train_ptame(resumed, classifier, Images(), QUICK, checkpoint=file, resume=True, on_step=seen.append)
    assert len(seen) == 7 - (stop + 1) // 2 * 2  # from the last even step
    assert history == expected
    assert same(weights(resumed), weights(whole))
    assert json.loads(file.with_suffix(".history.json").read_text()) == expected
    assert sorted(p.name for p in file.parent.iterdir()) == ["e.ckpt", "e.history.json"]


def test_resuming_a_finished_run_changes_nothing(fresh, classifier, tmp_path):
    done, again = fresh(), fresh(seed=99)
    expected = train_ptame(done, classifier, Images(), QUICK, checkpoint=tmp_path / "e.ckpt")
    assert train_ptame(again, classifier, Images(), QUICK, checkpoint=tmp_path / "e.ckpt", resume=True) == expected
    assert same(weights(again), weights(done))


def test_a_checkpoint_of_something_else_is_refused(fresh, classifier, tmp_path):
    def resume(explainer, config=QUICK, file=tmp_path / "e.ckpt"):
        train_ptame(explainer, classifier, Images(), config, checkpoint=file, resume=True)

    train_ptame(fresh(), classifier, Images(), QUICK, checkpoint=tmp_path / "e.ckpt")
    with pytest.raises(
        ValueError,
        match=r"e\.ckpt was made with other settings \(lr: 0\.01, now 0\.02; seed: 0, now 3\): use those, or start",
    ):
        resume(fresh(), replace(QUICK, lr=0.02, seed=3))
    with pytest.raises(ValueError, match=r"fuser\.weight has shape \(7, .*expected \(8, "):
        resume(fresh(classes=8))
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone\.ckpt: start with resume=False"):
        resume(fresh(), file=tmp_path / "gone.ckpt")
    with pytest.raises(ValueError, match="resume=True needs checkpoint"):
        resume(fresh(), file=None)
    for content in (b"", b"garbage" * 30):
        (tmp_path / "e.ckpt").write_bytes(content)
        with pytest.raises(ValueError, match=r"e\.ckpt can't be read as a training checkpoint .*delete it and start"):
            resume(fresh())


def test_a_checkpoint_that_is_not_continued_is_kept(fresh, classifier, tmp_path):
    """Trainings that start anew twice: what each left is whole, under a name that the warning tells."""
    file, left = tmp_path / "e.ckpt", {}
    for name in ("e-old.ckpt", "e-old2.ckpt"):
        if not left:
            train_ptame(fresh(), classifier, Images(), QUICK, checkpoint=file)
        left[name] = file.read_bytes(), file.with_suffix(".history.json").read_bytes()
        short = replace(QUICK, steps=len(left))
        with pytest.warns(UserWarning, match=rf"e\.ckpt, the state of .* not continued: kept as .*{name}$"):
            train_ptame(fresh(), classifier, Images(), short, checkpoint=file)
        assert len(torch.load(file)["history"]) == len(left)
    for name, (state, history) in left.items():
        assert (tmp_path / name).read_bytes() == state
        assert (tmp_path / name).with_suffix(".history.json").read_bytes() == history
    assert len(list(tmp_path.iterdir())) == 6


def test_how_often_a_checkpoint_is_written_may_change(fresh, classifier, tmp_path):
    train_ptame(fresh(), classifier, Images(), QUICK, checkpoint=tmp_path / "e.ckpt")
    other = replace(QUICK, checkpoint_every=3)
    assert len(train_ptame(fresh(), classifier, Images(), other, checkpoint=tmp_path / "e.ckpt", resume=True)) == 7


def test_a_loss_that_is_not_finite_stops_the_run(fresh, classifier, tmp_path):
    data = Images(n=4)
    data.pixels[2] = float("nan")
    explainer = fresh()
    start = weights(explainer)
    message = (
        r"the loss is nan at step 0: lower lr \(now 0\.01\).* The step's images: image \d, "
        r".*The classifier's answer is not finite for image 2\.$"
    )
    with pytest.raises(FloatingPointError, match=message):
        train_ptame(explainer, classifier, data, QUICK, checkpoint=tmp_path / "e.ckpt")
    assert not (tmp_path / "e.ckpt").exists()
    assert explainer.fuser.weight.equal(start["fuser.weight"])


@pytest.mark.parametrize("answer", [float("nan"), float("inf")])
def test_the_files_of_a_bad_step_are_named_and_the_last_good_checkpoint_stays(answer, fresh, classifier, tmp_path):
    """From the fourth step on, the classifier answers nonsense about one image of that step, however it is masked."""
    bad = Batches(10, QUICK).images(3)
    data = torch.utils.data.Subset(Files(tmp_path), range(10))
    data.dataset.pixels[:, 0, 0, 0] = 0
    data.dataset.pixels[bad[1], 0, 0, 0] = 1
    turned = []

    class Turning(torch.nn.Module):
        def forward(self, pixels):
            marked = (pixels[:, 0, 0, 0] > 0) & bool(turned)
            return torch.where(marked[:, None], answer, classifier(pixels))

    file = tmp_path / "e.ckpt"
    with pytest.raises(FloatingPointError) as stopped:
        train_ptame(
            fresh(),
            Turning(),
            data,
            QUICK,
            checkpoint=file,
            on_step=lambda row: turned.append(1) if row["step"] == 2 else None,
        )
    said = str(stopped.value)
    assert "at step 3:" in said
    assert all(str(tmp_path / f"{i}.png") in said for i in bad)
    assert f"The classifier's answer is not finite for {tmp_path / f'{bad[1]}.png'}. " in said
    assert said.endswith(f"{file} keeps the last good state.")
    assert len(torch.load(file)["history"]) == 2


def test_weights_that_are_not_finite_are_not_written(fresh, classifier, tmp_path):
    """The loss is still finite when a step has spoiled the weights, or what the optimizer keeps."""
    file, explainer = tmp_path / "e.ckpt", fresh()

    def spoil(row):
        if row["step"] == 2:
            explainer.fuser.weight.register_hook(lambda gradient: gradient * torch.inf)

    with pytest.raises(
        FloatingPointError,
        match=r"fuser\.weight is not finite after step 3, though the loss was: .*e\.ckpt keeps the last good",
    ):
        train_ptame(explainer, classifier, Images(), QUICK, checkpoint=file, on_step=spoil)
    assert len(torch.load(file)["history"]) == 2
    assert all(value.isfinite().all() for value in torch.load(file)["explainer"].values())


def test_a_second_training_into_the_same_checkpoint_stops(fresh, classifier, tmp_path, monkeypatch):
    file = tmp_path / "e.ckpt"
    seen = []

    def second(row):
        if row["step"] == 0:
            with pytest.raises(
                RuntimeError,
                match=rf"e\.ckpt is being made by another run \(process {os.getpid()} on .*\): wait for it or stop",
            ):
                train_ptame(fresh(), classifier, Images(), QUICK, checkpoint=file)
            seen.append(row)

    monkeypatch.setattr(files, "PATIENCE", 0.05)
    expected = train_ptame(fresh(), classifier, Images(), QUICK)
    assert train_ptame(fresh(), classifier, Images(), QUICK, checkpoint=file, on_step=second) == expected
    assert len(seen) == 1


def test_batches_depend_on_seed_and_step_alone():
    config = replace(QUICK, steps=6, batch_size=3)
    all_ = list(Batches(10, config, 0))
    assert list(Batches(10, config, 4)) == all_[4:]
    for epoch in (all_[:3], all_[3:]):  # nine of ten images, each once
        assert len({index for batch in epoch for index, _ in batch}) == 9
    assert all_ != list(Batches(10, replace(config, seed=1), 0))
    assert len({seed for batch in all_ for _, seed in batch}) == 18


def test_trainings_of_different_precision_follow_each_other_in_one_process(auxiliary, classifier):
    for precision in ("bf16", "no"):
        history = train_ptame(
            PTAME(auxiliary, 7), classifier, Images(8), TrainingConfig(steps=1, batch_size=4, precision=precision)
        )
        assert len(history) == 1


def test_images_that_never_change_are_decided_once(classifier, auxiliary):
    """Eight images for three epochs: one question about each whole image, and three where images are augmented."""

    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.whole = 0

        def forward(self, pixels):
            self.whole += 0 if pixels.requires_grad else len(pixels)
            return classifier(pixels)

    class Augmented(Noise):
        def draw(self, i, generator):
            return {"pixels": torch.rand(3, 32, 32, generator=generator)}

    asked = {}
    for data in (Noise(8, 32), Augmented(8, 32)):
        counting = Counting()
        train_ptame(PTAME(auxiliary, 7), counting, data, TrainingConfig(steps=6, batch_size=4))
        asked[type(data).__name__] = counting.whole
    assert asked == {"Noise": 8, "Augmented": 24}


def masked_images(classifier, explainer, pixels, config):
    """What the classifier gets to see, with gradient, in the steps of a training on ``pixels``."""

    class Watching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, pixels):
            if pixels.requires_grad:
                self.seen.append(pixels.detach().clone())
            return classifier(pixels)

    watching = Watching()
    train_ptame(explainer, watching, [{"pixels": image} for image in pixels], config)
    return watching.seen


def test_a_minmax_mask_is_the_evaluations(fresh, classifier):
    config = TrainingConfig(steps=3, batch_size=2, lr=0.0, mask="minmax", shares=(1.0, 0.5, 0.15))
    pixels = Images(n=1).pixels.repeat(2, 1, 1, 1)  # the same image twice: its place in the batch is no matter
    targets = classifier(pixels).argmax(1)
    maps = normalise(fresh().train().maps(pixels, targets)[:, 0].detach())
    for seen, share in zip(masked_images(classifier, fresh(), pixels, config), config.shares, strict=True):
        assert torch.allclose(seen, keep(pixels, keep_share(resize(maps, (32, 32)), share)), atol=1e-6)


def test_matched_masks_and_what_they_leave_are_asked_about(fresh, classifier):
    config = TrainingConfig(steps=2, batch_size=2, lr=0.0, mask="matched", shares=(0.5, 0.1), rest=1.0)
    pixels = Images(n=1).pixels.repeat(2, 1, 1, 1)
    maps = fresh().train().maps(pixels, classifier(pixels).argmax(1))[:, 0].detach()
    seen = masked_images(classifier, fresh(), pixels, config)
    for share, kept, left in zip(config.shares, seen[::2], seen[1::2], strict=True):
        mask = resize(matched_masks(maps, torch.full((len(maps),), share), SOFT), (32, 32))
        assert torch.allclose(kept, keep(pixels, mask), atol=1e-4)
        assert torch.allclose(left, keep(pixels, 1 - mask), atol=1e-4)


def test_the_rest_counts_by_its_weight(fresh, classifier):
    def begun(rest):
        config = TrainingConfig(steps=1, batch_size=4, mask="matched", shares=(0.2,), rest=rest)
        return train_ptame(fresh(), classifier, Images(n=4), config)[0]

    none, one, two = map(begun, (0.0, 1.0, 2.0))
    assert one["total"] > none["total"]
    assert two["total"] - one["total"] == pytest.approx(one["total"] - none["total"], rel=1e-4)
    assert one["ce"] == none["ce"]


def test_unknown_masks_and_shares_are_refused(fresh, classifier):
    with pytest.raises(ValueError, match=r"matched masks of the share 1 hide nothing: give shares below 1"):
        TrainingConfig(mask="matched")
    with pytest.raises(ValueError, match="rest can't be -1: give a finite number that is not negative"):
        TrainingConfig(rest=-1)
    with pytest.raises(ValueError, match="regions can't be nan: give a finite number that is not negative"):
        TrainingConfig(regions=float("nan"))
    with pytest.raises(ValueError, match="unknown mask 'tanh': choose sigmoid, minmax, swap, shapley or matched"):
        train_ptame(fresh(), classifier, Images(), replace(QUICK, mask="tanh"))
    with pytest.raises(ValueError, match=r"shares must be some numbers in \(0, 1\], got \(2.0,\)"):
        train_ptame(fresh(), classifier, Images(), replace(QUICK, shares=(2.0,)))


def test_tied_rows_of_the_fuser_move_alike(fresh, classifier):
    for tied in (True, False):
        explainer = fresh()
        start = explainer.fuser.weight.detach().clone()
        train_ptame(explainer, classifier, Images(), replace(QUICK, tied=tied, weight_decay=0.0))
        moved = explainer.fuser.weight.detach() - start
        assert moved.abs().amax() > 1e-3
        assert torch.allclose(moved, moved[:1].expand_as(moved), atol=1e-6) == tied
        assert not explainer.fuser.weight._backward_hooks


def first_step():
    test_the_first_step_is_the_originals(0, "default")


def own_map(masks, targets):
    """Each image's own map (B,h,w), of the maps of the batch's distinct targets (B,n,h,w)."""
    return masks[torch.arange(len(targets)), targets.unique(return_inverse=True)[1]]


# name: (what is replaced in training.ptame, by what)
FAULTS = {
    "masking after normalisation": ("keep", keep_normalised),
    "the map of another image is used for masking": ("keep", lambda x, m: keep(x, m.roll(1, 0))),
    "the image is not masked": ("keep", lambda x, m: x),
    "labels other than the decision": ("likeliest", lambda f, x: f(x).argmin(1)),
    "only each image's own map is pressed down": (
        "ptame_loss",
        lambda z, t, m, w, n: ptame_loss(z, t, own_map(m, t)[:, None], w),
    ),
    "a class of several images counts once": ("ptame_loss", lambda z, t, m, w, n: ptame_loss(z, t, m, w)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    name, replacement = FAULTS[fault]
    assert_caught(monkeypatch, first_step, (f"ptame_lib.training.ptame.{name}", replacement))
