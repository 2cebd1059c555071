"""T-TAME: the same attention on the explained classifier's own features. Predecessor of P-TAME.

Ntrougkas, Gkalelis, Mezaris, "T-TAME: Trainable Attention Mechanism for Explaining Convolutional Networks and Vision
Transformers", IEEE Access 2024.

    explainer = ttame(classifier, LAYERS["resnet50"], num_classes=1000)
    train_ptame(explainer, classifier, images, TrainingConfig(optimizer="sgd", lr=1e-3, weight_decay=5e-4))
"""

from __future__ import annotations

from collections.abc import Sequence

from ..classifiers.wrapper import Classifier
from .features import FeatureExtractor
from .ptame import PTAME

LAYERS = {  # as published, and the last three stages of the embedded classifiers
    "vgg16": ("features.16", "features.23", "features.30"),
    "resnet50": ("layer2", "layer3", "layer4"),
    "vit_b_16": tuple(f"encoder.layers.encoder_layer_{i}.ln" for i in (9, 10, 11)),
    "embedded/vgg": ("features.5", "features.8", "features.11"),
    "embedded/resnet": ("layer2", "layer3", "layer4"),
    "embedded/vit": ("blocks.0", "blocks.1", "norm"),
}


def ttame(classifier: Classifier, layers: Sequence[str], num_classes: int, name: str = "own features") -> PTAME:
    """An untrained T-TAME: each level is upsampled in one bilinear step, and the fuser has a bias.

    ``layers``: modules of ``classifier.model`` that give feature maps or tokens, as for `FeatureExtractor`. ``name``:
    of the features, stored with the trained explainer. Raises ValueError for unknown layers.
    """
    return PTAME(own_features(classifier, layers, name), num_classes, fuser_bias=True, one_step=True)


def own_features(classifier: Classifier, layers: Sequence[str], name: str) -> FeatureExtractor:
    """The classifier's own features as an auxiliary."""
    mean, std = (value.flatten().tolist() for value in (classifier.mean, classifier.std))
    return FeatureExtractor(classifier.model, layers, mean, std, classifier.input_size, name)
