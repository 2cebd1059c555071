"""Does the decision move with what a map puts first? An intervention on the image, not on the map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..classifiers.wrapper import likeliest
from ..masking import first_pixels, resize
from ..validation import check_maps

SHARES = (0.1, 0.25, 0.5, 0.75)


def partners(targets: Tensor) -> Tensor:
    """For each of ``targets`` (B,) the number of the next one, around the end, that is another class; -1 without one.

    >>> partners(torch.tensor([3, 3, 1]))
    tensor([2, 2, 0])
    """
    count = len(targets)
    order = (torch.arange(count, device=targets.device)[:, None] + torch.arange(count, device=targets.device)) % count
    differ = targets[order] != targets[:, None]  # (B,B): column k is the k-th next image
    found = order.gather(1, differ.int().argmax(1, keepdim=True))[:, 0]
    return torch.where(differ.any(1), found, -1)


@torch.no_grad()
def moved(
    classifier: nn.Module, pixels: Tensor, maps: Tensor, targets: Tensor, shares: Sequence[float] = SHARES
) -> Tensor:
    """How often each image's decision goes along when its first pixels are moved to another image, (B,) in [0,1].

    ``maps`` (B,h,w), resized to ``pixels`` (B,3,H,W); ``targets`` (B,): the classifier's decisions on these. The other
    image is the next one of the batch that is decided otherwise; NaN where there is none. For each of the ``shares``
    the first pixels of the map are pasted there, at the same places: a map of what decides takes the decision along
    with few pixels, a map of something else does not. The mean over the shares, which no power of a map moves. Costs
    one pass for each share. Raises ValueError for maps that don't fit.
    """
    check_maps(maps, len(pixels))
    other, maps = partners(targets), resize(maps.float(), pixels.shape[-2:])
    found = torch.zeros(len(pixels), dtype=torch.float64, device=pixels.device)
    for share in shares:
        mixed = torch.where(first_pixels(maps, share)[:, None], pixels, pixels[other])
        found += likeliest(classifier, mixed) == targets
    return torch.where(other < 0, torch.nan, found / len(shares))
