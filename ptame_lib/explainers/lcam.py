"""L-CAM-Img: a 1x1 convolution from the explained classifier's last feature map to class maps.

Gkartzonika, Gkalelis, Mezaris, "Learning Visual Explanations for DCNN-Based Image Classifiers Using an Attention
Mechanism", ECCV Workshops 2022.

    explainer = lcam(classifier, num_classes=1000)
    train_ptame(explainer, classifier, images, lcam_config(TrainingConfig()))

As in its authors' code, the loss sees the maps of all targets of the batch, and the map that is shown is the raw one,
min-max normalised without the sigmoid of the training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..classifiers.trunk import target_layer
from ..classifiers.wrapper import Classifier
from .features import FeatureExtractor
from .ptame import PTAME
from .ttame import own_features


class LCAM(PTAME):
    """P-TAME with one level and no attention: only ``fuser``, a 1x1 convolution with a bias, is trained.

    Saved, loaded and trained like any `PTAME`. Raises ValueError for features of more than one level.
    """

    def __init__(self, auxiliary: FeatureExtractor, num_classes: int, fuser_bias: bool = True, one_step: bool = False):
        if len(auxiliary.channels) != 1:
            raise ValueError(f"L-CAM looks at one feature map, got {len(auxiliary.channels)}: name one layer")
        super().__init__(auxiliary, num_classes, fuser_bias, one_step)
        self.convs, self.bns = nn.ModuleList(), nn.ModuleList()

    def attention(self, pixels: Tensor) -> list[Tensor]:
        """The feature map itself, [(B,C,h,w)]."""
        with torch.no_grad():
            return self.auxiliary(pixels)


def lcam(classifier: Classifier, num_classes: int, layer: str | None = None, name: str = "last features") -> LCAM:
    """An untrained L-CAM on ``layer`` of ``classifier.model``; None takes Grad-CAM's (`target_layer`).

    The layer gives feature maps or tokens, as for `FeatureExtractor`. ``name``: of the features, stored with the
    trained explainer. Raises ValueError for an unknown layer, or if none is found.
    """
    if layer is None:
        blank = torch.zeros(1, 3, *classifier.input_size, device=classifier.mean.device)
        found, _ = target_layer(classifier, blank)
        layer = next(known for known, module in classifier.model.named_modules() if module is found)
    return LCAM(own_features(classifier, [layer], name), num_classes)
