"""Masks of matched area, and metrics by rank: slow straightforward versions, and what no power of a map may change."""

import math

import numpy as np
import pytest
import torch
from helpers import Brightness, rand
from refusals import NAN
from scipy.stats import rankdata

from ptame_lib.metrics import (
    average_precision,
    average_ranks,
    contour,
    matched_confidence,
    matched_mask,
    pointing_game,
    precision_at_truth,
)
from ptame_lib.metrics.curves import blurred
from ptame_lib.metrics.matched import AREAS
from ptame_lib.metrics.suite import BY_RANK, MATCHED, METRICS, measure

TIED = torch.tensor([[[1.0, 1.0], [0.0, 1.0]], [[4.0, 4.0], [4.0, 4.0]], [[0.0, 0.1], [0.2, 0.3]]])


def kinds(side=16):
    """Maps without ties, with many, of few values, of one, and of one bright pixel."""
    one = torch.zeros(side, side)
    one[3, 5] = 1
    noise = rand(side, side)
    return torch.stack([noise, (6 * noise).round(), (noise > 0.9).float(), torch.full_like(noise, 0.3), one])


def by_bisection(ranks, area):
    """g of mean(ranks^g) = area, in float64, by halving an interval of its logarithm."""
    low, high = -50.0, 50.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean(ranks ** math.exp(middle)) > area else (low, middle)
    return math.exp(low)


def test_ranks_are_scipys():
    maps = kinds()
    expected = (rankdata(maps.flatten(1).numpy(), axis=1) - 0.5) / 256
    assert np.array_equal(average_ranks(maps).flatten(1).numpy(), expected)


@pytest.mark.parametrize("area", [0.9, *AREAS, 0.001])
def test_masks_are_those_of_a_bisection(area):
    maps = kinds()
    masks = matched_mask(maps, area)
    for one, mask in zip(maps, masks, strict=True):
        ranks = (rankdata(one.flatten().numpy()) - 0.5) / 256
        assert np.allclose(mask.flatten().numpy(), ranks ** by_bisection(ranks, area), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(masks.double().mean((1, 2)), torch.full((5,), area).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(masks[3], torch.full((16, 16), area))  # a constant map gives a constant mask


def test_a_mask_by_hand():
    """Two pixels have the ranks 1/4 and 3/4: with g = 1 they keep a half, with g = 2 they keep 5/16."""
    two = torch.tensor([[[7.0, -3.0]]])
    assert matched_mask(two, 0.5)[0, 0].tolist() == pytest.approx([0.75, 0.25])
    assert matched_mask(two, 5 / 16)[0, 0].tolist() == pytest.approx([9 / 16, 1 / 16])


@pytest.mark.parametrize("area", [1e-9, 1e-4, 1 - 1e-6])
def test_areas_that_are_hardly_possible(area):
    for maps in (kinds(), rand(2, 1, 1), rand(2, 1, 300)):
        masks = matched_mask(maps, area)
        assert masks.double().mean((1, 2)).tolist() == pytest.approx([area] * len(maps), rel=1e-6)


def test_masks_do_not_depend_on_their_batch():
    assert matched_mask(kinds(), 0.25).equal(torch.cat([matched_mask(one[None], 0.25) for one in kinds()]))


@pytest.mark.parametrize("area", [0, 1, 25, NAN])
def test_areas_that_are_refused(area):
    with pytest.raises(ValueError, match=f"between 0 and 1, without both, got {area}: 0.25 keeps a quarter"):
        matched_mask(kinds(), area)


def test_maps_that_are_refused():
    for call in (
        lambda maps: average_ranks(maps),
        lambda maps: matched_mask(maps, 0.5),
        lambda maps: matched_confidence(Brightness(), torch.ones(5, 3, 4, 4), torch.zeros(5).long(), maps, 0.5),
        lambda maps: precision_at_truth(maps, maps > 0),
        lambda maps: contour(maps, maps > 0),
    ):
        with pytest.raises(ValueError, match="map 4 has values that are not finite"):
            call(torch.where(kinds() == 1, NAN, kinds()).flip(0)[[1, 1, 1, 1, 0]])


def test_confidence_by_hand():
    """Whatever the map, a mask of a quarter leaves a white image's mean brightness at 1/4; grey elsewhere: at 5/8."""
    white, targets = torch.ones(5, 3, 16, 16), torch.zeros(5, dtype=torch.long)
    found = matched_confidence(Brightness(), white, targets, kinds(), 0.25)
    assert found.tolist() == pytest.approx([1 / (1 + 3**-0.25)] * 5, abs=1e-6)
    found = matched_confidence(Brightness(), white, targets, kinds(), 0.25, white / 2)
    assert found.tolist() == pytest.approx([1 / (1 + 3**-0.625)] * 5, abs=1e-6)


# ---------------------------------------------------------------------------------------------------------- invariance

CHANGES = {
    "squared": torch.square,
    "log": torch.log,
    "root": lambda maps: maps**0.25,
    "ranks": lambda maps: average_ranks(maps).float(),
    "steps between": lambda maps: 7 * maps - 3,
}


def of_rank(side=32):
    """What every metric by rank says about maps (3,side,side), without ties and with many."""
    n = side * side
    generator = torch.Generator().manual_seed(3)
    maps = torch.stack([(1 + torch.randperm(n, generator=generator)) / n for _ in range(3)]).view(3, side, side)
    maps[1] = (8 * maps[1]).ceil() / 8
    maps[2] = (maps[2] > 0.5).float() / 2 + 0.25
    truth = torch.zeros(3, side, side, dtype=torch.bool)
    truth[:, 5:20, 8:22] = True
    return maps, rand(3, 3, side, side, seed=1), truth


@pytest.mark.parametrize("name", CHANGES)
def test_a_rising_change_of_the_map_changes_nothing(name):
    """Of the matched masks, ROAD, insertion, deletion and the order's place in the truth, at the image's size."""
    maps, pixels, truth = of_rank()
    by_rank = [column.format(drop) for column in MATCHED for drop in ("AD", "IC", "AG")]
    by_rank += [column for column in METRICS if "RF " in column] + ["insertion", "deletion", *BY_RANK]
    assert {name for name, metric in METRICS.items() if metric.main and not metric.published} <= {*by_rank}
    targets = torch.zeros(3, dtype=torch.long)
    before, after = (
        measure(Brightness(), pixels, targets, shown, truth) for shown in (maps, CHANGES[name](maps).float())
    )
    for column in by_rank:
        torch.testing.assert_close(after[column], before[column], rtol=0, atol=1e-9, msg=column)


def test_the_published_metrics_do_move():
    maps, pixels, truth = of_rank()
    targets = torch.zeros(3, dtype=torch.long)
    before, after = (
        measure(Brightness(), pixels, targets, shown, truth, curves=False) for shown in (maps, maps.square())
    )
    published = [name for name, metric in METRICS.items() if metric.published and name in before]
    moved = [column for column in published if (after[column][0] - before[column][0]).abs() > 0.1]
    assert {"AD100", "AD50", "AD15", "energy", "sparseness", "saliency"} <= set(moved)


def test_a_blur_is_the_other_fill():
    maps, pixels, _ = of_rank()
    targets = torch.zeros(3, dtype=torch.long)
    found = measure(Brightness(), pixels, targets, maps, curves=False)
    p = 1 / (1 + 3 ** -pixels.double().mean((1, 2, 3)))
    mask = matched_mask(maps, 0.1)[:, None]
    q = 1 / (1 + 3 ** -(blurred(pixels) * (1 - mask) + pixels * mask).double().mean((1, 2, 3)))
    torch.testing.assert_close(found["AD@10 blurred"], 100 * ((p - q) / p).clamp_min(0), atol=1e-4, rtol=0)


# ----------------------------------------------------------------------------------------------- precision at the truth


def slow_precision(one, truth):
    """The mean hits over all orders of tied pixels, by the places of each run of equal values."""
    count, hits = truth.sum(), 0.0
    for value in sorted(np.unique(one), reverse=True):
        run = one == value
        places = min(max(count - (one > value).sum(), 0), run.sum())
        hits += places * (truth & run).sum() / run.sum()
    return hits / count


def test_precision_at_the_truth_is_the_slow_one():
    maps, truth = kinds(), rand(5, 16, 16, seed=2) > 0.7
    expected = [slow_precision(one.numpy(), inside.numpy()) for one, inside in zip(maps, truth, strict=True)]
    assert precision_at_truth(maps, truth).tolist() == pytest.approx(expected)


def test_precision_at_the_truth_by_hand():
    truth = torch.tensor([[[True, True], [False, False]]]).expand(3, 2, 2)
    # two of three tied pixels are inside; chance; the two highest are outside
    assert precision_at_truth(TIED, truth).tolist() == pytest.approx([2 / 3, 0.5, 0])
    assert precision_at_truth(TIED, torch.zeros_like(truth)).isnan().all()
    assert precision_at_truth(TIED, torch.ones_like(truth)).tolist() == [1, 1, 1]
    one = torch.zeros_like(truth)
    one[:, 1, 1] = True
    assert precision_at_truth(TIED, one).tolist() == pytest.approx([1 / 3, 1 / 4, 1])
    for metric in (precision_at_truth, average_precision, pointing_game):  # the truth's own pixel first
        assert metric(TIED[2:], one[2:]).tolist() == [1]
