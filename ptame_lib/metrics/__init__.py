"""Metrics as pure functions that return one value per image."""

from .drop import average_drop, average_gain, increase_in_confidence, masked_confidence
from .imputation import linear_imputation
from .localisation import best_iou, iou, pointing_game
from .road import known_pixels, road, telea_imputation

__all__ = [
    "average_drop",
    "average_gain",
    "best_iou",
    "increase_in_confidence",
    "iou",
    "known_pixels",
    "linear_imputation",
    "masked_confidence",
    "pointing_game",
    "road",
    "telea_imputation",
]
