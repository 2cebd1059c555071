"""Metrics as pure functions that return one value per image."""

from .compactness import saliency_metric, sparseness
from .curves import deletion, insertion
from .drop import average_drop, average_gain, increase_in_confidence, masked_confidence
from .imputation import linear_imputation
from .localisation import average_precision, best_iou, energy_pointing_game, iou, pointing_game
from .road import known_pixels, road, telea_imputation
from .segmentation import (
    aggregate_masks,
    background_coverage,
    continuous_iou,
    f1_score,
    mask_iou,
    mean_f1,
    mean_iou,
    object_coverage,
    roc_auc,
    soft_accuracy,
    soft_f1,
)
from .specificity import Confusion, class_confusion, label_confidence, one_by_one, specificity

__all__ = [
    "Confusion",
    "aggregate_masks",
    "average_drop",
    "average_gain",
    "average_precision",
    "background_coverage",
    "best_iou",
]
__all__ += ["class_confusion", "continuous_iou", "deletion", "energy_pointing_game", "f1_score"]
__all__ += ["increase_in_confidence", "insertion", "iou", "known_pixels", "label_confidence", "linear_imputation"]
__all__ += ["mask_iou", "masked_confidence", "mean_f1", "mean_iou", "object_coverage", "one_by_one", "pointing_game"]
__all__ += ["road", "roc_auc", "saliency_metric", "soft_accuracy", "soft_f1", "sparseness", "specificity"]
__all__ += ["telea_imputation"]
