"""A trained map with a few answers about areas: what is lost where pixels of similar colour are removed.

The image falls into a few areas by k-means of the pixels' colour and, weakly, of their place (Lloyd, "Least squares
quantization in PCM", IEEE TIT 1982), so an area need not be connected: all of a background is one. The classifier is
asked about the image without each of them, in which the image's mean colour stands there. What loses the decision most
moves up in the ranks of the map's pixels, and in the end the map's own values are handed out in the new order. An
answer costs one pass and no gradient, so any black box can give it.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from ..masking import blend
from ..validation import check_amounts, check_at_least
from .questions import checked_start, log_answers, reordered

LITTLE = 0.01  # probabilities that differ by less are not told apart as far as others


def ask_about_areas(
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    maps: Tensor,
    questions: int,
    *,
    place: float = 0.3,
    reach: float = 0.3,
) -> Tensor:
    """Maps (B,H,W) in [0,1]: the ``maps`` (B,h,w) in [0,1], corrected by so many ``questions`` to the classifier.

    Each is about one area and costs one pass: the image falls into so many. Fewer than two say nothing: nobody is
    asked, and the maps come back as they are, (B,h,w). ``place``: the weight of a pixel's place, 0 to 1 from side to
    side, against its colour. ``reach``: by how much the area that matters most moves up against the one that matters
    least, as a share of all ranks; less where their probabilities differ by less than `LITTLE`, so that hardly
    anything moves where no area alone changes the answer. Raises ValueError for negative numbers, and for images, maps
    and targets that don't fit each other; FloatingPointError for answers that are NaN.
    """
    check_at_least(0, questions=questions)
    check_amounts(place=place, reach=reach)
    pixels, large, start = checked_start(classifier, pixels, targets, maps)
    if questions < 2:
        return maps
    numbers = areas_of(pixels, questions, place)
    mean = pixels.mean((2, 3), keepdim=True)

    # the target's probability without each area
    with torch.no_grad():
        without = (blend(pixels, (numbers != k).to(pixels.dtype), mean) for k in range(questions))
        left = torch.stack([log_answers(classifier, images, targets)[0].exp() for images in without], 1)  # (B,areas)

    # 1 for the area whose loss matters most, 0 for the one whose loss matters least
    highest, lowest = left.amax(1, keepdim=True), left.amin(1, keepdim=True)
    matters = (highest - left) / (highest - lowest).clamp_min(LITTLE)
    moved = matters.gather(1, numbers.flatten(1)).view_as(start)
    return reordered(large, start + reach * moved)


def areas_of(pixels: Tensor, areas: int, place: float = 0.3) -> Tensor:
    """The number (B,H,W) int64 of each pixel's area, by k-means from the same start for every image.

    It works on one thread: sums of several threads differ by rounding, which moves pixels between areas.
    """
    from sklearn.cluster import KMeans  # which imports much
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    h, w = pixels.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(0, 1, h), torch.linspace(0, 1, w), indexing="ij")
    at = place * torch.stack([y, x])  # (2,H,W)
    means = KMeans(min(areas, h * w), n_init=1, max_iter=20, random_state=0)
    found = torch.zeros(len(pixels), h, w, dtype=torch.int64)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer colours than areas: some areas are empty
        for numbers, image in zip(found, pixels.detach().float().cpu(), strict=True):
            points = torch.cat([image, at]).flatten(1).T.numpy()
            numbers.copy_(torch.from_numpy(means.fit_predict(points)).view(h, w))
    return found.to(pixels.device)
