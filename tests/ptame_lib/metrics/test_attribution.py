"""Attribution to the right evidence: by hand, by chance, and under changes that must not matter."""

import pytest
import torch
from helpers import rand

from ptame_lib.metrics import mean_relevance, right_evidence


@pytest.fixture
def masks():
    """Four quarters of 8x8 pixels, for 5 images."""
    quarters = torch.zeros(4, 8, 8, dtype=torch.bool)
    for k in range(4):
        quarters[k, 4 * (k // 2) : 4 * (k // 2) + 4, 4 * (k % 2) : 4 * (k % 2) + 4] = True
    return quarters.expand(5, -1, -1, -1)


def test_the_mean_and_not_the_sum_or_the_peak_decides(masks):
    maps = torch.zeros(5, 8, 8)
    maps[:, :4, :4] = 0.5  # the first quarter: mean 0.5
    maps[:, 7, 7] = 1.0  # the last: a peak, mean 1/16
    torch.testing.assert_close(mean_relevance(maps, masks)[0], torch.tensor([0.5, 0, 0, 1 / 16]).double())
    assert right_evidence(maps, masks, 0).eq(1).all()
    assert right_evidence(maps, masks, 3).eq(0).all()
    large = masks.clone()
    large[:, 1] = True  # the whole image: a larger sum, a smaller mean
    assert right_evidence(maps, large, 0).eq(1).all()


def test_a_map_that_is_the_mask_is_always_right_and_every_number_can_be_own(masks):
    own = torch.tensor([0, 1, 2, 3, 1])
    maps = masks[torch.arange(5), own].float()
    assert right_evidence(maps, masks, own).eq(1).all()
    assert right_evidence(maps, masks, (own + 1) % 4).eq(0).all()


def test_a_map_without_preference_gets_chance_and_the_shares_of_all_candidates_add_up(masks):
    assert right_evidence(torch.full((5, 8, 8), 0.3), masks, 2).eq(0.25).all()
    uneven = masks.clone()
    uneven[:, 0, :3] = uneven[:, 1, 1:, 5:] = False
    assert right_evidence(torch.full((5, 8, 8), 0.1), uneven, 1).eq(0.25).all()
    maps = rand(5, 8, 8)
    assert sum(right_evidence(maps, masks, k) for k in range(4)).eq(1).all()


def test_scale_and_shift_of_the_map_do_not_matter(masks):
    maps = rand(5, 8, 8)
    for changed in (3 * maps, maps + 2, 0.1 * maps - 1):
        for k in range(4):
            assert right_evidence(changed, masks, k).equal(right_evidence(maps, masks, k))


def test_small_maps_are_resized(masks):
    maps = torch.zeros(5, 2, 2)
    maps[:, 1, 0] = 1
    assert right_evidence(maps, masks, 2).eq(1).all()


def test_empty_masks_are_left_out_and_an_empty_own_is_unknown(masks):
    masks = masks.clone()
    masks[0, 0] = False
    maps = torch.ones(5, 8, 8)
    torch.testing.assert_close(right_evidence(maps, masks, 1), torch.tensor([1 / 3, 0.25, 0.25, 0.25, 0.25]).double())
    assert right_evidence(maps, masks, 0).isnan().tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("own", [-1, 4])
def test_a_number_without_a_mask_is_refused(masks, own):
    with pytest.raises(ValueError, match=f"0 to 3, got {own}"):
        right_evidence(torch.ones(5, 8, 8), masks, own)


def test_masks_of_another_shape_or_type_are_refused(masks):
    with pytest.raises(ValueError, match=r"\(B,E,H,W\)"):
        right_evidence(torch.ones(5, 8, 8), masks[:, 0], 0)
    with pytest.raises((ValueError, TypeError)):
        right_evidence(torch.ones(5, 8, 8), masks.float(), 0)
    with pytest.raises(ValueError, match="5"):
        right_evidence(torch.ones(4, 8, 8), masks, 0)
