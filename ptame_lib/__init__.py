"""P-TAME study: explain any image classifier with trained perturbations, and compare the explanations.

from ptame_lib import PTAME, decide, load_auxiliary, load_classifier, train_ptame
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "BlackBox": "blackbox",
    "Budget": "methods",
    "build_methods": "methods",
    "Classifier": "classifiers",
    "COCO": "datasets",
    "decide": "classifiers",
    "Embedded": "datasets",
    "Evidence": "evidence",
    "explain_with_evidence": "evidence",
    "Explainer": "explainer",
    "explainer_loss": "explainer_losses",
    "ExplainerConfig": "explainer_training",
    "ExplainerWeights": "explainer_losses",
    "Explorer": "explorer",
    "FeatureExtractor": "features",
    "fold_batch_norms": "folding",
    "ImageFolder": "datasets",
    "keep": "masking",
    "keep_share": "masking",
    "load_auxiliary": "features",
    "load_classifier": "classifiers",
    "load_embedded": "datasets",
    "load_multilabel": "multilabel_training",
    "load_onnx": "blackbox",
    "Method": "methods",
    "normalise": "masking",
    "PTAME": "ptame",
    "ptame_loss": "losses",
    "PTAMELoss": "losses",
    "PTAMEWeights": "losses",
    "remove": "masking",
    "resize": "masking",
    "RTISWeights": "explainer_losses",
    "saved_config": "ptame",
    "train_black_box": "queries",
    "train_explainer": "explainer_training",
    "train_ptame": "training",
    "TrainingConfig": "training",
    "ttame": "methods.ttame",
    "VOC": "datasets",
    "write_model_card": "model_card",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    """Public names are imported when they are first asked for: torch and its relatives take seconds, which not every command needs."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
