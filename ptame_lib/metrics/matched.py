"""Masks of matched area: what a map keeps counts by the order of its pixels alone.

AD and IC with the soft map change when all values are raised to a power, and the wider map wins. A matched mask is made
of ranks and has the area that is asked for, so no strictly increasing change of the map at the image's size moves it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..masking import keep, resize
from ..validation import check_maps
from .curves import blurred
from .drop import confidence
from .ranks import average_ranks

AREAS = (0.5, 0.25, 0.1)
FILLS: dict[str, Callable[[Tensor], Tensor]] = {"": torch.zeros_like, " blurred": blurred}  # black, as AD; and a blur


def matched_mask(maps: Tensor, area: float, *, ranks: Tensor | None = None) -> Tensor:
    """Soft masks (B,H,W) float32 in (0,1) whose mean is ``area``, in (0,1), made of ranks alone.

    Each map (B,H,W) becomes its `average_ranks` r, and the mask r^g with the g that gives the area: the same for all
    maps without ties. A constant map gives a constant mask. ``ranks``: of the maps, if known. Raises ValueError for
    another area, and for maps that are not finite.
    """
    if not 0 < area < 1:
        raise ValueError(f"the area of a mask must be between 0 and 1, without both, got {area}: 0.25 keeps a quarter")
    ranks = average_ranks(maps) if ranks is None else ranks
    logs = ranks.flatten(1).log()
    return (_power(logs, area) * logs).exp().float().view(ranks.shape)


def _power(logs: Tensor, area: float, tolerance: float = 1e-12, most: int = 200) -> Tensor:
    """The g (B,1) with mean(exp(g logs)) = area, relative to ``tolerance``.

    The log of the mean is convex and falls with g. So Newton's method comes to the root from the left, whatever it
    starts from, and needs no bounds: a bisection of a few passes.
    """
    n = logs.shape[1]
    goal = torch.tensor(area, dtype=logs.dtype, device=logs.device).log()
    g = torch.full_like(logs[:, :1], 1 / area - 1)  # the answer for very many pixels without ties
    for _ in range(most):
        powers = g * logs
        top = powers.amax(1, keepdim=True)
        parts = (powers - top).exp_()
        total = parts.sum(1, keepdim=True)
        above = top + (total / n).log() - goal
        if bool((above.abs() <= tolerance).all()):
            break
        slope = (parts * logs).sum(1, keepdim=True) / total
        g = (g - above / slope).clamp_min(0)
    return g


@torch.no_grad()
def matched_confidence(
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    maps: Tensor,
    area: float,
    fill: Tensor | None = None,
    *,
    ranks: Tensor | None = None,
) -> Tensor:
    """q: the target's probability (B,) on what the `matched_mask` of an ``area`` keeps.

    ``maps`` (B,h,w) are resized to the image and then ranked; ``ranks`` (B,H,W): these ranks, if known. What is removed
    takes the ``fill`` (B,3,H,W), black by default. Raises ValueError for maps of another shape or not finite, for an
    area outside (0,1), and as `confidence`.
    """
    check_maps(maps, len(pixels))
    ranks = average_ranks(resize(maps.float(), pixels.shape[-2:])) if ranks is None else ranks
    masks = matched_mask(maps, area, ranks=ranks).to(pixels.dtype)
    kept = keep(pixels, masks) if fill is None else torch.lerp(fill, pixels, masks[:, None])
    return confidence(classifier, kept, targets)
