"""Trained explainers of any method from their files."""

from __future__ import annotations

import json
from pathlib import Path

from ..classifiers.wrapper import Classifier
from .fastshap import FastSHAP
from .features import FeatureExtractor, load_auxiliary
from .lcam import LCAM
from .names import EXPLAINER, LAST, OWN, TRAINED, method_and_features
from .ptame import PTAME
from .storage import saved_config
from .swap_tame import SwapTAME
from .ttame import own_features

__all__ = ["EXPLAINER", "LAST", "OWN", "TRAINED", "load_explainer", "method_and_features", "method_of"]

# methods that use a frozen auxiliary's features
ON_AUXILIARY = {"P-TAME": PTAME, "Swap-TAME": SwapTAME, "FastSHAP": FastSHAP}


def load_explainer(
    file: str | Path,
    classifier: Classifier | None = None,
    auxiliary: FeatureExtractor | None = None,
    auxiliary_weights: str | Path | None = None,
) -> PTAME:
    """A trained explainer: ours (.safetensors), or the authors' (.ckpt), by default on a ResNet-18.

    T-TAME and L-CAM need the ``classifier`` they explain, whose features they use. ``auxiliary``: None loads the one
    that the file names, with its local weights only if ``auxiliary_weights`` names them. Raises as `PTAME.load` and
    `PTAME.load_official_checkpoint`.
    """
    if Path(file).suffix == ".ckpt":
        return PTAME.load_official_checkpoint(file, auxiliary or load_auxiliary("resnet18"))
    stored = saved_config(file)
    method = _method(stored)
    if method in ON_AUXILIARY:
        return ON_AUXILIARY[method].load(file, auxiliary, auxiliary_weights)
    if classifier is None:
        raise ValueError(
            f"{file} uses the features of the classifier it explains ({stored['auxiliary']}): pass that classifier"
        )
    features = own_features(classifier, json.loads(stored["layers"]), stored["auxiliary"])
    return (PTAME if method == "T-TAME" else LCAM).load(file, features)


def method_of(file: str | Path) -> str:
    """The method of a saved explainer, one of `TRAINED`; raises as `saved_config`."""
    return _method(saved_config(file))


def _method(config: dict[str, str]) -> str:
    return method_and_features(config["auxiliary"], config.get("method", "P-TAME"))[0]
