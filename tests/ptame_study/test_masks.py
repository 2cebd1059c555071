"""Multi-label classifiers: the shipped ones, how they are made, and torchvision's with another head."""

from dataclasses import replace

import pytest
import torch
from helpers import TinyBackbone
from sklearn.metrics import average_precision_score

from ptame_lib import Classifier, load_classifier, load_embedded, load_multilabel
from ptame_lib.classifiers.loading import EMBEDDED, EMBEDDED_MULTI
from ptame_lib.explainers import storage
from ptame_study.embedded_classifiers import hide, train_embedded_multi
from ptame_study.finetune import FinetuneConfig, answers, finetune


@pytest.fixture(scope="module")
def digits():
    return load_embedded("test", 120, multi_label=True, cached=False)


@pytest.mark.parametrize("name", EMBEDDED_MULTI)
def test_the_shipped_ones(name, digits):
    classifier = load_classifier(name)
    assert classifier.labels == tuple("0123456789")
    logits, labels = answers(classifier, digits)
    assert average_precision_score(labels.numpy(), logits.numpy(), average="macro") > 0.95
    assert ((logits > 0) == labels.bool()).float().mean() > 0.95
    nothing = classifier(classifier.mean.expand(1, 3, 64, 64))  # what a mask leaves that keeps nothing
    assert nothing.max() < -2
    assert nothing.softmax(1).max() < 0.15


def test_the_single_label_ones_are_others():
    assert EMBEDDED == ("embedded/vgg", "embedded/resnet", "embedded/vit")


def test_an_item_has_labels(digits):
    item = digits[3]
    assert set(item) == {"pixels", "labels", "truth"}
    assert item["labels"].equal(digits.labels[3])


def test_what_is_hidden_takes_the_colour_and_its_label_with_it(digits):
    pixels, labels, truth = digits.images.float() / 255, digits.labels, digits.truth
    colour = torch.tensor([0.1, 0.5, 0.9]).view(1, 3, 1, 1)
    shown, left = hide(pixels, labels, truth, colour, torch.Generator().manual_seed(0))
    mask = (
        ((shown - colour) / (pixels - colour)).nan_to_num(nan=1.0).median(1).values
    )  # of the three colours; exact where they differ
    visible = (truth * mask[:, None]).sum((2, 3)) / truth.sum((2, 3)).clamp_min(1)
    assert (left[~labels] == 0).all()
    assert (left[labels & (visible > 0.65)] == 1).all()
    assert (left[labels & (visible < 0.2)] == 0).all()
    whole, nothing = (mask > 0.99).flatten(1).all(1), left.sum(1) == 0
    for share, low, high in ((whole, 0.1, 0.5), (nothing, 0.05, 0.5), ((left == labels).all(1) & ~whole, 0.02, 0.6)):
        assert low < share.float().mean() < high
    again = hide(pixels, labels, truth, colour, torch.Generator().manual_seed(0))
    assert again[0].equal(shown)


def test_the_recipe_is_repeatable(digits):
    nets = [train_embedded_multi("multi-resnet", digits, epochs=1) for _ in range(2)]
    states = [net.state_dict() for net in nets]
    assert all(states[0][key].equal(states[1][key]) for key in states[0])
    assert not nets[0].training


@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_torchvisions_with_another_head(name, tmp_path):
    torch.manual_seed(0)
    with torch.device("meta" if name == "vgg16" else "cpu"):  # 138 M parameters are slow to draw
        classifier = load_multilabel(name, 20, weights=None, labels=[str(c) for c in range(20)])
    assert [p.shape[0] for p in classifier.model.parameters()][-2:] == [20, 20]
    assert not any(p.requires_grad for p in classifier.parameters())
    if name == "vgg16":
        return
    assert classifier(torch.rand(1, 3, 64, 64)).shape == (1, 20)
    storage.write(tmp_path / "tuned.safetensors", classifier.model.state_dict(), {})
    again = load_multilabel(name, 20, tmp_path / "tuned.safetensors")
    pixels = torch.rand(1, 3, 64, 64)
    assert again(pixels).equal(classifier(pixels))
    with pytest.raises(
        ValueError, match=r"tuned\.safetensors does not fit ResNet: fc\.\w+ has shape \(20,.*\), expected \(7,.*\)"
    ):
        load_multilabel(name, 7, tmp_path / "tuned.safetensors")


def test_what_cannot_be_loaded():
    with pytest.raises(ValueError, match="unknown network 'vit_b_16': choose vgg16 or resnet50"):
        load_multilabel("vit_b_16", 20)
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*gone\.pth"):
        load_multilabel("resnet50", 20, "gone.pth")


class Bright(torch.utils.data.Dataset):
    """Label c says whether colour c is bright: what a network with a mean over the image learns in a moment."""

    def __init__(self, n, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.rand(n, 3, generator=generator) < 0.5
        self.pixels = (0.3 + 0.4 * self.labels)[:, :, None, None] + 0.2 * torch.rand(n, 3, 8, 8, generator=generator)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"pixels": self.pixels[i], "labels": self.labels[i]}


CONFIG = FinetuneConfig(epochs=15, batch_size=8, lr=1e-2)


def tiny(seed=0):
    torch.manual_seed(seed)
    return Classifier(TinyBackbone(3), [0.5] * 3, [0.2] * 3, 8).own()


def test_fine_tuning_learns():
    classifier = tiny()
    history = finetune(classifier, Bright(64), Bright(24, seed=1), CONFIG)
    logits, labels = answers(classifier, Bright(40, seed=2))
    assert ((logits > 0) == labels.bool()).float().mean() > 0.95
    assert history[-1]["total"] < 0.5 * history[0]["total"]
    assert [row["epoch"] for row in history] == list(range(len(history)))
    assert not any(p.requires_grad for p in classifier.parameters())
    assert not any(module.training for module in classifier.model.modules())


def test_fine_tuning_stops_early_with_its_best_weights():
    val, classifier = Bright(24, seed=1), tiny()
    history = finetune(classifier, Bright(64), val, replace(CONFIG, patience=2, min_delta=10.0))
    assert len(history) == 3
    classifier, unstable = tiny(), replace(CONFIG, epochs=6, lr=0.3, patience=9)
    history = finetune(classifier, Bright(64), val, unstable)
    logits, labels = answers(classifier, val)
    best = min(row["val_total"] for row in history)
    assert torch.nn.functional.binary_cross_entropy_with_logits(logits, labels).item() == pytest.approx(best, rel=1e-4)
    assert history[-1]["val_total"] > best


def test_fine_tuning_is_repeatable():
    first, second = (finetune(tiny(), Bright(20), Bright(8, seed=1), replace(CONFIG, epochs=2)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"epochs": 0}, {"lr": "1e-4"}, {"seed": -1}, {"min_delta": -1.0}])
def test_settings_that_fine_tune_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} (can't|must) be "):
        FinetuneConfig(**wrong)


def test_a_loss_that_is_not_finite_stops_it():
    data = Bright(16)
    data.pixels[3] = torch.nan
    with pytest.raises(FloatingPointError, match=r"the loss is nan in epoch 0: lower lr \(now 0\.01\)"):
        finetune(classifier := tiny(), data, Bright(8), CONFIG)
    assert not any(p.requires_grad for p in classifier.parameters())
    assert not any(module.training for module in classifier.model.modules())
    with pytest.raises(FloatingPointError, match=r"the validation loss is nan in epoch 0"):
        finetune(tiny(), Bright(16), data, CONFIG)
