"""Does the map point at the evidence? Metrics against a truth mask (B,H,W) bool, per image.

All raise ValueError for maps that are not (B,h,w) and finite, and for a truth of another number or type.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..masking import normalise, resize
from ..validation import check_maps, check_truths

THRESHOLDS = tuple(k / 10 for k in range(1, 10))


def pointing_game(maps: Tensor, truth: Tensor) -> Tensor:
    """1 where the map's maximum is in the truth, of equal maxima the share (Zhang et al., IJCV 2018).

    >>> pointing_game(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[False, True]]]))
    tensor([1.])
    """
    _check(maps, truth)
    flat = resize(maps.float(), truth.shape[-2:]).flatten(1)
    peak = flat == flat.amax(1, keepdim=True)
    return (peak & truth.flatten(1)).sum(1) / peak.sum(1)


def iou(maps: Tensor, truth: Tensor, threshold: float) -> Tensor:
    """IoU of {normalised map >= threshold} with the truth, in [0,1]; 1 where both are empty."""
    _check(maps, truth)
    chosen = resize(normalise(maps), truth.shape[-2:]).flatten(1) >= threshold
    inside = truth.flatten(1)
    union = (chosen | inside).sum(1)
    return torch.where(union > 0, (chosen & inside).sum(1) / union.clamp_min(1), 1.0)


def best_iou(maps: Tensor, truth: Tensor) -> Tensor:
    """The best IoU of each image over the thresholds .1, .2, ..., .9."""
    return torch.stack([iou(maps, truth, t) for t in THRESHOLDS]).amax(0)


def energy_pointing_game(maps: Tensor, truth: Tensor) -> Tensor:
    """Share of the normalised map's sum that lies in the truth mask (Score-CAM, Wang et al., CVPRW 2020).

    An empty map gets the truth's share of the image, as a map without any preference would.

    >>> energy_pointing_game(torch.tensor([[[0.0, 3.0], [1.0, 0.0]]]), torch.tensor([[[False, True], [False, False]]]))
    tensor([0.7500])
    """
    _check(maps, truth)
    flat, inside = resize(normalise(maps), truth.shape[-2:]).flatten(1), truth.flatten(1).float()
    total = flat.sum(1)
    return torch.where(total > 0, (flat * inside).sum(1) / total.clamp_min(1e-12), inside.mean(1))


def average_precision(maps: Tensor, truth: Tensor) -> Tensor:
    """Average precision of the map as a ranking of the truth before the rest; NaN for an empty truth.

    The sum of precision times gain of recall over the distinct values of the map, as in scikit-learn.
    """
    _check(maps, truth)
    flat, inside = resize(maps.float(), truth.shape[-2:]).flatten(1), truth.flatten(1)
    # pixels in descending order, and hits among the first 1, 2, ...
    order = flat.argsort(dim=1, descending=True)
    values, hits = flat.gather(1, order), inside.gather(1, order).double().cumsum(1)
    # a threshold can only lie at the last of a run of equal values
    last = torch.ones_like(inside)
    last[:, :-1] = values[:, 1:] != values[:, :-1]
    precision = hits / torch.arange(1, flat.shape[1] + 1, device=flat.device)
    known = torch.where(last, hits, 0.0).cummax(1).values  # hits at the last threshold so far
    gained = torch.diff(known, prepend=known.new_zeros(len(known), 1), dim=1)
    return ((precision * gained).sum(1) / hits[:, -1]).float()


def _check(maps: Tensor, truth: Tensor) -> None:
    check_maps(maps, len(truth))
    check_truths(truth, maps)
