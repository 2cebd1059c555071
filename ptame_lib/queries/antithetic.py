"""Gradients of a black box estimated from its answers to pairs of opposite changes of the mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..masking import keep, resize
from .asked import Asked


class Antithetic(Asked):
    """A black box whose Jacobian with respect to the mask is estimated from ``pairs`` of queries per image.

    A pair moves the mask by +-``step`` along a random sign pattern of ``cells`` x ``cells``, enlarged smoothly; the differences of the
    logits, times the patterns, add up to an estimate of the derivatives (Spall's simultaneous perturbation; evolution
    strategies with antithetic samples).
    """

    def __init__(self, box: nn.Module, *, pairs: int = 8, cells: int = 8, step: float = 0.25, seed: int = 0):
        super().__init__(box, seed)
        self.pairs, self.cells, self.step = pairs, cells, step

    def masked(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """The box's logits (B,K) for what the masks (B,h,w) keep of the pixels, with an estimated gradient for the masks."""
        return _Estimated.apply(masks, pixels, self)

    def slopes(self, pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Patterns (P,B,h,w) and the logits' slopes along them (P,B,K)."""
        (count, h, w), device = masks.shape, masks.device
        signs = torch.randint(0, 2, (self.pairs * count, self.cells, self.cells), generator=self.generator).float() * 2 - 1
        patterns = resize(signs.to(device), (h, w)).view(self.pairs, count, h, w)
        moved = torch.stack([masks + self.step * patterns, masks - self.step * patterns]).clamp_(0, 1)  # (2,P,B,h,w)
        images = keep(pixels.repeat(2 * self.pairs, 1, 1, 1), moved.flatten(0, 2))
        up, down = self.ask(images).unflatten(0, (2, self.pairs, count))
        return patterns, (up - down) / (2 * self.step)


class _Estimated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, masks: Tensor, pixels: Tensor, black_box: Antithetic) -> Tensor:
        ctx.cells = black_box.cells
        ctx.save_for_backward(*black_box.slopes(pixels, masks))
        return black_box.ask(keep(pixels, masks))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        patterns, slopes = ctx.saved_tensors
        along = (slopes * gradient).sum(2)  # (P,B): of the loss along each pattern
        area = patterns.shape[2] * patterns.shape[3] / ctx.cells**2  # a pattern moves this many values of the mask together
        return torch.einsum("pb,pbhw->bhw", along, patterns) / (len(patterns) * area), None, None
