"""Masking and maps: answers worked out by hand, and properties."""

import pytest
import torch
from helpers import rand

from ptame_lib import keep, keep_share, normalise, remove, resize
from ptame_lib.masking import blend


def test_normalise_by_hand():
    maps = torch.tensor([[[-2.0, 0.0], [2.0, 6.0]], [[10.0, 10.0], [10.0, 30.0]]])
    expected = torch.tensor([[[0.0, 0.25], [0.5, 1.0]], [[0.0, 0.0], [0.0, 1.0]]])
    assert normalise(maps).equal(expected)


def test_a_constant_map_becomes_zero_and_a_nearly_constant_one_stays_finite():
    assert normalise(torch.full((1, 3, 3), 7.0)).equal(torch.zeros(1, 3, 3))
    nearly = torch.zeros(1, 2, 2)
    nearly[0, 0, 0] = 1e-10  # below the clamp: 1e-10 / 1e-8
    torch.testing.assert_close(normalise(nearly)[0, 0, 0], torch.tensor(0.01))


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 3, 4, 4), (6, 6)])
def test_normalise_properties(shape):
    maps = rand(*shape) * 40 - 20
    found = normalise(maps)
    assert found.amin((-2, -1)).eq(0).all()
    assert found.amax((-2, -1)).eq(1).all()
    torch.testing.assert_close(normalise(found), found)  # doing it twice changes nothing
    torch.testing.assert_close(normalise(3 * maps + 5), found)  # nor do scale and offset
    assert found.flatten(-2).argsort(-1).equal(maps.flatten(-2).argsort(-1))


def test_normalise_works_in_float32_whatever_comes():
    low = rand(1, 8, 8).bfloat16()
    assert normalise(low).dtype == torch.float32
    assert normalise(low).equal(normalise(low.float()))


def test_resize_by_hand():
    """align_corners=False: doubling [0, 4] puts the new centres at quarters of the way, the ends stay."""
    assert resize(torch.tensor([[[0.0, 4.0]]]), (1, 4)).equal(torch.tensor([[[0.0, 1.0, 3.0, 4.0]]]))
    maps = rand(2, 5, 5)
    assert resize(maps, (5, 5)) is maps


def test_resize_keeps_range_and_constants():
    maps = rand(3, 7, 5)
    larger = resize(maps, (23, 16))
    assert larger.shape == (3, 23, 16)
    assert larger.min() >= maps.min()
    assert larger.max() <= maps.max()
    torch.testing.assert_close(resize(torch.full((1, 4, 4), 0.3), (9, 13)), torch.full((1, 9, 13), 0.3))


def test_keep_and_remove_by_hand():
    pixels = torch.stack([torch.full((2, 2), v) for v in (0.2, 0.4, 1.0)])[None]
    masks = torch.tensor([[[1.0, 0.5], [0.0, 0.25]]])
    torch.testing.assert_close(keep(pixels, masks)[0, 1], torch.tensor([[0.4, 0.2], [0.0, 0.1]]))
    torch.testing.assert_close(remove(pixels, masks)[0, 2], torch.tensor([[0.0, 0.5], [1.0, 0.75]]))


def test_keep_and_remove_complement_each_other():
    pixels, masks = rand(2, 3, 12, 10), rand(2, 5, 4, seed=1)
    torch.testing.assert_close(keep(pixels, masks) + remove(pixels, masks), pixels)
    assert keep(pixels, torch.ones(2, 3, 3)).equal(pixels)
    assert keep(pixels, torch.zeros(2, 3, 3)).eq(0).all()
    assert remove(pixels, torch.zeros(2, 3, 3)).equal(pixels)


def test_keep_passes_gradients_to_the_masks():
    masks = rand(1, 4, 4).requires_grad_()
    keep(torch.ones(1, 3, 8, 8), masks).sum().backward()
    torch.testing.assert_close(
        masks.grad, torch.full((1, 4, 4), 12.0)
    )  # 3 channels x 4 pixels each: a bilinear step shares out, it adds nothing


def test_keep_share_by_hand():
    maps = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]])
    assert keep_share(maps, 1.0) is maps
    assert keep_share(maps, 0.5).equal(torch.tensor([[[0.0, 0.0], [0.3, 0.4]]]))  # k = 2: threshold 0.2
    assert keep_share(maps, 0.25).equal(torch.tensor([[[0.0, 0.0], [0.0, 0.4]]]))
    assert keep_share(maps, 0.15).equal(torch.tensor([[[0.0, 0.0], [0.0, 0.4]]]))  # k = int(3.4) = 3
    assert keep_share(maps, 0.9).equal(maps)  # k = int(0.4) = 0: nothing goes


def test_values_tied_with_the_threshold_all_go():
    maps = torch.tensor([[[0.5, 0.5], [0.5, 0.9]]])
    assert keep_share(maps, 0.75).equal(
        torch.tensor([[[0.0, 0.0], [0.0, 0.9]]])
    )  # 3 could stay, the ties take them along
    assert keep_share(torch.full((1, 4, 4), 0.7), 0.5).eq(0).all()  # a constant map keeps nothing


def test_keep_share_treats_each_map_by_itself():
    maps = torch.stack([rand(10, 10), 100 + rand(10, 10, seed=1)])
    for share in (0.15, 0.5, 0.85):
        kept = keep_share(maps, share)
        assert (kept > 0).flatten(1).sum(1).tolist() == [100 - int(100 * (1 - share))] * 2
        assert kept[kept > 0].equal(maps[kept > 0])  # soft values
        for one, whole in zip(kept, maps, strict=True):
            assert whole[one > 0].min() > whole[one == 0].max()


@pytest.mark.parametrize("share", [0, -0.1, 1.01, 15, float("nan")])
def test_keep_share_refuses_other_shares(share):
    with pytest.raises(ValueError, match="share must be in"):
        keep_share(torch.zeros(1, 2, 2), share)


def test_blending_is_masking_the_normalised_image():
    pixels, masks = (
        torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]]),
    )
    mean, std = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1), torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    found = blend(pixels, masks, mean)
    torch.testing.assert_close((found - mean) / std, keep((pixels - mean) / std, masks))
    assert found[0, :, :, -1].equal(mean[0, :, :, 0].expand(3, 6))
    torch.testing.assert_close(blend(pixels, masks, torch.zeros(1, 3, 1, 1)), keep(pixels, masks))
