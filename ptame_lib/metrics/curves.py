"""Insertion and deletion: the probability while pixels are inserted or deleted, most relevant first.

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
    """The start of insertion: a Gaussian blur, of deviation 5 at 224 pixels and in proportion.

    It reaches to two deviations, and along a side of few pixels at most to its other end.
    """
    sigma = 5 * pixels.shape[-1] / 224
    height, width = (2 * min(round(2 * sigma), side - 1) + 1 for side in pixels.shape[-2:])
    return gaussian_blur(pixels, [width, height], [sigma, sigma])


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
    """The target's probability (B,steps+1) while the pixels of ``start`` (B,3,H,W) become ``end``.

    An equal share is replaced per step, in descending order of the map (B,h,w), ties in a random order drawn from
    ``seed``. If known: ``ranking``, as `ranked` gives it, and the curve's ends ``first`` and ``last`` (B,). Raises
    ValueError for fewer than one step, and as `masked_confidence`.
    """
    check_at_least(1, steps=steps)
    check_maps(maps, len(start))
    # each pixel's place in the order
    order = ranked(resize(maps.float(), start.shape[-2:]), seed=seed) if ranking is None else ranking
    n = order.shape[1]
    place = torch.empty_like(order).scatter_(1, order, torch.arange(n, device=order.device).expand_as(order))
    place = place.view(-1, 1, *start.shape[-2:])
    # replace the first ones and ask the classifier, step by step
    mixed = (torch.where(place < round(n * k / steps), end, start) for k in range(1, steps))
    between = [confidence(classifier, images, targets) for images in mixed]
    first = confidence(classifier, start, targets) if first is None else first
    last = confidence(classifier, end, targets) if last is None else last
    return torch.stack([first, *between, last], 1)


def insertion(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor, steps: int = 32, **known: Tensor | None
) -> Tensor:
    """Area (B,) under the probability while pixels are inserted into the blurred image; higher is better.

    ``known``: keyword arguments of `transition`.
    """
    return torch.trapezoid(transition(classifier, blurred(pixels), pixels, targets, maps, steps, **known), dx=1 / steps)


def deletion(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor, steps: int = 32, **known: Tensor | None
) -> Tensor:
    """As `insertion`, while pixels take the mean colour; lower is better."""
    return torch.trapezoid(transition(classifier, pixels, emptied(pixels), targets, maps, steps, **known), dx=1 / steps)
