"""Trained explainers from their files, whichever method they are."""

from __future__ import annotations

import json
from pathlib import Path

from ..classifiers.wrapper import Classifier
from .features import FeatureExtractor, load_auxiliary
from .lcam import LCAM
from .ptame import PTAME, saved_config
from .ttame import own_features


def method_of(file: str | Path) -> str:
    """Which trained method a saved explainer is: P-TAME, T-TAME or L-CAM-Img; raises as `saved_config`."""
    return _method(saved_config(file)["auxiliary"])[0]


def _method(auxiliary: str) -> tuple[str, str]:
    """The method that looks at these features, and the features in words."""
    name, _, of = auxiliary.partition(":")
    if name in ("own", "last") and of:
        return ("T-TAME" if name == "own" else "L-CAM-Img"), f"those of {of}: features of the classifier itself"
    return "P-TAME", f"those of the frozen auxiliary network {auxiliary}"


TRAINED = {  # one explanation is one forward pass
    "P-TAME": "Ntrougkas et al., IEEE OJSP 2025",
    "T-TAME": "Ntrougkas et al., IEEE Access 2024",
    "L-CAM-Img": "Gkartzonika et al., ECCV workshops 2022",
}


EXPLAINER = {
    "Explainer": "Stalder et al., NeurIPS 2022"
}  # trained by another notebook and loop, and not for every classifier


OWN, LAST = "own", "last"  # names of features that are the classifier's own: T-TAME's levels, L-CAM's last map


def load_explainer(
    file: str | Path, classifier: Classifier | None = None, auxiliary: FeatureExtractor | None = None
) -> PTAME:
    """A trained explainer: ours (.safetensors), or the authors' (.ckpt), by default on a ResNet-18.

    T-TAME and L-CAM need the ``classifier`` they explain, whose features they use. ``auxiliary``: None takes the one that the file names.
    Raises as `PTAME.load` and `PTAME.load_official_checkpoint`.
    """
    if Path(file).suffix == ".ckpt":
        return PTAME.load_official_checkpoint(file, auxiliary or load_auxiliary("resnet18"))
    stored = saved_config(file)
    kind = {OWN: PTAME, LAST: LCAM}.get(stored["auxiliary"].split(":")[0])
    if kind is None:
        return PTAME.load(file, auxiliary)
    if classifier is None:
        raise ValueError(
            f"{file} uses the features of the classifier it explains ({stored['auxiliary']}): pass that classifier"
        )
    return kind.load(file, own_features(classifier, json.loads(stored["layers"]), stored["auxiliary"]))
