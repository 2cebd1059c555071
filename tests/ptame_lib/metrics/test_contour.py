"""The boundary F-measure: outlines worked out by hand, and a slow version with all distances."""

import math

import numpy as np
import pytest
import torch
from helpers import rand
from scipy.ndimage import binary_erosion, distance_transform_edt

from ptame_lib.metrics import contour
from ptame_lib.metrics.contour import boundary, first_region


def square(side, top, left, size=6):
    found = torch.zeros(1, side, side, dtype=torch.bool)
    found[:, top : top + size, left : left + size] = True
    return found


def slow(maps, truth, tolerance=0.02):
    """Of maps without ties, image by image, by distance transforms."""
    found = []
    for one, wanted in zip(maps.numpy(), truth.numpy(), strict=True):
        region = one > np.sort(one, axis=None)[::-1][wanted.sum()]
        # the image's border is no boundary
        edges = [shape & ~binary_erosion(shape, border_value=1) for shape in (region, wanted)]
        reach = tolerance * math.hypot(*one.shape)
        near = [distance_transform_edt(~edge) <= reach for edge in edges]
        precision, recall = (edges[0] & near[1]).sum() / edges[0].sum(), (edges[1] & near[0]).sum() / edges[1].sum()
        found.append(2 * precision * recall / (precision + recall) if precision + recall else 0)
    return found


@pytest.mark.parametrize("size", [(24, 24), (64, 64), (40, 90)])
@pytest.mark.parametrize("tolerance", [0, 0.02, 0.1])
def test_contour_is_the_slow_one(size, tolerance):
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in size), indexing="ij")
    truth = torch.stack([(y - 0.1) ** 2 + x**2 < 0.3, y.abs() + x.abs() < 0.6, y + 0.3 * x > 0.2])
    maps = -(y**2) - (x - 0.15) ** 2 + 0.2 * rand(3, *size)
    assert contour(maps, truth, tolerance).tolist() == pytest.approx(slow(maps, truth, tolerance))


def test_boundaries_by_hand():
    assert boundary(square(10, 2, 2)).sum() == 20  # 36 pixels without the inner 16
    assert boundary(square(10, 0, 0)).sum() == 11  # of a corner, two sides are the image's border
    assert not boundary(torch.ones(1, 4, 4, dtype=torch.bool)).any()


def test_contours_by_hand():
    """Within 1.8 pixels at 64 x 64: a shift by one pixel is none, one by 30 shares nothing."""
    truth = square(64, 20, 20)
    assert contour(truth.float(), truth).tolist() == [1]
    assert contour(square(64, 20, 21).float(), truth).tolist() == [1]
    assert contour(square(64, 50, 50).float(), truth).tolist() == [0]
    assert contour(square(64, 20, 21).float(), truth, 0).item() == pytest.approx(0.5)  # 10 of 20 pixels, both ways


def test_ties_are_all_in_or_all_out():
    """Whichever comes nearer to the size: no contour is drawn by chance."""
    maps = torch.tensor([[[3.0, 2.0, 2.0, 2.0, 1.0]]])
    sizes = [int(first_region(maps, torch.tensor([n])).sum()) for n in range(6)]
    assert sizes == [0, 1, 1, 4, 4, 5]
    truth = square(32, 5, 5)
    assert contour(torch.zeros(1, 32, 32), truth).tolist() == [0]
    assert first_region(torch.zeros(1, 1, 2), torch.tensor([1])).all()  # as near: all in


def test_truths_without_a_contour():
    maps = rand(1, 16, 16)
    assert contour(maps, torch.zeros(1, 16, 16, dtype=torch.bool)).isnan().all()
    assert contour(maps, torch.ones(1, 16, 16, dtype=torch.bool)).isnan().all()
    one = square(16, 4, 7, size=1)
    assert contour(one.float(), one).tolist() == [1]
    with pytest.raises(ValueError, match="tolerance of a contour can't be -1: give a share"):
        contour(maps, one, -1)
