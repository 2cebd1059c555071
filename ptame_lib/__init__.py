"""P-TAME study: explain any image classifier with trained perturbations, and compare the explanations.

from ptame_lib import PTAME, decide, load_auxiliary, load_classifier, train_ptame
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "BlackBox": "classifiers.black_box",
    "Budget": "methods.base",
    "build_methods": "methods.catalogue",
    "Classifier": "classifiers.wrapper",
    "COCO": "datasets.coco",
    "decide": "classifiers.wrapper",
    "Embedded": "datasets.embedded",
    "Evidence": "metrics.evidence",
    "explain_with_evidence": "metrics.evidence",
    "Explainer": "explainers.nn_explainer",
    "explainer_loss": "losses.nn_explainer",
    "ExplainerConfig": "training.nn_explainer",
    "ExplainerWeights": "losses.nn_explainer",
    "FeatureExtractor": "explainers.features",
    "fold_batch_norms": "classifiers.folding",
    "ImageFolder": "datasets.folders",
    "keep": "masking",
    "keep_share": "masking",
    "load_auxiliary": "explainers.features",
    "load_classifier": "classifiers.loading",
    "load_embedded": "datasets.embedded",
    "load_multilabel": "classifiers.loading",
    "load_onnx": "classifiers.black_box",
    "Method": "methods.base",
    "normalise": "masking",
    "PTAME": "explainers.ptame",
    "ptame_loss": "losses.ptame",
    "PTAMELoss": "losses.ptame",
    "PTAMEWeights": "losses.ptame",
    "remove": "masking",
    "resize": "masking",
    "RTISWeights": "losses.nn_explainer",
    "saved_config": "explainers.ptame",
    "train_black_box": "training.black_box",
    "train_explainer": "training.nn_explainer",
    "train_ptame": "training.ptame",
    "TrainingConfig": "training.ptame",
    "ttame": "explainers.ttame",
    "VOC": "datasets.voc",
    "write_model_card": "explainers.card",
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
