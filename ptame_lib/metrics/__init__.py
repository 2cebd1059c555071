"""Metrics as pure functions that return one value per image."""

from .compactness import saliency_metric, sparseness
from .curves import deletion, insertion
from .drop import average_drop, average_gain, increase_in_confidence, masked_confidence
from .imputation import linear_imputation
from .localisation import average_precision, best_iou, energy_pointing_game, iou, pointing_game
from .road import known_pixels, road, telea_imputation

__all__ = [
    "average_drop",
    "average_gain",
    "average_precision",
    "best_iou",
    "deletion",
    "energy_pointing_game",
    "increase_in_confidence",
    "insertion",
    "iou",
    "known_pixels",
    "linear_imputation",
    "masked_confidence",
    "pointing_game",
    "road",
    "saliency_metric",
    "sparseness",
    "telea_imputation",
]
