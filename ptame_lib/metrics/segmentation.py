"""Masks against the objects' true pixels, per image.

The segmentation metrics of Stalder et al., "What You See is What You Classify", NeurIPS 2022, section 4 and appendix.
Masks (B,H,W) in [0,1] are taken as they are, without min-max normalisation; truth (B,H,W) is bool. A fractional truth
in [0,1] is binarised like the mask, and taken as it is by the soft metrics and the coverages.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..masking import resize
from ..validation import check_maps, check_unit
from .contour import boundary_f
from .localisation import THRESHOLDS

F1_THRESHOLDS = (0.25, 0.5, 0.75)


def aggregate_masks(masks: Tensor, labels: Tensor) -> Tensor:
    """The pixelwise maximum (B,H,W) of the masks (B,K,H,W) of an image's labels (B,K); 0 without labels."""
    return masks.masked_fill(~(labels > 0.5)[:, :, None, None], 0).amax(1)


def f1_score(masks: Tensor, truth: Tensor, threshold: float) -> Tensor:
    """F1 = 2 TP / (2 TP + FP + FN) of {mask >= threshold}; 0 where the truth is empty.

    >>> f1_score(torch.tensor([[[0.9, 0.9, 0.1]]]), torch.tensor([[[True, False, False]]]), 0.5)
    tensor([0.6667])
    """
    return _f1(*_binary(masks, truth, threshold))


def mean_f1(masks: Tensor, truth: Tensor) -> Tensor:
    """The mean of F1 at the thresholds .25, .5 and .75."""
    return torch.stack([f1_score(masks, truth, t) for t in F1_THRESHOLDS]).mean(0)


def mask_boundary_f(masks: Tensor, truth: Tensor, threshold: float = 0.5) -> Tensor:
    """`boundary_f` of {mask >= threshold} against the truth's outline; NaN where the truth has none."""
    return boundary_f(resize(masks.float(), truth.shape[-2:]) >= threshold, truth >= 0.5)


def soft_f1(masks: Tensor, truth: Tensor) -> Tensor:
    """2PR / (P + R) with P = sum(m t) / sum(m) and R = sum(m t) / sum(t)."""
    return _f1(*_flat(masks, truth))


def soft_accuracy(masks: Tensor, truth: Tensor) -> Tensor:
    """Mean over pixels of m t + (1 - m)(1 - t)."""
    soft, inside = _flat(masks, truth)
    return (soft * inside + (1 - soft) * (1 - inside)).mean(1).float()


def mask_iou(masks: Tensor, truth: Tensor, threshold: float) -> Tensor:
    """IoU of {mask >= threshold} with the truth; 0 where both are empty (`iou` normalises first)."""
    return _iou(*_binary(masks, truth, threshold))


def mean_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """The mean of IoU at the thresholds .1, .2, ..., .9."""
    return torch.stack([mask_iou(masks, truth, t) for t in THRESHOLDS]).mean(0)


def continuous_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """sum(min(m, t)) / sum(max(m, t)); 0 where both are empty."""
    return _iou(*_flat(masks, truth))


def roc_auc(masks: Tensor, truth: Tensor) -> Tensor:
    """Area under the ROC curve: how often an object's pixel ranks above another one, ties count half.

    NaN where the truth is empty or the whole image.

    >>> roc_auc(torch.tensor([[[0.9, 0.4, 0.4, 0.1]]]), torch.tensor([[[True, True, False, False]]]))
    tensor([0.8750])
    """
    soft, inside = _flat(masks, truth)
    ordered = soft.sort(1).values
    below, up_to = torch.searchsorted(ordered, soft), torch.searchsorted(ordered, soft, right=True)
    rank = (below + up_to + 1) / 2.0  # 1..N, ties share the mean
    objects = (inside > 0.5).double()
    n, rest = objects.sum(1), (1 - objects).sum(1)
    return (((rank * objects).sum(1) - n * (n + 1) / 2) / (n * rest)).float()


def object_coverage(masks: Tensor, truth: Tensor) -> Tensor:
    """Covered share of the object, sum(min(m, t)) / sum(t); higher is better; 0 without any."""
    soft, inside = _flat(masks, truth)
    return _share(torch.minimum(soft, inside).sum(1), inside.sum(1))


def background_coverage(masks: Tensor, truth: Tensor) -> Tensor:
    """Covered share of the background, sum(max(m - t, 0)) / sum(1 - t); lower is better; 0 without any."""
    soft, inside = _flat(masks, truth)
    return _share((soft - inside).clamp_min(0).sum(1), (1 - inside).sum(1))


def _flat(masks: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (B,N) float64, the mask resized to the truth. Raises ValueError for other shapes or ranges."""
    for values in (masks, truth.float()):
        check_maps(values, len(truth))
        check_unit(values)
    return resize(masks.float(), truth.shape[-2:]).flatten(1).double(), truth.flatten(1).double()


def _binary(masks: Tensor, truth: Tensor, threshold: float) -> tuple[Tensor, ...]:
    return tuple((values >= threshold).double() for values in _flat(masks, truth))


def _f1(masks: Tensor, truth: Tensor) -> Tensor:
    return _share(2 * (masks * truth).sum(1), masks.sum(1) + truth.sum(1))


def _iou(masks: Tensor, truth: Tensor) -> Tensor:
    return _share(torch.minimum(masks, truth).sum(1), torch.maximum(masks, truth).sum(1))


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp_min(1e-12), 0.0).float()
