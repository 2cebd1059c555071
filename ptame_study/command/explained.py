"""The classifier that a trained explainer's file names, loaded only as far as a file is trusted."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ptame_lib.classifiers.black_box import BlackBox
from ptame_lib.classifiers.lite import MULTI
from ptame_lib.classifiers.loading import EMBEDDED, EMBEDDED_MULTI, LITE, TORCHVISION, load_classifier
from ptame_lib.classifiers.wrapper import Classifier
from ptame_lib.classifiers.zoo import ZOO

from ..classifiers import find_weights

# classifiers whose code and weights no file can choose
EXPLAINED = (*EMBEDDED, *EMBEDDED_MULTI, *ZOO, *LITE, MULTI, *TORCHVISION)


def explained_classifier(
    file: Path, known: dict[str, Any], name: str | None, weights: str | None
) -> Classifier | BlackBox:
    """The classifier called ``name`` with ``weights``, by default the one ``file`` was trained for.

    ``known``: what the file says about itself; a classifier without labels gets those stored there. A file is not
    trusted to choose what is read from the disk or fetched from anywhere: embedded, zoo and lite networks, and
    torchvision's and timm's own, are taken at its word, others only if the caller names them. Raises ValueError for
    those, and for names of another number of classes.
    """
    # what the user names, else what the file does
    if name is None and "classifier" not in known:
        raise ValueError(f"{file} does not say which classifier it explains: name it with --classifier")
    said, stored = known.get("classifier", ""), known.get("weights", "default")
    risky = {
        "--classifier": said if name is None and said not in EXPLAINED and not said.startswith("timm/") else "",
        "--weights": stored if weights is None and isinstance(find_weights(stored), Path) else "",
    }
    if options := [part for option, value in risky.items() if value for part in (option, value)]:
        asked = " and ".join(f"the {option[2:]} {value!r}" for option, value in risky.items() if value)
        remedy = f"if you trust them, add {shlex.join(options)}"
        raise ValueError(f"{file} asks for {asked}, which no file can have loaded unasked: {remedy}")
    model = load_classifier(name or said, find_weights(weights or stored))

    # names of its classes
    labels = known.get("labels")
    if model.labels is None and labels:
        if model.num_classes not in (None, len(labels)):
            counts = f"{len(labels)} names for {model.num_classes} classes of the classifier"
            raise ValueError(f"{file} has {counts}: name the one it was trained for")
        model.labels = tuple(labels)
    return model
