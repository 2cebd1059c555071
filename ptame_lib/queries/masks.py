"""Random masks to ask a black box with."""

from __future__ import annotations

import torch
from torch import Tensor

from ..masking import resize


def coarse_masks(n: int, size: tuple[int, int], generator: torch.Generator, cells: tuple[int, int] = (3, 9)) -> Tensor:
    """Masks (n,H,W) in [0,1]: coarse random grids, enlarged smoothly, as RISE's, but of every share and softness.

    The side of a mask's grid is drawn from ``cells``, the share of its kept cells from 0..1, and the grey of what it removes
    from 0..0.7 (a trained map is rarely as black and white as RISE's).
    """
    masks = torch.empty(n, *size)
    sides = torch.randint(cells[0], cells[1] + 1, (n,), generator=generator)
    share, grey = torch.rand(n, 1, 1, generator=generator), 0.7 * torch.rand(n, 1, 1, generator=generator)
    for side in sides.unique().tolist():
        rows = (sides == side).nonzero()[:, 0]
        kept = (torch.rand(len(rows), side, side, generator=generator) < share[rows]).float()
        masks[rows] = resize(kept, size)
    return (grey + (1 - grey) * masks).clamp_(max=1)
