"""What a trained explainer's file says about itself, read without trust in who wrote it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .storage import saved_config

CLEARLY = 5.0  # percent points
LARGEST = 8192  # pixels; the longest side of images that a file may name


def is_number(value: Any) -> bool:
    """Whether JSON's value is a number that a float holds, NaN and infinity among them."""
    return type(value) is float or (type(value) is int and value.bit_length() < 64)


def is_list_of(kind: type, value: Any) -> bool:
    """Whether JSON's value is a list of this type alone."""
    return isinstance(value, list) and all(type(item) is kind for item in value)


# metadata that `PTAME.save` stores as JSON: what each must be, in words and as a check
JSON: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "layers": ("a list of names, or null", lambda value: value is None or is_list_of(str, value)),
    "channels": ("a list of whole numbers", lambda value: is_list_of(int, value)),
    "labels": ("a list of names", lambda value: is_list_of(str, value)),
    "training": ("settings with their names", lambda value: isinstance(value, dict)),
    "input_size": ("a list of height and width", lambda value: is_list_of(int, value) and len(value) == 2),
    "metrics": (
        "numbers with their names",
        lambda value: isinstance(value, dict) and all(map(is_number, value.values())),
    ),
}


def follows(metrics: dict[str, float]) -> str:
    """Whether a map follows its classifier, by the ``metrics`` of its file: yes, weakly, no; "" if not measured.

    By the interval of how much more often the decision moves with the map's first pixels than with a control's, in
    percent points: yes from `CLEARLY` on, no if 0 is in it.
    """
    if "from" not in metrics:
        return ""
    return "yes" if metrics["from"] >= CLEARLY else "weakly" if metrics["from"] > 0 else "no"


def followed(metrics: dict[str, float]) -> str:
    """`follows` in words, also where there is no answer: too few held-out images, or none was decided otherwise."""
    return follows(metrics) or ("too few held-out images to tell" if "moved" in metrics else "not measured")


def about(file: str | Path) -> dict[str, Any]:
    """`saved_config` of a file, with lists and numbers read back from JSON.

    What only informs and can't be read (training, metrics, ...) is left out, with a warning that names file and key.
    Raises as `saved_config`, and ValueError for names of another number of classes or an impossible size of images.
    """
    # read what is JSON
    known = {}
    for key, value in saved_config(file).items():
        if key not in JSON:
            known[key] = value
            continue
        what, fits = JSON[key]
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):  # written by hand, or nested too deep
            read = ...
        if read is not ... and fits(read):
            known[key] = read
        elif key == "input_size":
            raise ValueError(f"{file} has an input_size that is not {what}: train the explainer again")
        else:
            warnings.warn(f"{file} says under {key!r} what is not {what}: it is left out", stacklevel=2)

    # what would be used, and must not be wrong
    classes, labels, size = int(known["num_classes"]), known.get("labels"), known.get("input_size", [1, 1])
    if labels and len(labels) != classes:
        raise ValueError(
            f"{file} has {len(labels)} names for {classes} classes: train the explainer again, with the right"
        )
    if not all(1 <= side <= LARGEST for side in size):
        limit = f"a side of its images must have 1 to {LARGEST} pixels"
        raise ValueError(f"{file} says that it is for images of {size[0]} x {size[1]} pixels: {limit}")
    return known
