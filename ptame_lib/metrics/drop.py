"""Average Drop, Increase in Confidence and Average Gain.

Chattopadhay et al., "Grad-CAM++", WACV 2018 (AD, IC); Zhang et al., "Opti-CAM", CVIU 2024 (AG). Here p is the softmax
probability of the explained class on the whole image, q that on what the map keeps of it; masking is in pixel space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..classifiers.wrapper import answers
from ..masking import keep, keep_share, normalise, resize
from ..validation import check_answers, check_maps, check_targets


def average_drop(p: Tensor, q: Tensor) -> Tensor:
    """max(0, p - q) / p per image, in [0,1]; lower is better. 0 where p is 0 already.

    >>> average_drop(torch.tensor([0.8, 0.5]), torch.tensor([0.6, 0.9]))
    tensor([0.2500, 0.0000])
    """
    return torch.where(p > 0, (p - q).clamp_min(0) / p, 0.0)


def increase_in_confidence(p: Tensor, q: Tensor) -> Tensor:
    """1 where q > p, else 0, per image; higher is better."""
    return (q > p).float()


def average_gain(p: Tensor, q: Tensor) -> Tensor:
    """max(0, q - p) / (1 - p) per image, in [0,1]; higher is better. 0 where p is 1 already."""
    return torch.where(p < 1, (q - p).clamp_min(0) / (1 - p).clamp_min(1e-12), 0.0)


@torch.no_grad()
def masked_confidence(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor, share: float = 1.0
) -> Tensor:
    """q: the target's probability (B,) where the largest ``share`` of a soft map keeps its pixels.

    ``maps`` (B,h,w) are min-max normalised and resized to the image first; a constant one keeps nothing. Raises
    ValueError for maps of another shape or not finite, and as `confidence`.
    """
    check_maps(maps, len(pixels))
    masks = keep_share(resize(normalise(maps), pixels.shape[-2:]), share)
    return confidence(classifier, keep(pixels, masks), targets)


@torch.no_grad()
def confidence(classifier: nn.Module, pixels: Tensor, targets: Tensor) -> Tensor:
    """The targets' softmax probabilities (B,), in float64, so equal images tie and 1 is rarely reached.

    Raises ValueError for targets (B,) of another number or range, FloatingPointError where the classifier's answer is
    not finite.
    """
    logits = answers(classifier, pixels)
    check_answers(logits)
    check_targets(targets, *logits.shape)
    return logits.double().softmax(1).gather(1, targets[:, None])[:, 0]
