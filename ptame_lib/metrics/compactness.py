"""How much of the image a map needs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..masking import normalise
from ..validation import check_maps, check_unit


def saliency_metric(maps: Tensor, kept: Tensor, *, as_they_are: bool = False) -> Tensor:
    """log(max(mean of the map, 0.05)) - log(p) per image (Dabkowski & Gal, 2017); lower is better.

    ``maps`` (B,h,w) are normalised, except for masks taken ``as_they_are``; ``kept`` (B,) is the target's probability
    on what the map keeps (`masked_confidence`), or the sum over an image's labels (`label_confidence`). The area is
    that of the soft map, not of a crop.
    """
    check_maps(maps, len(kept))
    if as_they_are:
        check_unit(maps)
    area = (maps.float() if as_they_are else normalise(maps)).mean((1, 2))
    return area.clamp_min(0.05).log() - kept.float().clamp_min(1e-12).log()


def sparseness(maps: Tensor) -> Tensor:
    """Gini index of the normalised map's values, in [0,1): 0 if all are equal, near 1 for few bright.

    Hurley & Rickard, IEEE Trans. Inf. Theory 2009; as a metric of explanations Chalasani et al., ICML 2020.
    """
    check_maps(maps, len(maps))
    flat = normalise(maps).flatten(1).double().sort(1).values
    n = flat.shape[1]
    weights = (n - torch.arange(1, n + 1, device=flat.device) + 0.5) / n
    total = flat.sum(1)
    return torch.where(total > 0, 1 - 2 * (flat * weights).sum(1) / total.clamp_min(1e-12), 0.0).float()
