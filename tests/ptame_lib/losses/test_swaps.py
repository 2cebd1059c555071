"""The swap loss: masks of matched area, whole swaps, its terms."""

import pytest
import torch
import torch.nn.functional as F
from helpers import rand

from ptame_lib.losses.swaps import LARGEST, SMALLEST, TEMPERATURE, draw_areas, matched_masks, swap, swap_loss


def test_hard_masks_have_the_wanted_areas_and_keep_what_is_first():
    maps, areas = rand(3, 20, 20), torch.tensor([0.05, 0.5, 0.9])
    masks = matched_masks(maps, areas, softness=1e-3)
    assert masks.mean((1, 2)).sub(areas).abs().max() < 0.01
    for one, mask in zip(maps, masks > 0.5, strict=True):
        assert one[mask].min() > one[~mask].max()


def test_scale_and_shift_of_a_map_do_not_matter():
    maps, areas = rand(3, 8, 8), torch.full((3,), 0.3)
    torch.testing.assert_close(matched_masks(7 * maps - 3, areas), matched_masks(maps, areas), rtol=0, atol=2e-3)


def test_a_constant_map_gives_no_infinities():
    maps = torch.ones(2, 4, 4, requires_grad=True)
    masks = matched_masks(maps, torch.tensor([0.1, 0.9]))
    masks.sum().backward()
    assert masks.isfinite().all()
    assert maps.grad.isfinite().all()


def test_areas_are_spread_over_the_whole_range():
    areas = draw_areas(4000, torch.Generator().manual_seed(0))
    assert SMALLEST <= areas.min() < SMALLEST + 0.001
    assert LARGEST - 0.01 < areas.max() <= LARGEST
    middle = torch.tensor([SMALLEST, LARGEST]).logit().mean().sigmoid()
    assert (areas < middle).float().mean() == pytest.approx(0.5, abs=0.03)


def test_swaps_of_all_and_of_nothing():
    pixels, others = rand(2, 3, 4, 4, seed=1), rand(2, 3, 4, 4, seed=2)
    kept, pasted = swap(pixels, others, torch.ones(2, 4, 4))
    assert kept.equal(pixels)
    assert pasted.equal(others)
    kept, pasted = swap(pixels, others, torch.zeros(2, 4, 4))
    assert kept.equal(others)
    assert pasted.equal(pixels)


def test_the_loss_is_the_sum_of_two_cross_entropies():
    kept, pasted = rand(4, 5), rand(4, 5, seed=1)
    targets, others = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 0, 0, 1])
    loss = swap_loss(kept, pasted, targets, others)
    assert loss.kept == F.cross_entropy(kept / TEMPERATURE, targets)
    assert loss.pasted == F.cross_entropy(pasted / TEMPERATURE, others)
    assert loss.total == loss.kept + loss.pasted


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"targets \(3,\)"):
        swap_loss(rand(4, 5), rand(4, 5), torch.zeros(3, dtype=torch.long), torch.zeros(4, dtype=torch.long))
