"""ROAD: the original's arrays, cases decided by hand, and what always holds."""

import sys

import pytest
import torch
from helpers import Arrays, TinyBackbone, assert_caught
from torch import nn
from torchvision.transforms import Normalize

from ptame_lib import Classifier, normalise, resize
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.metrics import known_pixels, linear_imputation, road, telea_imputation
from ptame_lib.metrics.ranking import ranked
from ptame_lib.metrics.road import SHARES, summary


def without_noise(pixels, known):
    return linear_imputation(pixels, known, noise=0, tolerance=1e-6)


def there_and_back(pixels):
    """Normalised and denormalised as the original does it: TELEA truncates to 8 bits, so even this rounding counts."""
    back = Normalize([-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)], [1 / s for s in IMAGENET_STD])
    return back(Normalize(IMAGENET_MEAN, IMAGENET_STD)(pixels))


IMPUTE = {"linear": without_noise, "telea": telea_imputation}


@pytest.mark.parametrize("imputation", IMPUTE)
@pytest.mark.parametrize("order", ["MoRF", "LeRF"])
@pytest.mark.parametrize("file", ["road_0", "road_1", "road_2_224"])
def test_the_originals_arrays(file, order, imputation):
    arrays = Arrays(file)
    net = TinyBackbone(arrays["backbone/fc.weight"].shape[0])
    net.load_state_dict(arrays.part("backbone/"))
    classifier = Classifier(net, IMAGENET_MEAN, IMAGENET_STD, 64)
    accuracies, confidences = [], []
    for batch in range(len(arrays.description["batches"])):
        pixels, maps = arrays[f"images_u8_{batch}"].float() / 255, arrays[f"masks_{batch}"][:, 0]
        pixels = there_and_back(pixels)
        size = arrays.description["x_size"][-2:]
        for share in SHARES:
            known = known_pixels(resize(normalise(maps), tuple(size)), share, order, official=True)
            assert known.flatten(1).sum(1).equal(arrays[f"keep_count/{order}/{batch}_{share}"])
        accuracy, confidence = road(
            classifier, pixels, arrays[f"targets_{batch}"], maps, order, impute=IMPUTE[imputation], official=True
        )
        accuracies.append(accuracy.mean(0))
        confidences.append(confidence.mean(0))
    for key, batches in ((order, accuracies), (f"{order}(conf)", confidences)):
        curve = torch.stack(batches).mean(0)  # the original averages batches, whatever their sizes
        expected = arrays[f"{imputation}/{key}"].double()
        exact = 1e-6 if key == order else 1e-4
        torch.testing.assert_close(curve, expected[:4], atol=exact, rtol=0)
        torch.testing.assert_close(summary(curve[None])[0], expected[4], atol=exact, rtol=0)


@pytest.mark.parametrize("case", [0, 1, 2, 3, 6])
def test_telea_is_the_originals(case):
    arrays = Arrays("imputers")
    ours = telea_imputation(arrays[f"{case}/image"][None], arrays[f"{case}/mask_1keep_0remove"][None] > 0.5)[0]
    assert (ours - arrays[f"{case}/ptame_telea"]).abs().max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize(
    ("case", "share"), [(case, share) for case in range(3) for share in (0.1, 0.15, 0.3, 0.5, 0.7, 0.85, 0.9)]
)
def test_the_originals_thresholds_with_ties(case, share):
    arrays = Arrays("imputers")
    maps = arrays[f"thr{case}/masks"][:, 0]
    for order in ("MoRF", "LeRF"):
        expected = arrays[f"thr{case}/{order.lower()}_keep_{share}"]
        assert known_pixels(maps, share, order, official=True).equal(expected[:, 0])


def test_exactly_the_share_is_removed_in_order():
    maps = torch.arange(20.0).view(1, 4, 5)
    assert (~known_pixels(maps, 0.3, "MoRF")).flatten().nonzero().flatten().tolist() == list(range(14, 20))
    assert (~known_pixels(maps, 0.3, "LeRF")).flatten().nonzero().flatten().tolist() == list(range(6))
    assert known_pixels(maps, 0, "MoRF").all()
    assert not known_pixels(maps, 1, "LeRF").any()


def test_ties_are_broken_by_the_seed_and_not_by_place():
    flat = torch.zeros(2, 30, 30)
    removed = ~known_pixels(flat, 0.5, "MoRF", seed=3)
    assert removed.flatten(1).sum(1).tolist() == [450, 450]
    assert removed[0].equal(removed[1])  # an image's own result does not depend on its batch
    assert 150 < removed[0, :15].sum() < 300  # neither the upper half alone nor the lower
    assert not removed.equal(~known_pixels(flat, 0.5, "MoRF", seed=4))


class LeftHalf(nn.Module):
    """Class 1 if the left half is bright, else class 0."""

    def forward(self, x):
        bright = 40 * (x[..., : x.shape[-1] // 2].mean((1, 2, 3)) - 0.5)
        return torch.stack([-bright, bright], 1)


def test_a_classifier_of_known_evidence():
    """Removing the half that is looked at changes the decision; removing the other does not."""
    pixels = torch.zeros(2, 3, 16, 16)
    pixels[..., :8] = 1
    right_map = torch.zeros(2, 16, 16)
    right_map[..., :8] = 1
    targets = torch.tensor([1, 1])
    darkened = lambda pixels, known: pixels * known[:, None]  # noqa: E731
    for order, maps, kept in (
        ("MoRF", right_map, 0.0),
        ("MoRF", 1 - right_map, 1.0),
        ("LeRF", right_map, 1.0),
        ("LeRF", 1 - right_map, 0.0),
    ):
        accuracy, confidence = road(LeftHalf(), pixels, targets, maps, order, (0.45,), darkened)
        assert accuracy.tolist() == [[kept], [kept]], (order, kept)
        assert ((confidence > 0.5).double() == accuracy).all()


def test_a_batch_is_its_images():
    generator = torch.Generator().manual_seed(0)
    pixels, maps = torch.rand(3, 3, 32, 32, generator=generator), torch.rand(3, 8, 8, generator=generator)
    targets = torch.tensor([0, 1, 1])
    whole = road(LeftHalf(), pixels, targets, maps, "MoRF", impute=without_noise)
    for i in range(3):
        alone = road(LeftHalf(), pixels[i : i + 1], targets[i : i + 1], maps[i : i + 1], "MoRF", impute=without_noise)
        torch.testing.assert_close(whole[1][i], alone[1][0], atol=1e-4, rtol=0)


def test_summary_by_hand():
    assert summary(torch.tensor([[1.0, 1.0, 1.0, 1.0]])).item() == pytest.approx(0.7 + 0.3 / 2)
    assert summary(torch.tensor([[0.0, 0.0, 0.0, 0.0]])).item() == pytest.approx(0.1 / 2)


# name: (the check, (where, what is replaced, by what))
FAULTS = {
    "least relevant pixels go first": (
        test_exactly_the_share_is_removed_in_order,
        (sys.modules[known_pixels.__module__], "ranked", lambda maps, seed: ranked(maps, seed=seed).flip(1)),
    ),
    "a curve without its ends": (
        test_summary_by_hand,
        (sys.modules[__name__], "summary", lambda values, shares=SHARES: values.mean(1)),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    assert_caught(monkeypatch, *FAULTS[fault])
