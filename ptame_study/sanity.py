"""What notebook 06 trains and asks, of digits or of photographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ptame_lib.classifiers import embedded, lite
from ptame_lib.classifiers.loading import load_classifier
from ptame_lib.classifiers.wrapper import Classifier
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.training.ptame import TrainingConfig, train_ptame

from .explainers import new_explainer
from .images import CUTOUTS, load_parts
from .settings import AuxiliarySettings, ClassifierSettings, ImageSettings

DIGITS = AuxiliarySettings("embedded/auxiliary")
PHOTOGRAPHS = AuxiliarySettings("lite/0", layers=["blocks.4", "bn2"], head=True)
FEW_SHOTS = {"tied": True, "mask": "minmax", "shares": (1.0, 0.5, 0.15), "batch_size": 16}  # of a thousand classes


@dataclass(frozen=True)
class Trial:
    """A classifier, the auxiliary of its explainers, images to train these on, and ``pixels`` to explain (B,3,H,W)."""

    classifier: Classifier
    auxiliary: AuxiliarySettings
    train: Dataset
    pixels: Tensor
    classes: int
    config: TrainingConfig

    def wrap(self, network: nn.Module) -> Classifier:
        """Another network for the same images."""
        family = lite if self.auxiliary is PHOTOGRAPHS else embedded
        return Classifier(network, family.MEAN, family.STD, self.classifier.input_size)

    def untrained(self, classes: int | None = None, head: bool | None = None) -> PTAME:
        """An explainer, by default of the classifier's classes; ``head``: whether it starts from the auxiliary's."""
        auxiliary = self.auxiliary if head is None else replace(self.auxiliary, head=head)
        return new_explainer("P-TAME", ClassifierSettings("any"), auxiliary, None, classes or self.classes)

    def own_cam(self) -> PTAME:
        """The auxiliary's class activation map, which knows the classes and not the classifier."""
        return self.untrained(head=True).eval()

    def trained(self, explained: Classifier, data: Dataset, classes: int, seed: int) -> PTAME:
        """An explainer trained on this very classifier."""
        torch.manual_seed(seed)
        explainer = self.untrained(classes)
        train_ptame(explainer, explained, data, replace(self.config, seed=seed))
        return explainer


def trial(cfg: Any) -> Trial:
    """What a notebook's parameters ask for: ``classifier``, ``images`` (cutouts; empty: digits), counts, training."""
    images = ImageSettings.of(cfg)
    train, test = load_parts(images, ["train", "test"])
    classifier, photographs = load_classifier(cfg.classifier), images.images == CUTOUTS
    pixels = torch.stack([test[i]["pixels"] for i in range(len(test))])
    config = TrainingConfig(steps=cfg.steps, lr=cfg.lr, loss=cfg.loss, **(FEW_SHOTS if photographs else {}))
    auxiliary = PHOTOGRAPHS if photographs else DIGITS
    return Trial(classifier, auxiliary, train, pixels, len(classifier.labels), config)
