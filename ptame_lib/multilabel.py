"""Multi-label comparison: every method's masks of an image's labels, together against the objects' pixels."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .masking import resize
from .methods import TRUTH
from .methods.controls import truth_map
from .metrics import (
    aggregate_masks,
    background_coverage,
    continuous_iou,
    f1_score,
    label_confidence,
    mask_iou,
    mean_f1,
    mean_iou,
    object_coverage,
    roc_auc,
    saliency_metric,
    soft_accuracy,
    soft_f1,
)
from .metrics.localisation import THRESHOLDS
from .metrics.suite import Metric
from .progress import progress

MASKS = {  # (masks, truth) -> one value per image
    "mean F1": mean_f1,
    "soft F1": soft_f1,
    "soft accuracy": soft_accuracy,
    "mean IoU": mean_iou,
    "continuous IoU": continuous_iou,
    "ROC AUC": roc_auc,
    "object coverage": object_coverage,
    "background coverage": background_coverage,
}
METRICS = {name: Metric(name != "background coverage", main=False) for name in MASKS}
METRICS |= {"saliency score": Metric(False, scale=1.0, main=False)}
METRICS |= {f"{name} at {t:g}": Metric(True, main=False) for name in ("F1", "mask IoU") for t in THRESHOLDS}


@dataclass(frozen=True)
class MaskMethod:
    """A method that gives one mask per class: ``explain`` takes pixels (B,3,H,W) and targets (B,) to maps (B,h,w) in [0,1], which are used
    as they are. One that ``sees_truth`` is given the masks of the targets' objects (B,H,W) as targets."""

    name: str
    explain: Callable[[Tensor, Tensor], Tensor]
    sees_truth: bool = False


def baselines() -> list[MaskMethod]:
    """Masks of 0, of 0.5 and of 1 everywhere, and the objects' own pixels."""
    flat = [MaskMethod(f"all {v:g}", lambda pixels, _, v=v: torch.full_like(pixels[:, 0], v)) for v in (0.0, 0.5, 1.0)]
    return [*flat, MaskMethod(TRUTH, truth_map, sees_truth=True)]


def aggregate(method: MaskMethod, pixels: Tensor, labels: Tensor, truth: Tensor | None = None) -> Tensor:
    """One mask (B,H,W) per image: the pixelwise maximum over its labels' masks; 0 without labels. ``labels`` (B,K), ``truth`` (B,K,H,W)."""
    rows, classes = (labels > 0.5).nonzero(as_tuple=True)
    if not len(rows):
        return torch.zeros_like(pixels[:, 0])
    asked = truth[rows, classes] if method.sees_truth else classes
    masks = pixels.new_zeros(*labels.shape, *pixels.shape[-2:])
    masks[rows, classes] = resize(method.explain(pixels[rows], asked).float(), pixels.shape[-2:])
    return aggregate_masks(masks, labels)


def evaluate_masks(classifier: nn.Module, method: MaskMethod, data: Dataset, *, batch_size: int = 20) -> tuple[pd.DataFrame, float]:
    """A method's aggregate masks on every image: per-image values, and milliseconds per image.

    ``data``: items with ``pixels``, ``labels`` (K,) and ``truth`` (K,H,W) bool, or (H,W) of all objects together. Columns: image, those of
    `MASKS` in percent, ``saliency score`` in nats, and ``F1 at t``, ``mask IoU at t`` for the thresholds .1, ..., .9.
    """
    rows, spent = [], []
    with progress(len(data), method.name) as bar:
        for batch in DataLoader(data, batch_size):
            pixels, labels, objects = (batch[key].to(classifier.mean.device) for key in ("pixels", "labels", "truth"))
            if objects.ndim == 3:
                objects = objects[:, None].expand(-1, labels.shape[1], -1, -1)
            start = time.perf_counter()
            masks = aggregate(method, pixels, labels, objects)
            spent.append(1000 * (time.perf_counter() - start) / len(pixels))
            truth = objects.any(1)
            columns = {name: 100 * metric(masks, truth).double() for name, metric in MASKS.items()}
            kept = label_confidence(classifier, pixels, labels, masks)
            columns["saliency score"] = saliency_metric(masks, kept, as_they_are=True).double()
            for t in THRESHOLDS:
                columns[f"F1 at {t:g}"] = 100 * f1_score(masks, truth, t).double()
                columns[f"mask IoU at {t:g}"] = 100 * mask_iou(masks, truth, t).double()
            rows.append(torch.stack(list(columns.values()), 1).cpu())
            bar.update(len(pixels))
    values = pd.DataFrame(torch.cat(rows).numpy(), columns=list(columns))
    values.insert(0, "image", range(len(values)))
    return values, statistics.median(spent)
