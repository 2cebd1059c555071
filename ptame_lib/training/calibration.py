"""Calibrate a trained explainer's values, so that a map at 0.5 shows what is enough for the decision.

The training orders pixels well, but is content with values that fade slowly: cut at 0.5, such a map is far wider than
what the decision needs. One number, the ``power`` to which all maps are raised, mends the values. It moves no rank of a
map's own pixels. (Resized afterwards, a map is interpolated between other values, by which ranks move a little.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..classifiers.wrapper import decide
from ..explainers.ptame import PTAME
from ..masking import keep, resize
from ..metrics.drop import confidence
from ..validation import check_at_least

AREAS = tuple(0.01 * 1.3**k for k in range(16))  # shares of an image's pixels, 1 % to 51 %
LIMITS = (0.25, 8.0)  # of the power


@torch.no_grad()
def calibrate(
    explainer: PTAME,
    classifier: nn.Module,
    data: Dataset,
    *,
    images: int = 100,
    enough: float = 0.9,
    batch_size: int = 32,
) -> float:
    """Set ``explainer.power`` by the first ``images`` of the data, and return it.

    For each image the smallest of `AREAS` is found whose pixels, those with the highest values, keep at least the share
    ``enough`` of the decision's probability on black. The power then brings the median of the values at these areas'
    edges to 0.5, within `LIMITS`. Images that no area is enough for don't count; without others the power stays as it
    is. No labels or truth are used. Costs 18 forward passes of the classifier per image.

    ``data``: items with ``pixels`` (3,H,W) in [0,1], best ones that the explainer was not trained on; all are used
    where there are no more than ``images``. Raises ValueError for no images and for ``enough`` outside (0, 1].
    """
    check_at_least(1, images=images, batch_size=batch_size)
    if not 0 < enough <= 1:
        raise ValueError(f"enough must be a share in (0, 1], got {enough}")
    if not len(data):
        raise ValueError("there are no images to calibrate with: give some that were not used in training")

    # the values at the edges of what is enough; no power moves these
    edges, count = [], min(images, len(data))
    for start in range(0, count, batch_size):
        pixels = torch.stack([data[i]["pixels"] for i in range(start, min(start + batch_size, count))])
        edges.append(_edges(explainer, classifier, pixels.to(explainer.fuser.weight.device), enough))
    values = torch.cat(edges)

    # the power that brings their median to a half
    values = values[values > 0]  # at 0 the whole image is shown, and NaN is no more
    if len(values):
        edge, (low, high) = values.median().item(), LIMITS
        power = explainer.power * math.log(0.5) / math.log(edge) if edge < 1 else high
        explainer.power = min(high, max(low, power))
    return explainer.power


def _edges(explainer: PTAME, classifier: nn.Module, pixels: Tensor, enough: float) -> Tensor:
    """Each map's value (B,) at the edge of the smallest area that is enough; NaN where none is."""
    targets = decide(classifier, pixels)
    maps = resize(explainer.explain(pixels, targets), pixels.shape[-2:])  # (B,H,W)
    wanted = enough * confidence(classifier, pixels, targets)  # (B,)
    edge = torch.full_like(wanted, math.nan)
    for area in sorted(AREAS, reverse=True):
        count = max(1, round(area * maps[0].numel()))
        value = maps.flatten(1).kthvalue(maps[0].numel() - count + 1, dim=1).values  # (B,): the lowest that is kept
        shown = (maps >= value[:, None, None]).float()
        kept = confidence(classifier, keep(pixels, shown), targets)
        edge = torch.where(kept >= wanted, value, edge)
    return edge
