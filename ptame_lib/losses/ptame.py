"""P-TAME's loss as a pure function with named terms."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..validation import check_targets, check_weights


@dataclass(frozen=True)
class PTAMEWeights:
    """Weights of P-TAME's loss, with the authors' defaults.

    Raises ValueError for a negative weight, or a power of 0 or less.

    ``border`` weighs the border lines inside the smoothness term, ``p`` is the power of the area term, ``q`` that of
    the smoothness term.
    """

    ce: float = 1.5
    area: float = 2.0
    smooth: float = 0.01
    border: float = 0.3
    p: float = 0.3
    q: float = 2.0

    def __post_init__(self) -> None:
        check_weights(asdict(self), powers="p q")


class PTAMELoss(NamedTuple):
    """The total and its terms, unweighted; ``total = w.ce * ce + w.area * area + w.smooth * smooth``.

    ``smooth`` is not computed and is 0 if its weight is 0.
    """

    total: Tensor
    ce: Tensor
    area: Tensor
    smooth: Tensor


def ptame_loss(
    masked_logits: Tensor,
    targets: Tensor,
    masks: Tensor,
    weights: PTAMEWeights = PTAMEWeights(),
    counts: Tensor | None = None,
) -> PTAMELoss:
    """P-TAME's training loss (P-TAME, equations of section III; no labels are used).

    ``masked_logits`` (B,K): the classifier's answer to the masked images; ``targets`` (B,): its decisions on the whole
    images; ``masks`` (B,n,h,w) in [0,1]: for every image the maps of all targets of the batch (n = B), so that a
    class's map is also pressed to be empty on images of other classes. With ``counts`` (n,), how many targets of the
    batch are of each class, they are the maps of the distinct classes instead: the same loss for less work. Raises
    ValueError for shapes that don't match and targets that are not classes.
    """
    # check the inputs
    if masked_logits.shape[0] != targets.shape[0] or masks.shape[0] != targets.shape[0]:
        raise ValueError(
            f"batch sizes differ: logits {masked_logits.shape[0]}, targets {targets.shape[0]}, masks {masks.shape[0]}"
        )
    if masks.ndim != 4:
        raise ValueError(f"masks must be (B,n,h,w), the maps of n classes for every image, got {tuple(masks.shape)}")
    if counts is not None and counts.shape != masks.shape[1:2]:
        raise ValueError(f"one count per class: got {tuple(counts.shape)} counts for {masks.shape[1]} maps per image")
    check_targets(targets, *masked_logits.shape)

    # the terms, in float32
    masks = masks.float()
    counts = masks.new_ones(masks.shape[1]) if counts is None else counts.to(masks.dtype)
    ce = F.cross_entropy(masked_logits.float(), targets)
    area = area_term(masks, weights.p, counts)
    smooth = smoothness_term(masks, weights.border, weights.q, counts) if weights.smooth else ce.new_zeros(())
    return PTAMELoss(weights.ce * ce + weights.area * area + weights.smooth * smooth, ce, area, smooth)


def area_term(masks: Tensor, p: float, counts: Tensor | None = None) -> Tensor:
    """mean((M + 0.0005)^p) of masks (B,n,h,w); for p = 1 the plain mean.

    The constant keeps the gradient finite at 0.

    ``counts`` (n,), float: how often each class counts in the mean; None: once.
    """
    counts = masks.new_ones(masks.shape[1]) if counts is None else counts
    share = counts / (counts.sum() * (masks.numel() // masks.shape[1]))  # (n,): of one value of each class
    return torch.einsum("bnhw,n->", masks, share) if p == 1 else _PowerSum.apply(masks + 0.0005, p, share)


def smoothness_term(masks: Tensor, border: float, q: float = 2.0, counts: Tensor | None = None) -> Tensor:
    """(sum |dx|^q + sum |dy|^q + border * sum of the border lines^q) / (q B): sums, not means.

    ``masks`` (B,n,h,w); ``counts`` (n,), float: how often each class counts in the sums; None: once. A corner lies on
    two border lines and counts twice.
    """
    counts = masks.new_ones(masks.shape[1]) if counts is None else counts
    if q == 2:  # the published power
        differences = _SquaredDifferences.apply(masks, counts)
    else:
        differences = sum(masks.diff(dim=axis).abs().pow(q).sum((0, 2, 3)) for axis in (-1, -2)) @ counts
    lines = (masks[..., 0, :], masks[..., -1, :], masks[..., :, 0], masks[..., :, -1])  # 4 x (B,n,h or w)
    frame = border * torch.stack([line.pow(q).sum((0, 2)) for line in lines]).sum(0) @ counts if border else 0.0
    return (differences + frame) / (q * masks.shape[0])


# The two terms below run over B x n maps at every step. With their gradients written out they take half the time and
# memory of what autograd makes of the formulas.


class _PowerSum(torch.autograd.Function):
    """Sum of share x^p over x (B,n,h,w) > 0, with a share (n,) per class, and its gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, p: float, share: Tensor) -> Tensor:
        power = x.pow(p)
        ctx.save_for_backward(x, power, share)
        ctx.p = p
        return power.sum((0, 2, 3)) @ share

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        x, power, share = ctx.saved_tensors
        return (power / x).mul_((grad * ctx.p * share)[:, None, None]), None, None


class _SquaredDifferences(torch.autograd.Function):
    """Sum over classes of their count (n,) times the squared differences of neighbours in x (B,n,h,w)."""

    @staticmethod
    def forward(ctx, x: Tensor, counts: Tensor) -> Tensor:
        ctx.save_for_backward(x, counts)
        return (x.diff(dim=-1).square_().sum((0, 2, 3)) + x.diff(dim=-2).square_().sum((0, 2, 3))) @ counts

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        x, counts = ctx.saved_tensors
        result = torch.zeros_like(x)
        for axis in (-1, -2):
            difference, last = x.diff(dim=axis), x.shape[axis] - 1
            result.narrow(axis, 1, last).add_(difference)
            result.narrow(axis, 0, last).sub_(difference)
        return result.mul_((2 * grad * counts)[:, None, None]), None
