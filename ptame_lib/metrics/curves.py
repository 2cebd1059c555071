"""Insertion and deletion: how the probability follows when pixels come or go, most relevant first.

Petsiuk et al., "RISE", BMVC 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from ..masking import resize
from ..validation import check_at_least, check_maps
from .drop import confidence
from .ranking import ranked


def blurred(pixels: Tensor) -> Tensor:
    """The start of insertion: a Gaussian of deviation 5 on 224 pixels, in proportion on other sizes."""
    sigma = 5 * pixels.shape[-1] / 224
    return gaussian_blur(pixels, 2 * round(2 * sigma) + 1, sigma)


def emptied(pixels: Tensor) -> Tensor:
    """The end of deletion: every image's mean colour."""
    return pixels.mean((2, 3), keepdim=True).expand_as(pixels)


@torch.no_grad()
def transition(
    classifier: nn.Module,
    start: Tensor,
    end: Tensor,
    targets: Tensor,
    maps: Tensor,
    steps: int = 32,
    *,
    seed: int = 0,
    ranking: Tensor | None = None,
    first: Tensor | None = None,
    last: Tensor | None = None,
) -> Tensor:
    """The target's probability (B,steps+1) while the pixels of ``start`` (B,3,H,W) are replaced by those of ``end``, an equal
    share per step, in descending order of the map (B,h,w); ties in a random order drawn from ``seed`` alone. ``ranking``: that of
    `ranked`, and ``first`` and ``last``: the curve's ends (B,), where they are known.

    Raises ValueError for fewer than one step, and as `masked_confidence`."""
    check_at_least(1, steps=steps)
    check_maps(maps, len(start))
    order = ranked(resize(maps.float(), start.shape[-2:]), seed=seed) if ranking is None else ranking
    n = order.shape[1]
    place = torch.empty_like(order).scatter_(
        1, order, torch.arange(n, device=order.device).expand_as(order)
    )  # of each pixel in the order
    place = place.view(-1, 1, *start.shape[-2:])
    between = [
        confidence(classifier, torch.where(place < round(n * k / steps), end, start), targets) for k in range(1, steps)
    ]
    first = confidence(classifier, start, targets) if first is None else first
    last = confidence(classifier, end, targets) if last is None else last
    return torch.stack([first, *between, last], 1)


def insertion(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor, steps: int = 32, **known: Tensor | None
) -> Tensor:
    """Area (B,) under the probability while the pixels come into the blurred image; higher is better. ``known``: as for `transition`."""
    return torch.trapezoid(transition(classifier, blurred(pixels), pixels, targets, maps, steps, **known), dx=1 / steps)


def deletion(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor, steps: int = 32, **known: Tensor | None
) -> Tensor:
    """Area (B,) under the probability while the pixels give way to the mean colour; lower is better. ``known``: as for `transition`."""
    return torch.trapezoid(transition(classifier, pixels, emptied(pixels), targets, maps, steps, **known), dx=1 / steps)
