"""Gradient x attention: Chefer, Gur, Wolf, "Generic Attention-model Explainability", ICCV 2021, self-attention.

Every block adds its attention, weighted by the gradient of the target's logit where that is positive and averaged over
heads, to the relevance that flows through it: R becomes R + E[(dA * A)+] R, from the identity (equations 5 and 6).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..classifiers.attention import attended
from ..validation import check_request
from .base import Explain


def gradient_attention(classifier: nn.Module) -> Explain:
    """Maps (B,h,w) in [0,1] on the grid of a vision transformer's patches.

    Costs one forward and one backward pass. Raises ValueError for networks without plain self-attention (`attended`).
    """

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        with attended(classifier, pixels) as seen:
            gradients = torch.autograd.grad(seen.scores.gather(1, targets[:, None]).sum(), seen.attention)
            with torch.no_grad():
                return seen.maps(seen.blocks.read @ relevance(seen.attention, gradients))

    return explain


def relevance(attention: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """The relevance (B,N,N) of the image's tokens (columns) for the last block's (rows), without the identity.

    ``attention`` and its ``gradients``: L x (B,heads,N,N).
    """
    identity = torch.eye(attention[0].shape[-1], device=attention[0].device)
    total = identity
    for block, gradient in zip(attention, gradients, strict=True):
        total = total + (block.float() * gradient.float()).clamp_min(0).mean(1) @ total
    return total - identity
