"""Does the map point at the evidence? Metrics against a truth mask (B,H,W) bool, per image."""

from __future__ import annotations

import torch
from torch import Tensor

from ..masking import normalise, resize

THRESHOLDS = tuple(k / 10 for k in range(1, 10))


def pointing_game(maps: Tensor, truth: Tensor) -> Tensor:
    """1 where the map's maximum lies in the truth mask (Zhang et al., IJCV 2018); among equal maxima the share inside counts.

    >>> pointing_game(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[False, True]]]))
    tensor([1.])
    """
    flat = resize(maps.float(), truth.shape[-2:]).flatten(1)
    peak = flat == flat.amax(1, keepdim=True)
    return (peak & truth.flatten(1)).sum(1) / peak.sum(1)


def iou(maps: Tensor, truth: Tensor, threshold: float) -> Tensor:
    """Intersection over union of {normalised map >= threshold} with the truth, in [0,1]; 1 where both are empty."""
    chosen = resize(normalise(maps), truth.shape[-2:]).flatten(1) >= threshold
    inside = truth.flatten(1)
    union = (chosen | inside).sum(1)
    return torch.where(union > 0, (chosen & inside).sum(1) / union.clamp_min(1), 1.0)


def best_iou(maps: Tensor, truth: Tensor) -> Tensor:
    """The best IoU of each image over the thresholds .1, .2, ..., .9."""
    return torch.stack([iou(maps, truth, t) for t in THRESHOLDS]).amax(0)
