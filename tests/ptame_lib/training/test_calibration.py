"""Calibration: what is enough for the decision ends up above a half, and no rank moves."""

import math

import pytest
import torch
from helpers import rand
from torch import nn

from ptame_lib import Classifier, FeatureExtractor, calibrate
from ptame_lib.explainers.lcam import LCAM
from ptame_lib.training.calibration import LIMITS

SIDE, INSIDE = 20, slice(6, 13)  # the evidence: 7 x 7 of 400 pixels, 12.25 %


class Counts(nn.Module):
    """Is sure of class 1 as soon as all of the evidence is there: its logit is steep in its red share."""

    def forward(self, x):
        share = x[:, 0, INSIDE, INSIDE].mean((1, 2))
        return torch.stack([torch.zeros_like(share), 40 * (share - 0.9)], 1)


def explainer():
    """Features that fade with the distance from the evidence's centre, brought in by the green colour."""
    net = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False))
    nn.init.zeros_(net[0].weight)
    net[0].weight.data[0, 1] = 1.0
    made = LCAM(FeatureExtractor(net, ["0"], (0.0,) * 3, (1.0,) * 3, SIDE, "green"), 2)
    nn.init.ones_(made.fuser.weight)
    return made.eval()


def images(count=5):
    """Red everywhere; green falls from the middle to the corners in squares, by ``1 - distance / 10``."""
    away = (torch.arange(SIDE) - 9.0).abs()
    distance = torch.maximum(away[:, None], away[None])  # 49 pixels are at 3 or nearer
    image = torch.stack([torch.ones(SIDE, SIDE), 1 - distance / 10, torch.zeros(SIDE, SIDE)])
    return [{"pixels": image} for _ in range(count)]


def classifier():
    return Classifier(Counts(), (0.0,) * 3, (1.0,) * 3, SIDE, num_classes=2)


def test_the_edge_of_what_is_enough_gets_a_half():
    made, data = explainer(), images()
    power = calibrate(made, classifier(), data)
    assert power == made.power
    pixels, targets = data[0]["pixels"][None], torch.tensor([1])
    maps = made.explain(pixels, targets)[0]
    # the 49 pixels and no other are above a half, whose outermost ring was at 0.7 (and a half at 81 pixels)
    assert maps[9, 12].item() == pytest.approx(0.5, abs=1e-6)
    assert (maps >= 0.5 - 1e-6).sum() == 49


def test_no_rank_moves_and_a_second_calibration_changes_nothing():
    made, data = explainer(), images()
    pixels, targets = data[0]["pixels"][None] * rand(1, 1, SIDE, SIDE), torch.tensor([1])
    before = made.explain(pixels, targets)
    power = calibrate(made, classifier(), data)
    after = made.explain(pixels, targets)
    assert power != 1
    assert before.flatten().argsort(stable=True).equal(after.flatten().argsort(stable=True))
    torch.testing.assert_close(after, before.pow(power))
    assert calibrate(made, classifier(), data) == pytest.approx(power, rel=1e-5)


def test_what_nothing_is_enough_for_stays_as_it_was():
    made, data = explainer(), [{"pixels": rand(3, SIDE, SIDE, seed=i)} for i in range(3)]

    class Whole(nn.Module):
        """Certain only of the whole image: no area keeps what it sees."""

        def forward(self, x):
            return torch.stack([x.flatten(1).mean(1) * 0, 1e3 * (x.flatten(1).mean(1) - 0.49)], 1)

    whole = Classifier(Whole(), (0.0,) * 3, (1.0,) * 3, SIDE, num_classes=2)
    bright = [{"pixels": 0.5 + 0 * item["pixels"]} for item in data]
    assert calibrate(made, whole, bright) == 1.0


def test_the_power_has_limits_and_is_saved(tmp_path):
    made = explainer()
    made.power = 2.5
    made.save(tmp_path / "e.safetensors")
    loaded = LCAM.load(tmp_path / "e.safetensors", made.auxiliary)
    pixels, targets = rand(2, 3, SIDE, SIDE), torch.tensor([0, 1])
    assert loaded.power == 2.5
    assert loaded.explain(pixels, targets).equal(made.explain(pixels, targets))
    assert LIMITS[0] <= calibrate(made, classifier(), images()) <= LIMITS[1]


@pytest.mark.parametrize("power", ["0", "-1", "nan", "inf", "many", "1e9"])
def test_a_power_that_is_none_is_refused(tmp_path, power):
    made = explainer()
    made.power = power
    made.save(tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match=r"e\.safetensors has a power of .*, not a number above 0 and up to 100"):
        LCAM.load(tmp_path / "e.safetensors", made.auxiliary)


def test_nothing_else_is_touched():
    made, seen = explainer().train(), classifier()
    weights = {key: value.clone() for key, value in made.state_dict().items()}
    state = torch.get_rng_state()
    calibrate(made, seen, images(3), batch_size=2)
    assert made.training
    assert all(value.equal(weights[key]) for key, value in made.state_dict().items())
    assert torch.get_rng_state().equal(state)


def test_the_first_images_are_enough():
    """Those after them are not even read."""
    data = [*images(5), *[None] * 4]
    assert calibrate(explainer(), classifier(), data, images=5, batch_size=2) == pytest.approx(
        calibrate(explainer(), classifier(), data[:5])
    )


@pytest.mark.parametrize(
    ("options", "data", "words"),
    [
        ({"enough": 0}, images(1), "enough must be a share"),
        ({"enough": math.nan}, images(1), "enough must be a share"),
        ({"batch_size": 0}, images(1), "batch_size"),
        ({"images": 0}, images(1), "images"),
        ({}, [], "no images to calibrate with"),
    ],
)
def test_bad_input_is_named(options, data, words):
    with pytest.raises(ValueError, match=words):
        calibrate(explainer(), classifier(), data, **options)
