"""P-TAME study: explain any image classifier with trained perturbations, and compare the explanations.

from ptame_lib import PTAME, decide, load_auxiliary, load_classifier, train_ptame
"""

from .blackbox import BlackBox, load_onnx
from .classifiers import Classifier, decide, load_classifier
from .datasets import Embedded, ImageFolder, load_embedded
from .evidence import Evidence, evidence, explain_with_evidence
from .features import FeatureExtractor, load_auxiliary
from .losses import PTAMELoss, PTAMEWeights, ptame_loss
from .masking import keep, keep_share, normalise, remove, resize
from .methods import Budget, Method, build_methods
from .methods.ttame import ttame
from .model_card import model_card, write_model_card
from .ptame import PTAME, saved_config
from .queries import train_black_box
from .training import TrainingConfig, train_ptame

__version__ = "0.1.0"

__all__ = [
    "BlackBox",
    "Budget",
    "Classifier",
    "Embedded",
    "Evidence",
    "FeatureExtractor",
    "ImageFolder",
    "Method",
    "PTAME",
    "PTAMELoss",
    "PTAMEWeights",
    "TrainingConfig",
    "build_methods",
    "decide",
    "evidence",
    "explain_with_evidence",
    "keep",
    "keep_share",
    "load_auxiliary",
    "load_classifier",
    "load_embedded",
    "load_onnx",
    "model_card",
    "normalise",
    "ptame_loss",
    "remove",
    "resize",
    "saved_config",
    "train_black_box",
    "train_ptame",
    "ttame",
    "write_model_card",
]
