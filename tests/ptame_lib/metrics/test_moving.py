"""Whether decisions move with a map's first pixels."""

import pytest
import torch
from helpers import rand
from torch import nn

from ptame_lib.metrics.moving import SHARES, moved, partners


class Corner(nn.Module):
    """Decides by which colour is brightest in the upper left 4x4 pixels."""

    def forward(self, pixels):
        return pixels[..., :4, :4].mean((2, 3))


@pytest.fixture
def images():
    """Six images whose corners are red, green and blue, and their decisions."""
    pixels = 0.1 * rand(6, 3, 16, 16)
    targets = torch.arange(6) % 3
    pixels[torch.arange(6), targets, :4, :4] = 0.9
    return pixels, targets


def test_the_decision_moves_with_what_decides_and_with_nothing_else(images):
    pixels, targets = images
    right = 0.01 * rand(6, 16, 16, seed=1)
    right[:, :4, :4] += 1
    assert moved(Corner(), pixels, right, targets).eq(1).all()
    assert moved(Corner(), pixels, 1 - right, targets).eq(0).all()
    assert moved(Corner(), pixels, right**7, targets).eq(1).all()  # no power matters


def test_without_another_decision_nothing_can_move(images):
    pixels, _ = images
    assert moved(Corner(), pixels, rand(6, 16, 16), torch.zeros(6, dtype=torch.long)).isnan().all()


def test_partners_are_the_next_of_another_class():
    assert partners(torch.tensor([1, 1, 2, 2])).tolist() == [2, 2, 0, 0]
    assert partners(torch.tensor([5])).tolist() == [-1]


def test_shares_count_alike(images):
    """A random map takes the decision along at some shares: the mean is a multiple of one share's part."""
    pixels, targets = images
    values = moved(Corner(), pixels, rand(6, 16, 16, seed=3), targets) * len(SHARES)
    assert values.equal(values.round())


def test_maps_of_another_number_are_refused(images):
    pixels, targets = images
    with pytest.raises(ValueError, match="maps"):
        moved(Corner(), pixels, rand(5, 16, 16), targets)
