"""Attention rollout: Abnar & Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.

The attention of every block, averaged over its heads and with half of it the identity for the residual connection,
multiplied from the first block to the last: how much of each patch flows to the tokens that the head reads. It does not
know the class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..classifiers.attention import attended
from ..validation import check_request
from .base import Explain


def attention_rollout(classifier: nn.Module) -> Explain:
    """Maps (B,h,w) in [0,1] on the grid of a vision transformer's patches, the same for every class.

    Costs one forward pass. Raises ValueError for networks without plain self-attention (`attended`).
    """

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        with attended(classifier, pixels) as seen, torch.no_grad():
            flow = rollout([attention.float() for attention in seen.attention])
            return seen.maps(seen.blocks.read @ flow)

    return explain


def rollout(attention: list[Tensor]) -> Tensor:
    """The flow (B,N,N) from the image's tokens (columns) to the last block's (rows); each row sums to 1.

    ``attention``: L x (B,heads,N,N), rows sum to 1.
    """
    identity = torch.eye(attention[0].shape[-1], device=attention[0].device)
    flow = identity
    for block in attention:
        flow = (block.mean(1) + identity) / 2 @ flow
    return flow
