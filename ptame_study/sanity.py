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
from ptame_lib.explainers.matching import match_classes
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.training.ptame import TrainingConfig, train_ptame

from .classifiers import load_head
from .explainers import new_explainer
from .images import CUTOUTS, load_parts
from .settings import AuxiliarySettings, ClassifierSettings, ImageSettings

DIGITS = AuxiliarySettings("embedded/auxiliary")
PHOTOGRAPHS = AuxiliarySettings("lite/0", layers=["blocks.4", "bn2"], head=True)
MATCHED = {"mapped": True, "mask": "matched", "shares": (0.05, 0.1, 0.2), "rest": 1.0, "batch_size": 8}  # of those


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
        """An explainer trained on this very classifier.

        One that starts from the auxiliary's head finds by the classifier's answers which row is which class's.
        """
        torch.manual_seed(seed)
        explainer = self.untrained(classes)
        if self.auxiliary.head:
            network = load_classifier(self.auxiliary.name)
            rows = match_classes(_answers(explained, data), _answers(network, data))
            explainer.start_from_head(load_head(self.auxiliary)[rows])
        train_ptame(explainer, explained, data, replace(self.config, seed=seed))
        return explainer


@torch.no_grad()
def _answers(classifier: nn.Module, data: Dataset, most: int = 400) -> Tensor:
    """Logits for the first images, ``most`` at most, 20 at a time."""
    pixels = [data[i]["pixels"] for i in range(min(most, len(data)))]
    return torch.cat([classifier(torch.stack(pixels[i : i + 20])) for i in range(0, len(pixels), 20)])


def trial(cfg: Any) -> Trial:
    """What a notebook's parameters ask for: ``classifier``, ``images`` (cutouts; empty: digits), counts, training."""
    images = ImageSettings.of(cfg)
    train, test = load_parts(images, ["train", "test"])
    classifier, photographs = load_classifier(cfg.classifier), images.images == CUTOUTS
    pixels = torch.stack([test[i]["pixels"] for i in range(len(test))])
    config = TrainingConfig(steps=cfg.steps, lr=cfg.lr, loss=cfg.loss, **(MATCHED if photographs else {}))
    auxiliary = PHOTOGRAPHS if photographs else DIGITS
    return Trial(classifier, auxiliary, train, pixels, len(classifier.labels), config)
