"""Metrics on constant maps, which must be finite, and on values that are refused."""

import numpy as np
import pytest
import torch
from helpers import rand
from refusals import MAPS, NAN, PIXELS, TARGETS, TRUTH, assert_answer, refused, toy_classifier

from ptame_lib import normalise
from ptame_lib.metrics import (
    average_drop,
    average_gain,
    average_precision,
    energy_pointing_game,
    insertion,
    iou,
    known_pixels,
    masked_confidence,
    mean_f1,
    pointing_game,
    sparseness,
)
from ptame_lib.metrics.curves import blurred
from ptame_lib.metrics.road import summary
from ptame_lib.metrics.sanity import similarity
from ptame_lib.metrics.statistics import bootstrap_interval, paired_permutation_test
from ptame_lib.metrics.suite import measure

FLAT = torch.full((2, 4, 4), 0.3)


def unmoved(found):
    return all(value.isfinite().all() for value in found.values())


# name: (what is done, what must come of it)
CONSTANT = {
    "a constant map is normalised to 0": (lambda: normalise(FLAT), lambda found: not found.any()),
    "a constant map keeps nothing": (
        lambda: masked_confidence(toy_classifier(), PIXELS, TARGETS, FLAT),
        lambda q: torch.allclose(q, q.new_tensor(1 / 3)),
    ),
    "every metric of a constant map is finite": (
        lambda: measure(toy_classifier(), PIXELS, TARGETS, FLAT, TRUTH),
        unmoved,
    ),
    "every metric of a map of 0": (lambda: measure(toy_classifier(), PIXELS, TARGETS, 0 * FLAT, TRUTH), unmoved),
    "a constant map points by chance": (
        lambda: pointing_game(FLAT, TRUTH),
        lambda found: torch.allclose(found, TRUTH.float().mean((1, 2))),
    ),
    "a constant map's energy is the truth's share": (
        lambda: energy_pointing_game(FLAT, TRUTH),
        lambda found: torch.allclose(found, TRUTH.float().mean((1, 2))),
    ),
    "a constant map ranks by chance": (
        lambda: average_precision(FLAT, TRUTH),
        lambda found: torch.allclose(found, TRUTH.float().mean((1, 2))),
    ),
    "a constant map is not sparse": (lambda: sparseness(FLAT), lambda found: not found.any()),
    "a constant map loses exactly the share": (
        lambda: known_pixels(FLAT, 0.25, "MoRF"),
        lambda known: known.sum((1, 2)).tolist() == [12, 12],
    ),
    "a constant map resembles none": (lambda: similarity(FLAT, MAPS, (16, 16))[0], lambda found: not found.any()),
    "a constant mask without an object": (
        lambda: mean_f1(FLAT, torch.zeros_like(TRUTH)),
        lambda found: not found.any(),
    ),
    "IoU of two empty masks": (lambda: iou(FLAT, torch.zeros_like(TRUTH), 0.5), lambda found: found.tolist() == [1, 1]),
    "AP without a truth is NaN": (
        lambda: average_precision(MAPS, torch.zeros_like(TRUTH)),
        lambda found: found.isnan().all(),
    ),
    "the drop of a probability of 0": (
        lambda: average_drop(torch.zeros(2), torch.rand(2)),
        lambda found: found.tolist() == [0, 0],
    ),
    "the gain of a probability of 1": (
        lambda: average_gain(torch.ones(2), torch.ones(2)),
        lambda found: found.tolist() == [0, 0],
    ),
    "the interval of a constant": (
        lambda: bootstrap_interval([0.5] * 9, resamples=50),
        lambda found: found == pytest.approx((0.5, 0.5)),
    ),
}


REFUSED = {
    "a curve with other shares": (
        lambda: summary(torch.rand(2, 3)),
        refused(r"belongs to 4 shares, got \(2, 3\): pass the shares"),
    ),
    "unpaired values": (
        lambda: paired_permutation_test([1, 2], [1]),
        refused(r"paired, got shapes \(2,\) and \(1,\): take the images"),
    ),
    "NaN to resample": (lambda: bootstrap_interval([1, NAN]), refused("1 of 2 values are not finite: drop them first")),
    "nothing to resample": (lambda: bootstrap_interval([]), refused("no values to resample: give at least one image")),
    "no resamples": (
        lambda: bootstrap_interval([1.0, 2.0], resamples=0),
        refused("resamples must be a whole number of at least 1, got 0: raise it"),
    ),
    "no sign flips": (
        lambda: paired_permutation_test([1, 2], [0, 0], resamples=0),
        refused("resamples must be a whole number of at least 1, got 0: raise it"),
    ),
    "an interval of 95 instead of 0.95": (
        lambda: bootstrap_interval([1.0, 2.0], level=95),
        refused("level must be between 0 and 1, without both, got 95: 0.95 gives a 95 % interval"),
    ),
    "no steps of insertion": (
        lambda: insertion(toy_classifier(), PIXELS, TARGETS, MAPS, 0),
        refused("steps must be .* at least 1, got 0: raise it"),
    ),
    "share in percent": (lambda: known_pixels(MAPS, 50, "MoRF"), refused(r"share in \[0, 1\], got 'MoRF' and 50")),
    "unknown order": (lambda: known_pixels(MAPS, 0.5, "morf"), refused("order must be MoRF or LeRF .*, got 'morf'")),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_maps(name):
    assert_answer(*CONSTANT[name])


@pytest.mark.parametrize("name", REFUSED)
def test_bad_values(name):
    assert_answer(*REFUSED[name])


@pytest.mark.parametrize("size", [(1, 16), (16, 1), (1, 1), (2, 224), (224, 3), (16, 16)], ids=str)
def test_every_metric_of_thin_images_is_finite(size):
    """ROAD, insertion and deletion, too, whatever the images' sides."""
    pixels, maps = rand(2, 3, *size), rand(2, *size, seed=1)
    truth = torch.zeros(2, *size, dtype=torch.bool)
    truth[:, 0, 0] = True
    found = measure(toy_classifier(), pixels, TARGETS, maps, truth)
    if truth.all():
        assert found.pop("contour").isnan().all()  # the whole image has none
    assert unmoved(found)


@pytest.mark.parametrize("size", [(1, 16), (3, 100), (64, 48)], ids=str)
def test_the_blur_is_that_of_the_image_reflected_at_its_border(size):
    """By NumPy, along one side after the other; a thin image's kernel ends at its other border."""
    pixels, sigma = rand(1, 1, *size), 5 * size[1] / 224
    blur = pixels[0, 0].double().numpy()
    for axis, side in enumerate(size):
        reach = min(round(2 * sigma), side - 1)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        padded = np.pad(blur, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        blur = np.apply_along_axis(np.convolve, axis, padded, kernel / kernel.sum(), mode="valid")
    assert np.abs(blurred(pixels)[0, 0].numpy() - blur).max() < 1e-5
