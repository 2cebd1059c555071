"""Masks of matched area of a whole batch, against a bisection for each map."""

from __future__ import annotations

import numpy as np
import torch
from measure import device, interleaved, row
from scipy.stats import rankdata

from ptame_lib import resize
from ptame_lib.metrics import average_ranks, matched_mask
from ptame_lib.metrics.matched import AREAS

IMAGES = 20


def case(side: int) -> torch.Tensor:
    """Smooth maps of an eighth of the side, cut at 0 in half of them, as CAMs are."""
    maps = resize(torch.randn(IMAGES, side // 8, side // 8, generator=torch.Generator().manual_seed(0)), (side, side))
    maps[::2].clamp_(min=0)
    return maps.to(device())


def ours(maps: torch.Tensor) -> torch.Tensor:
    ranks = average_ranks(maps)
    return torch.stack([matched_mask(maps, area, ranks=ranks) for area in AREAS])


def straightforward(maps: torch.Tensor) -> torch.Tensor:
    """Each map by itself: ranks by SciPy, and g by halving an interval."""
    found = []
    for area in AREAS:
        for one in maps.cpu().numpy():
            ranks, (low, high) = (rankdata(one).reshape(one.shape) - 0.5) / one.size, (0.0, 1000.0)
            while high - low > 1e-12 * high:
                middle = (low + high) / 2
                low, high = (middle, high) if np.mean(ranks**middle) > area else (low, middle)
            found.append(torch.from_numpy(ranks**low).float())
    return torch.stack(found).view(len(AREAS), *maps.shape)


def rows() -> list[dict]:
    found = []
    for side in (64, 224):
        maps = case(side)
        difference = (ours(maps).cpu() - straightforward(maps)).abs().max().item()
        assert difference < 1e-6, f"the masks differ by {difference}"
        works = {"ours": lambda maps=maps: ours(maps), "loop": lambda maps=maps: straightforward(maps)}
        times = interleaved(works, rounds=5)
        what = f"masks of three matched areas at {side} px, an image, {IMAGES} at once / a bisection for each, ms"
        found.append(row(what, times["ours"], times["loop"], scale=1000 / IMAGES))
    return found
