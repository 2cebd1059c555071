"""Explain any image classifier with trained perturbations, and compare the explanations.

from ptame_lib import PTAME, decide, load_auxiliary, load_classifier, train_ptame
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {  # module: its public names
    "classifiers.black_box": ["BlackBox", "load_onnx"],
    "classifiers.folding": ["fold_batch_norms"],
    "classifiers.loading": ["load_classifier", "load_multilabel"],
    "classifiers.wrapper": ["Classifier", "decide"],
    "datasets.coco": ["COCO"],
    "datasets.cutouts": ["Cutouts", "load_cutouts"],
    "datasets.embedded": ["Embedded", "load_embedded"],
    "datasets.evidence": ["load_evidence"],
    "datasets.folders": ["ImageFolder"],
    "datasets.voc": ["VOC"],
    "explainers.card": ["write_model_card"],
    "explainers.features": ["FeatureExtractor", "load_auxiliary"],
    "explainers.loading": ["load_explainer"],
    "explainers.nn_explainer": ["Explainer"],
    "explainers.ptame": ["PTAME"],
    "explainers.storage": ["saved_config"],
    "explainers.ttame": ["ttame"],
    "losses.nn_explainer": ["explainer_loss", "ExplainerWeights", "RTISWeights"],
    "losses.ptame": ["ptame_loss", "PTAMELoss", "PTAMEWeights"],
    "masking": ["keep", "keep_share", "normalise", "remove", "resize"],
    "methods.base": ["Budget", "Method"],
    "methods.catalogue": ["build_methods"],
    "metrics.evidence": ["Evidence", "explain_with_evidence"],
    "metrics.scores": ["score", "Scores"],
    "metrics.suite": ["measure", "measure_masks"],
    "training.black_box": ["train_black_box"],
    "training.calibration": ["calibrate"],
    "training.nn_explainer": ["ExplainerConfig", "train_explainer"],
    "training.ptame": ["train_ptame", "TrainingConfig"],
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}
__all__ = list(_MODULES)


def __getattr__(name: str):
    """Import a public name when it is first used: torch takes seconds, and not every command needs it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
