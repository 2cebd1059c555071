"""Metrics as pure functions that return one value per image."""

from .drop import average_drop, average_gain, increase_in_confidence, masked_confidence
from .imputation import linear_imputation
from .localisation import best_iou, iou, pointing_game

__all__ = ["average_drop", "average_gain", "best_iou", "increase_in_confidence", "iou", "linear_imputation", "masked_confidence", "pointing_game"]
