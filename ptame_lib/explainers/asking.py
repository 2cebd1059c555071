"""The ways to correct a trained map by asking the classifier about the image itself, by name."""

from __future__ import annotations

from torch import Tensor, nn

from .area_questions import ask_about_areas
from .averaged_questions import ask_averaged
from .questions import ask_further

WAYS = {"steps": ask_further, "averaged": ask_averaged, "areas": ask_about_areas}


def ask_if(
    classifier: nn.Module | None, pixels: Tensor, targets: Tensor, maps: Tensor, questions: int, asking: str = "steps"
) -> Tensor:
    """The ``maps`` corrected by so many questions, asked as one of `WAYS`, or as they are without a classifier.

    Raises ValueError for another way, and for questions that nobody answers.
    """
    if not isinstance(asking, str) or asking not in WAYS:
        raise ValueError(f"unknown way of asking {asking!r}: choose one of {', '.join(WAYS)}")
    if classifier is not None:
        return WAYS[asking](classifier, pixels, targets, maps, questions)
    if questions:
        raise ValueError(f"{questions!r} questions, but nobody to ask: pass the classifier, classifier=...")
    return maps
