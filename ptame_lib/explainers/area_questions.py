"""A trained map with a few answers about areas: what is lost where pixels of similar colour are removed.

The image falls into a few areas by k-means of the pixels' colour and, weakly, of their place (Lloyd, "Least squares
quantization in PCM", IEEE TIT 1982), so an area need not be connected: all of a background is one. The classifier is
asked about the image without each of them, in which the image's mean colour stands there. What loses the decision most
moves up in the ranks of the map's pixels, and in the end the map's own values are handed out in the new order. An
answer costs one pass and no gradient, so any black box can give it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..masking import blend
from ..validation import check_amounts, check_at_least
from .questions import checked_start, reordered

LITTLE = 0.01  # probabilities that differ by less are not told apart as far as others


def ask_about_areas(
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    maps: Tensor,
    areas: int,
    *,
    place: float = 0.3,
    reach: float = 0.3,
) -> Tensor:
    """Maps (B,H,W) in [0,1]: the ``maps`` (B,h,w) in [0,1], corrected by so many answers, one pass each.

    ``areas``: into how many the image falls; fewer than two say nothing and give the maps as they are, (B,h,w).
    ``place``: the weight of a pixel's place, 0 to 1 from side to side, against its colour. ``reach``: by how much the
    area that matters most moves up against the one that matters least, as a share of all ranks. Raises ValueError for
    negative numbers, and for targets that don't fit the images.
    """
    check_at_least(0, areas=areas)
    check_amounts(place=place, reach=reach)
    pixels, large, start = checked_start(classifier, pixels, targets, maps)
    if areas < 2:
        return maps
    numbers = areas_of(pixels, areas, place)
    mean = pixels.mean((2, 3), keepdim=True)

    # the target's probability without each area
    with torch.no_grad():
        left = []
        for k in range(areas):
            logits = classifier(blend(pixels, (numbers != k).float(), mean))
            left.append(logits.softmax(1).gather(1, targets[:, None])[:, 0])
    left = torch.stack(left, 1)  # (B,areas)

    # 1 for the area whose loss matters most, 0 for the one whose loss matters least
    highest, lowest = left.amax(1, keepdim=True), left.amin(1, keepdim=True)
    matters = (highest - left) / (highest - lowest).clamp_min(LITTLE)
    moved = matters.gather(1, numbers.flatten(1)).view_as(start)
    return reordered(large, start + reach * moved)


def areas_of(pixels: Tensor, areas: int, place: float = 0.3) -> Tensor:
    """The number (B,H,W) int64 of each pixel's area, by k-means from the same start for every image."""
    from sklearn.cluster import KMeans  # which imports much

    h, w = pixels.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(0, 1, h), torch.linspace(0, 1, w), indexing="ij")
    at = place * torch.stack([y, x])  # (2,H,W)
    means, found = KMeans(min(areas, h * w), n_init=1, max_iter=20, random_state=0), []
    for image in pixels.detach().float().cpu():
        numbers = means.fit_predict(torch.cat([image, at]).flatten(1).T.numpy())
        found.append(torch.from_numpy(numbers).long().view(h, w))
    return torch.stack(found).to(pixels.device)
