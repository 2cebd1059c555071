"""LeGrad: Bousselham et al., "LeGrad: An Explainability Method for Vision Transformers", ICCV 2025.

Every block gets a score of its own: the mean of its tokens, read by the network's last norm and head. The gradient of
that score with respect to the block's attention, where positive, is averaged over heads and asking tokens, and over
blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..classifiers.attention import attended
from ..validation import check_request
from .base import Explain


def legrad(classifier: nn.Module) -> Explain:
    """Maps (B,h,w) in [0,1] on the grid of a vision transformer's patches, from all its blocks.

    Costs one forward and one backward pass, whose parts are the blocks. Raises ValueError for networks without plain
    self-attention (`attended`).
    """

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        with attended(classifier, pixels, each_block=True) as seen:
            total = torch.zeros(len(pixels), seen.attention[0].shape[-1], device=pixels.device)
            for score, attention in zip(seen.scores, seen.attention, strict=True):
                wanted = score.gather(1, targets[:, None]).sum()
                (gradient,) = torch.autograd.grad(wanted, attention, retain_graph=True)
                total += gradient.float().clamp_min(0).mean((1, 2))
            return seen.maps(total)

    return explain
