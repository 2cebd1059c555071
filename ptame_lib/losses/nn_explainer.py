"""The losses of the Explainer and of RTIS on its architecture, as pure functions with named terms.

Stalder, Perraudin, Achanta, Perez-Cruz, Volpi, "What You See is What You Classify: Black Box Attributions", NeurIPS
2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..validation import check_weights


@dataclass(frozen=True)
class ExplainerWeights:
    """Weights of the Explainer's loss; the defaults are VGG-16's on VOC-2007, `PUBLISHED` has all four.

    Cross-entropy has weight 1. A class's mask may fill from ``smallest`` to ``largest`` of the image without a loss.
    Raises ValueError for a negative weight, and unless 0 <= smallest <= largest <= 1.
    """

    entropy: float = 1.0
    tv: float = 1.0
    class_area: float = 1.0
    area: float = 0.1
    non_target_area: float = 0.3
    smallest: float = 0.05
    largest: float = 0.3

    def __post_init__(self) -> None:
        check_weights(asdict(self))
        if not self.smallest <= self.largest <= 1:
            shares = f"from {self.smallest} to {self.largest} of the image"
            raise ValueError(f"a mask can't fill {shares}: give smallest <= largest <= 1")


PUBLISHED = {
    ("vgg16", "voc"): ExplainerWeights(1.0, 1.0, 1.0, 0.1, 0.3),
    ("resnet50", "voc"): ExplainerWeights(3.0, 1.0, 0.8, 0.01, 0.3),
    ("vgg16", "coco"): ExplainerWeights(1.0, 0.3, 0.3, 0.03, 0.1),
    ("resnet50", "coco"): ExplainerWeights(3.0, 0.05, 0.1, 0.01, 0.03),
}


@dataclass(frozen=True)
class RTISWeights:
    """Weights of RTIS's loss; Dabkowski & Gal have 10, 1e-3, 5 and the power 0.3.

    The Explainer's authors weigh the ``area`` with 1.0, since nothing else keeps the masks small. Raises ValueError for
    a negative weight, or a power of 0 or less.
    """

    tv: float = 10.0
    area: float = 1.0
    removed: float = 5.0
    power: float = 0.3

    def __post_init__(self) -> None:
        check_weights(asdict(self), powers="power")


class ExplainerLoss(NamedTuple):
    """The total and its terms, unweighted; ``total = ce + w.entropy * entropy + w.tv * tv + ...``."""

    total: Tensor
    ce: Tensor
    entropy: Tensor
    tv: Tensor
    class_area: Tensor
    area: Tensor
    non_target_area: Tensor


class RTISLoss(NamedTuple):
    """The unweighted terms and ``total = kept + w.removed * removed + w.tv * tv + w.area * area``."""

    total: Tensor
    kept: Tensor
    removed: Tensor
    tv: Tensor
    area: Tensor


def target_masks(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The masks m of an image's labels and n of all other classes, (B,H,W) in [0,1].

    Each is the sigmoid of its group's largest logit, 0 for an empty group. ``logits`` (B,K,H,W): the Explainer's;
    ``labels`` (B,K): more than 0.5 if the image has the class.
    """
    present = (labels > 0.5)[:, :, None, None]
    return tuple(logits.masked_fill(other, -torch.inf).amax(1).sigmoid() for other in (~present, present))


def explainer_loss(
    logits: Tensor,
    labels: Tensor,
    kept: Tensor,
    removed: Tensor,
    masks: tuple[Tensor, Tensor],
    weights: ExplainerWeights = ExplainerWeights(),
    *,
    multi_label: bool = True,
) -> ExplainerLoss:
    """The Explainer's loss (section 3.2 of the paper).

    ``logits`` (B,K,H,W): the Explainer's; ``labels`` (B,K) in {0,1}; ``masks`` = (m, n) of `target_masks`; ``kept`` and
    ``removed`` (B,K): the classifier's logits for what m, and what 1 - m, keeps of the image on the mean colour.

    The first term is the mean of all labels' binary cross-entropies, as published. A classifier trained with a softmax
    gives each image one class: with ``multi_label`` False the term is the cross-entropy over the softmax. Raises
    ValueError for shapes that don't match, and then for an image without exactly one label.
    """
    _check(logits, labels, kept, removed, multi_label)
    target, other = masks
    cross_entropy = F.binary_cross_entropy_with_logits if multi_label else F.cross_entropy
    terms = (
        cross_entropy(kept.float(), labels.float()),
        negative_entropy(removed.float()),
        total_variation(target) + total_variation(other),
        class_area_term(logits, labels, weights.smallest, weights.largest),
        target.mean(),
        other.mean(),
    )
    factors = (1.0, weights.entropy, weights.tv, weights.class_area, weights.area, weights.non_target_area)
    return ExplainerLoss(sum(factor * term for factor, term in zip(factors, terms, strict=True)), *terms)


def rtis_loss(
    logits: Tensor,
    labels: Tensor,
    kept: Tensor,
    removed: Tensor,
    masks: tuple[Tensor, Tensor],
    weights: RTISWeights = RTISWeights(),
    *,
    multi_label: bool = True,
) -> RTISLoss:
    """RTIS's loss for several labels per image; arguments, and ValueError, as in `explainer_loss`.

    Dabkowski & Gal, "Real Time Image Saliency for Black Box Classifiers", NeurIPS 2017, eq. 4. Their probability of
    the class becomes the sigmoid of each label's logit (the softmax's, as theirs, without ``multi_label``), averaged
    over all labels of the batch: ``kept`` is its -log on what m keeps, ``removed`` its power on what m removes. TV is
    squared and summed over an image's pixels as there, and divided by their number; other classes' masks are free.
    """
    _check(logits, labels, kept, removed, multi_label)
    present, target = labels > 0.5, masks[0]
    count = present.sum().clamp_min(1)
    lost = F.softplus(-kept.float()) if multi_label else -kept.float().log_softmax(1)
    left = removed.float().sigmoid() if multi_label else removed.float().softmax(1)
    terms = (
        lost[present].sum() / count,
        left[present].pow(weights.power).sum() / count,
        total_variation(target, torch.square),
        target.mean(),
    )
    factors = (1.0, weights.removed, weights.tv, weights.area)
    return RTISLoss(sum(factor * term for factor, term in zip(factors, terms, strict=True)), *terms)


def negative_entropy(logits: Tensor) -> Tensor:
    """Mean of p log p over softmax(logits (B,K)): smallest, -log(K)/K, if all classes are equal."""
    p = logits.softmax(1)
    return (p * p.clamp_min(1e-16).log()).mean()


def total_variation(masks: Tensor, size: Callable[[Tensor], Tensor] = torch.abs) -> Tensor:
    """Mean over pixels of the ``size`` of the differences to the right and lower neighbour.

    The image is reflected at its border, so that the last difference of each row and column counts twice.
    """
    across, down = size(masks.diff(dim=-1)), size(masks.diff(dim=-2))
    return (across.sum() + across[..., -1].sum() + down.sum() + down[..., -1, :].sum()) / masks.numel()


def class_area_term(logits: Tensor, labels: Tensor, smallest: float = 0.05, largest: float = 0.3) -> Tensor:
    """`outside_band` of the labels' masks, summed over labels, averaged over images; 0 without labels.

    ``logits`` (B,K,H,W), ``labels`` (B,K).
    """
    return outside_band(logits[labels > 0.5].sigmoid(), smallest, largest).sum() / len(logits)


def outside_band(masks: Tensor, smallest: float, largest: float) -> Tensor:
    """How far masks (n,H,W) are from filling ``smallest`` to ``largest`` of the image, (n,).

    Of a mask's N values in descending order, the first int(smallest N) should be 1 and those from int(largest N) on 0:
    the mean over all N of what they lack or exceed.
    """
    flat = masks.flatten(1)
    size = flat.shape[1]
    low, high = int(smallest * size), int(largest * size)
    # two partial selections are cheaper than sorting: no order within the parts matters
    first = flat.topk(low, dim=1, sorted=False).values.sum(1)
    rest = flat.sum(1) - flat.topk(high, dim=1, sorted=False).values.sum(1)
    return (low - first + rest) / size


def _check(logits: Tensor, labels: Tensor, kept: Tensor, removed: Tensor, multi_label: bool) -> None:
    if not logits.shape[:2] == labels.shape == kept.shape == removed.shape:
        parts = {"logits": logits, "labels": labels, "kept": kept, "removed": removed}
        shapes = ", ".join(f"{name} {tuple(part.shape)}" for name, part in parts.items())
        raise ValueError(f"batch sizes or numbers of classes differ: {shapes}")
    if labels.numel() and not (labels.min() >= 0 and labels.max() <= 1):
        raise ValueError(
            f"labels must be 0 or 1 for each class, got {labels.min():g}..{labels.max():g}: "
            "see torch.nn.functional.one_hot"
        )
    if not multi_label and (wrong := ((labels > 0.5).sum(1) != 1).nonzero().flatten().tolist()):
        raise ValueError(
            f"image {wrong[0]} of the batch has {int((labels[wrong[0]] > 0.5).sum())} labels, but the classifier gives "
            "one class per image: train with one label each, or make the classifier with multi_label=True if it "
            "decides every label for itself"
        )
