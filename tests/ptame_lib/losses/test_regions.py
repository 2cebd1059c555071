"""The region loss: what regions are like, and that the right map has the least loss."""

import pytest
import torch
from helpers import rand

from ptame_lib.losses.regions import draw_regions, moved_shares, region_loss


def drawn(pixels, times=50):
    return torch.stack([draw_regions(pixels, torch.Generator().manual_seed(seed)) for seed in range(times)])


def test_regions_depend_on_image_and_generator_alone():
    pixels = rand(3, 3, 20, 24)
    assert drawn(pixels, 4).equal(drawn(pixels.clone(), 4))
    assert not drawn(pixels, 1).equal(drawn(pixels.flip(-1), 1))


def test_a_thing_of_its_own_colour_is_often_met_alone():
    pixels = torch.full((1, 3, 32, 32), 0.1)
    pixels[:, 0, 12:20, 12:20] = 0.9
    inside = pixels[0, 0] > 0.5
    met = [bool(r[inside].all() and r[~inside].float().mean() < 0.2) for r in drawn(pixels, 200)[:, 0]]
    left_out = [bool(~r[inside].any() and r[~inside].float().mean() > 0.8) for r in drawn(pixels, 200)[:, 0]]
    assert min(sum(met), sum(left_out)) > 5


def test_regions_of_all_sizes_are_drawn_and_their_rest_as_often():
    sizes = drawn(rand(8, 3, 16, 16), 200).float().mean((2, 3)).flatten()
    assert sizes.quantile(0.05) < 0.1
    assert sizes.quantile(0.95) > 0.9
    assert sizes.mean() == pytest.approx(0.5, abs=0.05)


def test_the_share_is_what_the_region_took_along():
    whole = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.8, 0.1, 0.1]])
    targets, other = whole.argmax(1), torch.tensor([1, 0, 2])
    mixed = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    shares, told = moved_shares(mixed, whole, targets, other)
    torch.testing.assert_close(shares[:2], torch.tensor([1.0, 0.5]))
    assert told.tolist() == [True, True, False]  # the third met itself


def test_images_that_are_decided_alike_count_for_nothing():
    maps = rand(2, 4, 4).requires_grad_()
    loss = region_loss(maps, torch.rand(2, 4, 4) < 0.5, torch.zeros(2), torch.zeros(2, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert not maps.grad.any()


def test_the_map_of_what_decides_has_the_least_loss():
    # a classifier that sees the left half alone: a region takes along its share of that half
    pixels, left = rand(6, 3, 16, 16), torch.zeros(16, 16)
    left[:, :8] = 1
    regions = drawn(pixels, 40).flatten(0, 1)  # (240,16,16)
    shares = (regions * left).sum((1, 2)) / left.sum()

    def loss(one):
        return region_loss(one.expand(len(regions), -1, -1), regions, shares, torch.ones(len(regions)) > 0)

    assert loss(40 * left - 20) == pytest.approx(0, abs=1e-6)  # nearly 0 outside, flat inside
    for wrong in (1 - left, rand(16, 16), torch.eye(16), left.roll(4, 1)):
        assert loss(40 * wrong - 20) > 0.01


def test_a_constant_map_has_finite_gradients():
    maps = torch.ones(2, 4, 4, requires_grad=True)
    region_loss(maps, torch.rand(2, 8, 8) < 0.5, torch.tensor([0.2, 0.7]), torch.ones(2) > 0).backward()
    assert maps.grad.isfinite().all()
