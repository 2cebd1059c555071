"""L-CAM-Img: one 1x1 convolution from the explained classifier's last feature map to the class maps, the forerunner of T-TAME.

Gkartzonika, Gkalelis, Mezaris, "Learning Visual Explanations for DCNN-Based Image Classifiers Using an Attention
Mechanism", ECCV Workshops 2022.

    explainer = lcam(classifier, num_classes=1000)
    train_ptame(explainer, classifier, images, lcam_config(TrainingConfig()))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..classifiers.layers import target_layer
from ..classifiers.wrapper import Classifier
from ..masking import normalise
from ..validation import check_images, check_targets
from .features import FeatureExtractor
from .ptame import PTAME
from .ttame import own_features


class LCAM(PTAME):
    """P-TAME with a single level and nothing before the fuser, which is the 1x1 convolution with a bias: only ``fuser`` is trained.

    Saved, loaded and trained as any `PTAME`. Raises ValueError for features of more than one level.
    """

    own_only = True

    def __init__(self, auxiliary: FeatureExtractor, num_classes: int, fuser_bias: bool = True, one_step: bool = False):
        if len(auxiliary.channels) != 1:
            raise ValueError(f"L-CAM looks at one feature map, got {len(auxiliary.channels)}: name one layer")
        super().__init__(auxiliary, num_classes, fuser_bias, one_step)
        self.convs, self.bns = nn.ModuleList(), nn.ModuleList()

    def attention(self, pixels: Tensor) -> list[Tensor]:
        """The feature map itself, [(B,C,h,w)]."""
        with torch.no_grad():
            return self.auxiliary(pixels)

    def forward(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Raw maps (b,1,h,w) for the training loop: L-CAM's loss sees each image's own target's map alone."""
        check_targets(targets, pixels.shape[0], self.num_classes)
        return self._own(pixels, targets)[:, None]

    def explain(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Saliency maps (B,h,w) in [0,1]: the sigmoid of each image's own target's map, as in training, min-max normalised."""
        check_images(pixels)
        check_targets(targets, pixels.shape[0], self.num_classes)
        with torch.no_grad():
            return normalise(self._own(pixels, targets).sigmoid())

    def _own(self, pixels: Tensor, targets: Tensor) -> Tensor:
        own = torch.einsum("bchw,bc->bhw", self.attention(pixels)[0], self.fuser.weight[targets, :, 0, 0])
        return own if self.fuser.bias is None else own + self.fuser.bias[targets, None, None]


def lcam(classifier: Classifier, num_classes: int, layer: str | None = None, name: str = "last features") -> LCAM:
    """An untrained L-CAM on ``layer`` of ``classifier.model``, by default the one that Grad-CAM looks at (`target_layer`).

    The layer gives feature maps (B,C,h,w), or tokens (B,P+N,C), whose P prefix tokens are dropped and whose others are laid
    out as a grid. ``name``: of the features, stored with the trained explainer. Raises ValueError for an unknown layer, or
    where none is found.
    """
    if layer is None:
        device = classifier.mean.device
        found, _ = target_layer(classifier, torch.zeros(1, 3, *classifier.input_size, device=device))
        layer = next(known for known, module in classifier.model.named_modules() if module is found)
    return LCAM(own_features(classifier, [layer], name), num_classes)
