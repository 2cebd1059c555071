"""The order in which pixels are inserted or removed."""

from __future__ import annotations

import torch
from torch import Tensor


def ranked(maps: Tensor, *, seed: int = 0) -> Tensor:
    """The pixels' indices (B,H*W) in descending order of the maps (B,H,W), ties in a random order.

    The random order is drawn from ``seed`` alone, the same for each map. Flipped, the result is the ascending order.

    >>> ranked(torch.tensor([[[0.1, 0.9], [0.5, 0.3]]]))
    tensor([[1, 2, 3, 0]])
    """
    flat = maps.flatten(1)
    shuffled = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed)).to(maps.device)
    return shuffled[flat[:, shuffled].argsort(dim=1, descending=True, stable=True)]
