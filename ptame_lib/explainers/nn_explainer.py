"""The Explainer: a segmentation network that gives one mask per class for a (multi-label) classifier, in one forward pass.

Stalder, Perraudin, Achanta, Perez-Cruz, Volpi, "What You See is What You Classify: Black Box Attributions", NeurIPS 2022.

    explainer = Explainer(10, "small")
    train_explainer(explainer, classifier, train, val)      # once per classifier, see explainer_training.py
    masks = explainer.masks(pixels)                         # (B,K,H,W) in [0,1], of all classes
    mask = aggregate_masks(masks, labels)                   # (B,H,W), of an image's labels together

Unlike P-TAME's maps its masks aren't min-max normalised: the mask of a class that is not there should be empty.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_resnet50
from torchvision.ops import Conv2dNormActivation

from ..classifiers.embedded import MEAN, STD
from ..classifiers.loading import load_embedded_net, load_torchvision
from ..classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ..validation import check_at_least, check_images, check_targets
from . import storage

FORMAT = "explainer-1"


REMEDY = "Load it with the architecture and the number of classes it was trained with."


class EncoderDecoder(nn.Module):
    """A small U-Net for 64x64 pixels, 1 M parameters: normalised images (B,3,H,W) -> logits (B,K,H,W).

    The way down is the embedded `ResNetLike`, levels of stride 2, 4, 8 and 16; on the way back each level is upsampled, joined with
    the one above and convolved. Logits of the first level (where) and of the last (which class) are upsampled to the image and added.
    """

    def __init__(self, num_classes: int, pretrained: bool = False):
        super().__init__()
        self.encoder = load_embedded_net("embedded/multi-resnet", "default" if pretrained else None)
        widths = tuple(layer[0].conv1.out_channels for layer in self._layers())
        self.up = nn.ModuleList(Conv2dNormActivation(a + b, a) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.coarse = nn.Conv2d(widths[-1], num_classes, 1)
        if pretrained and num_classes == self.encoder.fc.out_features:  # its classifying layer, applied at every place
            self.coarse.weight.data = self.encoder.fc.weight.data[:, :, None, None].clone()
            self.coarse.bias.data = self.encoder.fc.bias.data.clone()
        del self.encoder.fc

    def forward(self, x: Tensor) -> Tensor:
        size, levels = x.shape[-2:], []
        x = self.encoder.stem(x)
        for layer in self._layers():
            x = layer(x)
            levels.append(x)  # (B, widths[l], H / 2^(l+1), W / 2^(l+1))
        coarse = self.coarse(x)
        for level, up in zip(levels[-2::-1], reversed(self.up), strict=True):
            x = up(torch.cat([level, F.interpolate(x, level.shape[-2:], mode="bilinear", align_corners=False)], 1))
        return sum(
            F.interpolate(logits, size, mode="bilinear", align_corners=False) for logits in (self.head(x), coarse)
        )

    def _layers(self) -> tuple[nn.Module, ...]:
        return self.encoder.layer1, self.encoder.layer2, self.encoder.layer3, self.encoder.layer4


class DeepLab(nn.Module):
    """torchvision's DeepLabV3 on a ResNet-50: normalised images (B,3,H,W) -> logits (B,K,H,W)."""

    def __init__(self, num_classes: int, pretrained: bool = False):
        super().__init__()
        self.net = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=None)
        if pretrained:
            state = load_torchvision("resnet50", "default", "IMAGENET1K_V1").state_dict()
            self.net.backbone.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)["out"]


# architecture: network, mean and standard deviation of the images it is made for
ARCHITECTURES = {"deeplab": (DeepLab, IMAGENET_MEAN, IMAGENET_STD), "small": (EncoderDecoder, MEAN, STD)}


class Explainer(nn.Module):
    """The Explainer of a classifier with ``num_classes`` classes: pixels (B,3,H,W) in [0,1] -> mask logits (B,K,H,W).

    ``architecture``: ``deeplab``, the published one, made for 224x224 pixels (its batch norm needs two images or more while training),
    or ``small``, for the embedded images. All weights are random, as published; with ``pretrained`` the backbone starts from one that
    classifies: ImageNet's ResNet-50, or ``embedded/multi-resnet``. The normalisation is inside.

    Raises ValueError for another architecture, RuntimeError where pretrained weights can't be downloaded.
    """

    def __init__(self, num_classes: int, architecture: str = "deeplab", pretrained: bool = False):
        super().__init__()
        check_at_least(1, num_classes=num_classes)
        if architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {architecture!r}: choose {' or '.join(ARCHITECTURES)}")
        kind, mean, std = ARCHITECTURES[architecture]
        self.num_classes, self.architecture = num_classes, architecture
        self.net = kind(num_classes, pretrained)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net((pixels - self.mean) / self.std)

    def masks(self, pixels: Tensor) -> Tensor:
        """The masks (B,K,H,W) in [0,1], float32, of all classes: sigmoid of the logits. In eval mode, no gradient."""
        check_images(pixels)
        was_training = self.training
        if was_training:
            self.eval()
        with torch.no_grad():
            masks = self(pixels).float().sigmoid()
        if was_training:
            self.train()
        return masks

    def explain(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Masks (B,H,W) in [0,1] of each image's own target (B,) int64: `masks` as they are, not min-max normalised."""
        check_targets(targets, pixels.shape[0], self.num_classes)
        return self.masks(pixels)[torch.arange(len(pixels), device=pixels.device), targets]

    def trained_state(self) -> dict[str, Tensor]:
        """Parameters and batch-norm buffers: ``net.*``."""
        return self.state_dict()

    def save(self, file: str | Path, **about: str) -> None:
        """Write the parameters as safetensors, configuration in the metadata; ``about`` adds entries such as the seed."""
        config = {"format": FORMAT, "architecture": self.architecture, "num_classes": str(self.num_classes)}
        storage.write(file, self.trained_state(), config | about)

    @classmethod
    def load(cls, file: str | Path) -> Explainer:
        """The Explainer saved at ``file``, in eval mode. Raises FileNotFoundError, and ValueError for a file that is no Explainer."""
        config, state = _read(file)
        explainer = cls(int(config["num_classes"]), config["architecture"])
        explainer.fill(state, file)
        return explainer.eval()

    def fill(self, state: dict[str, Tensor], source: str | Path) -> None:
        """Take over trained parameters; ValueError names the keys or shapes that don't fit, and what to do."""
        storage.check_fits(self.trained_state(), state, source, REMEDY)
        self.load_state_dict(state)


def saved_config(file: str | Path) -> dict[str, str]:
    """The metadata of a saved Explainer: architecture, num_classes, and what was added at saving."""
    return _read(file)[0]


def _read(file: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    required = ("architecture", "num_classes")
    return storage.read(
        file, FORMAT, "an Explainer saved by Explainer.save", "notebooks/07_explainer_train.ipynb", required
    )
