"""The loss: answers worked out by hand, and properties."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import rand

from ptame_lib import PTAMEWeights, ptame_loss
from ptame_lib.losses.ptame import area_term, smoothness_term


def test_area_by_hand():
    masks = torch.tensor([0.0, 0.25, 0.75, 1.0]).view(1, 1, 2, 2)
    assert area_term(masks, 1).item() == 0.5  # the plain mean, nothing added
    expected = sum(math.sqrt(v + 0.0005) for v in (0.0, 0.25, 0.75, 1.0)) / 4
    assert area_term(masks, 0.5).item() == pytest.approx(expected, rel=1e-6)


def test_the_areas_gradient_is_finite_at_zero():
    masks = torch.zeros(1, 1, 2, 2, requires_grad=True)
    area_term(masks, 0.3).backward()
    torch.testing.assert_close(masks.grad, torch.full((1, 1, 2, 2), 0.3 * 0.0005**-0.7 / 4))


def test_a_small_power_prefers_one_full_pixel_to_many_weak_ones():
    sharp, flat = torch.zeros(1, 1, 10, 10), torch.full((1, 1, 10, 10), 0.01)
    sharp[..., 0, 0] = 1
    assert area_term(sharp, 1).item() == pytest.approx(area_term(flat, 1).item(), rel=1e-5)
    assert area_term(sharp, 0.3) < area_term(flat, 0.3) / 2


def test_smoothness_of_a_step_edge_by_hand():
    """3 x 4 pixels, the right half 1: three steps of height 1; border lines 2 top + 2 bottom + 0 left + 3 right."""
    masks = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 1, 3, 4)
    assert smoothness_term(masks, 0.0).item() == 3 / 2
    assert smoothness_term(masks, 0.3).item() == pytest.approx((3 + 0.3 * 7) / 2)


def test_a_corner_lies_on_two_border_lines():
    corner, edge, inside = (torch.zeros(1, 1, 4, 4) for _ in range(3))
    corner[..., 0, 3], edge[..., 0, 1], inside[..., 1, 1] = 1, 1, 1
    assert smoothness_term(corner, 1.0).item() == (2 + 2) / 2
    assert smoothness_term(edge, 1.0).item() == (3 + 1) / 2
    assert smoothness_term(inside, 1.0).item() == (4 + 0) / 2


def test_smoothness_takes_the_power_q():
    masks = torch.tensor([[0.0, 0.5], [0.0, 0.5]])[None, None]
    assert smoothness_term(masks, 0.0, q=2).item() == pytest.approx(2 * 0.25 / 2)
    assert smoothness_term(masks, 0.0, q=1).item() == pytest.approx(2 * 0.5 / 1)
    assert smoothness_term(masks, 1.0, q=1).item() == pytest.approx(2 * 0.5 + 0.5 + 0.5 + 0 + 1)


def test_smoothness_is_a_sum_over_maps_divided_by_the_batch():
    masks = rand(2, 3, 6, 5)
    each = [smoothness_term(masks[b : b + 1, n : n + 1], 0.3) for b in range(2) for n in range(3)]
    torch.testing.assert_close(smoothness_term(masks, 0.3), torch.stack(each).sum() / 2)
    torch.testing.assert_close(smoothness_term(masks.repeat(4, 1, 1, 1), 0.3), smoothness_term(masks, 0.3))


def test_smoothness_properties():
    masks = rand(1, 2, 6, 6)
    assert smoothness_term(torch.full((1, 2, 6, 6), 0.4), 0.0) == 0
    for same in (masks.flip(-1), masks.flip(-2), masks.transpose(-1, -2)):
        torch.testing.assert_close(smoothness_term(same, 0.3), smoothness_term(masks, 0.3))
    torch.testing.assert_close(smoothness_term(3 * masks, 0.3), 9 * smoothness_term(masks, 0.3))


def test_the_total_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    targets = torch.tensor([0, 1])  # -log(1/2), -log(1/4)
    masks = torch.full((2, 2, 2, 2), 0.5)
    loss = ptame_loss(logits, targets, masks, PTAMEWeights(ce=2.0, area=3.0, smooth=5.0, border=0.5, p=1))
    ce, smooth = (math.log(2) + math.log(4)) / 2, 0.5 * 4 * 8 * 0.25 / (2 * 2)
    assert [v.item() for v in loss] == pytest.approx([2 * ce + 3 * 0.5 + 5 * smooth, ce, 0.5, smooth])


def test_terms_of_weight_zero():
    logits, masks = rand(3, 4), rand(3, 3, 5, 5)
    targets = torch.tensor([0, 3, 1])
    loss = ptame_loss(logits, targets, masks, PTAMEWeights(ce=0.0, area=1.0, smooth=0.0))
    torch.testing.assert_close(loss.ce, F.cross_entropy(logits, targets))  # reported, though it weighs nothing
    assert loss.smooth == 0
    torch.testing.assert_close(loss.total, loss.area)


def test_it_is_computed_in_float32():
    logits, masks = rand(2, 4).bfloat16(), rand(2, 2, 4, 4).bfloat16()
    assert all(v.dtype == torch.float32 for v in ptame_loss(logits, torch.tensor([0, 1]), masks))


def test_the_maps_of_other_images_targets_are_pressed_down_too():
    masks = rand(2, 2, 4, 4).requires_grad_()
    ptame_loss(rand(2, 3), torch.tensor([0, 1]), masks).total.backward()
    assert masks.grad[0, 1].abs().min() > 0
    assert masks.grad[1, 0].abs().min() > 0


def test_distinct_classes_with_their_counts_are_the_maps_of_all_targets():
    targets, weights = torch.tensor([2, 0, 2, 2]), PTAMEWeights(p=0.5, smooth=0.3)
    distinct, which, counts = targets.unique(return_inverse=True, return_counts=True)
    once = rand(4, len(distinct), 5, 6).requires_grad_()
    for w in (weights, PTAMEWeights(p=1, q=1.5, smooth=0.3)):
        short, whole = (
            ptame_loss(rand(4, 3), targets, once, w, counts),
            ptame_loss(rand(4, 3), targets, once[:, which], w),
        )
        torch.testing.assert_close(tuple(short), tuple(whole))
        gradients = [torch.autograd.grad(loss.total, once)[0] for loss in (short, whole)]
        torch.testing.assert_close(*gradients)
    with pytest.raises(ValueError, match=r"one count per class: got \(3,\) counts for 2 maps"):
        ptame_loss(rand(4, 3), targets, once, weights, torch.ones(3))


@pytest.mark.parametrize(("logits", "targets", "masks"), [(3, 2, 2), (2, 2, 3), (2, 3, 2)])
def test_batch_sizes_that_differ_are_refused(logits, targets, masks):
    with pytest.raises(ValueError, match=f"logits {logits}, targets {targets}, masks {masks}"):
        ptame_loss(torch.zeros(logits, 4), torch.zeros(targets, dtype=torch.long), torch.zeros(masks, 2, 4, 4))


def test_the_defaults_are_the_authors():
    assert PTAMEWeights() == PTAMEWeights(ce=1.5, area=2.0, smooth=0.01, border=0.3, p=0.3, q=2.0)


def test_gradients_of_the_written_out_terms():
    masks = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: area_term(m, 0.3), masks)
    assert torch.autograd.gradcheck(lambda m: smoothness_term(m, 0.3), masks)
    dx, dy = masks[..., 1:] - masks[..., :-1], masks[..., 1:, :] - masks[..., :-1, :]
    torch.testing.assert_close(smoothness_term(masks, 0.0), (dx.square().sum() + dy.square().sum()) / 4)
    torch.testing.assert_close(area_term(masks, 0.3), (masks + 0.0005).pow(0.3).mean())
