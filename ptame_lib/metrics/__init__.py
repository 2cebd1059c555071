"""Metrics as pure functions that return one value per image."""

from .attribution import mean_relevance, right_evidence
from .compactness import saliency_metric, sparseness
from .contour import contour
from .curves import deletion, insertion
from .drop import average_drop, average_gain, increase_in_confidence, masked_confidence
from .imputation import linear_imputation
from .localisation import average_precision, best_iou, energy_pointing_game, iou, pointing_game
from .matched import matched_confidence, matched_mask
from .precision import precision_at_truth
from .ranks import average_ranks
from .road import known_pixels, road, telea_imputation
from .robustness import max_sensitivity, rank_stability
from .saco import saco
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

__all__ = ["Confusion", "aggregate_masks", "average_drop", "average_gain", "average_precision", "average_ranks"]
__all__ += ["background_coverage", "best_iou", "class_confusion", "continuous_iou", "contour", "deletion"]
__all__ += ["energy_pointing_game", "f1_score", "increase_in_confidence", "insertion", "iou"]
__all__ += ["known_pixels", "label_confidence", "linear_imputation", "mask_iou", "masked_confidence"]
__all__ += ["matched_confidence", "matched_mask", "max_sensitivity", "mean_f1", "mean_iou", "mean_relevance"]
__all__ += ["object_coverage", "one_by_one", "pointing_game", "precision_at_truth", "rank_stability", "right_evidence"]
__all__ += ["road", "roc_auc", "saco", "saliency_metric", "soft_accuracy", "soft_f1", "sparseness", "specificity"]
__all__ += ["telea_imputation"]
