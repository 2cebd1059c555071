"""The Explainer: a segmentation network that gives a mask per class of a (multi-label) classifier.

Stalder, Perraudin, Achanta, Perez-Cruz, Volpi, "What You See is What You Classify: Black Box Attributions", NeurIPS
2022.

    explainer = Explainer(10, "small")
    train_explainer(explainer, classifier, train, val)      # once per classifier
    masks = explainer.masks(pixels)                         # (B,K,H,W) in [0,1], of all classes
    mask = aggregate_masks(masks, labels)                   # (B,H,W), of all labels of an image together

Unlike P-TAME's maps, its masks are not min-max normalised: the mask of an absent class should be empty.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_resnet50
from torchvision.ops import Conv2dNormActivation

from ..classifiers import lite
from ..classifiers.embedded import MEAN, STD
from ..classifiers.loading import lite_multi_classes, load_embedded_net, load_lite, load_torchvision
from ..classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD, eval_mode
from ..validation import check_at_least, check_images, check_targets
from . import storage


class EncoderDecoder(nn.Module):
    """A small U-Net for 64x64 pixels, 1 M parameters: normalised images (B,3,H,W) -> logits (B,K,H,W).

    The encoder is the embedded `ResNetLike`, with levels of stride 2, 4, 8 and 16. On the way back each level is
    upsampled, concatenated with the one above and convolved. The logits of the first level (where) and of the last
    (which class) are upsampled to the image and added.
    """

    def __init__(self, num_classes: int, pretrained: bool = False):
        super().__init__()
        # the way down
        self.encoder = load_embedded_net("embedded/multi-resnet", "default" if pretrained else None)
        widths = tuple(layer[0].conv1.out_channels for layer in self._layers())
        # the way back, and the logits of the first and the last level
        self.up = nn.ModuleList(Conv2dNormActivation(a + b, a) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.coarse = nn.Conv2d(widths[-1], num_classes, 1)
        # start from the encoder's own classes, if they are as many: its linear layer, applied at every position
        if pretrained and num_classes == self.encoder.fc.out_features:
            self.coarse.weight.data = self.encoder.fc.weight.data[:, :, None, None].clone()
            self.coarse.bias.data = self.encoder.fc.bias.data.clone()
        del self.encoder.fc

    def forward(self, x: Tensor) -> Tensor:
        size, levels = x.shape[-2:], []
        # down
        x = self.encoder.stem(x)
        for layer in self._layers():
            x = layer(x)
            levels.append(x)  # (B, widths[l], H / 2^(l+1), W / 2^(l+1))
        coarse = self.coarse(x)  # (B, K, H / 16, W / 16)
        # and back
        for level, up in zip(levels[-2::-1], reversed(self.up), strict=True):
            x = up(torch.cat([level, _resize(x, level.shape[-2:])], 1))
        return sum(_resize(logits, size) for logits in (self.head(x), coarse))

    def _layers(self) -> tuple[nn.Module, ...]:
        return self.encoder.layer1, self.encoder.layer2, self.encoder.layer3, self.encoder.layer4


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


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


class LiteEncoderDecoder(nn.Module):
    """A U-Net for 224x224 pixels on EfficientNet-Lite0: normalised images (B,3,H,W) -> logits (B,K,H,W).

    As `EncoderDecoder`, with levels of stride 4, 8, 16 and 32. A pretrained encoder (ImageNet, from its wheel) stays as
    it is, so that minutes are enough to train the rest.
    """

    LEVELS = (1, 2, 4, 6)  # of the encoder's blocks: the last of each stride

    def __init__(self, num_classes: int, pretrained: bool = False):
        super().__init__()
        # the way down
        self.encoder = load_lite("lite/0", "default" if pretrained else None)
        rows, biases = self.encoder.classifier.weight.detach(), self.encoder.classifier.bias.detach()
        del self.encoder.classifier
        self.fixed = pretrained
        self.encoder.requires_grad_(not pretrained)
        self.train()
        # the way back, and the logits of the first level and of the last layer before pooling
        widths = (24, 40, 112, 320)
        self.up = nn.ModuleList(Conv2dNormActivation(a + b, a) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.coarse = nn.Conv2d(rows.shape[1], num_classes, 1)
        # start from the encoder's class activation maps, where the classes are those of lite/multi
        known = lite_multi_classes() if pretrained else []
        if num_classes == len(known):
            self.coarse.weight.data = UNIT * START[0] * (rows[known] - rows.mean(0))[:, :, None, None]
            self.coarse.bias.data = START[0] * (biases[known] - biases.mean()) + START[1]
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> LiteEncoderDecoder:
        """An encoder that stays as it is also keeps its batch norms' statistics."""
        super().train(mode)
        if self.fixed:
            self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        size, levels, e = x.shape[-2:], [], self.encoder
        # down
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.fixed):
            x = e.bn1(e.conv_stem(x))
            for i, block in enumerate(e.blocks):
                x = block(x)
                if i in self.LEVELS:
                    levels.append(x)  # (B, widths[l], H / 2^(l+2), W / 2^(l+2))
            last = e.bn2(e.conv_head(x))
        coarse = self.coarse(last / UNIT)  # (B, K, H / 32, W / 32)
        # and back
        for level, up in zip(levels[-2::-1], reversed(self.up), strict=True):
            x = up(torch.cat([level, _resize(x, level.shape[-2:])], 1))
        return sum(_resize(logits, size) for logits in (self.head(x), coarse))


UNIT = 10.0  # of the 1280 features: else a step of Adam would move what the encoder knows of the classes too far
# of the class activation maps as mask logits: their scale, and what is added, so that most pixels begin outside
START = (0.3, -3.6)

# architecture: (network, mean and standard deviation of the images it is made for)
ARCHITECTURES = {
    "deeplab": (DeepLab, IMAGENET_MEAN, IMAGENET_STD),
    "small": (EncoderDecoder, MEAN, STD),
    "lite": (LiteEncoderDecoder, lite.MEAN, lite.STD),
}


class Explainer(nn.Module):
    """The Explainer of a classifier with K classes: pixels (B,3,H,W) in [0,1] -> mask logits (B,K,H,W).

    ``architecture``: ``deeplab``, the published one for 224x224 pixels (it trains on batches of two images or more), or
    ``small``, for the embedded images, or ``lite``, for photographs of 224x224 pixels on a CPU. ``pretrained``: the
    backbone starts from a classifier's (ImageNet's ResNet-50, ``embedded/multi-resnet``, ``lite/0``) instead of random
    weights, as published. The normalisation is inside.

    Raises ValueError for another architecture, RuntimeError if pretrained weights can't be downloaded.
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
        """Masks (B,K,H,W) in [0,1], float32: sigmoid of the logits. In eval mode, without gradient."""
        check_images(pixels)
        with eval_mode(self), torch.no_grad():
            return self(pixels).float().sigmoid()

    def explain(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Masks (B,H,W) in [0,1] of each image's own target (B,) int64, not min-max normalised."""
        check_targets(targets, pixels.shape[0], self.num_classes)
        return self.masks(pixels)[torch.arange(len(pixels), device=pixels.device), targets]

    # saving and loading

    def trained_state(self) -> dict[str, Tensor]:
        """Parameters and batch-norm buffers: ``net.*``."""
        return self.state_dict()

    def fill(self, state: dict[str, Tensor], source: str | Path) -> None:
        """Load trained parameters; ValueError names the keys or shapes that don't fit, and the remedy."""
        storage.check_fits(self.trained_state(), state, source, storage.EXPLAINER_FORMAT.remedy)
        self.load_state_dict(state)

    def save(self, file: str | Path, **about: Any) -> None:
        """Write the parameters, with the configuration and ``about`` as metadata (`storage.write`)."""
        form, classes = storage.EXPLAINER_FORMAT.name, str(self.num_classes)
        config = {"format": form, "architecture": self.architecture, "num_classes": classes}
        storage.write(file, self.trained_state(), config, **about)

    @classmethod
    def load(cls, file: str | Path) -> Explainer:
        """The Explainer saved at ``file``, in eval mode; raises as `storage.read` and `fill`."""
        config, state = storage.read(file, storage.EXPLAINER_FORMAT)
        classes, architecture = int(config["num_classes"]), config["architecture"]
        return storage.build(lambda: cls(classes, architecture), state, file, storage.EXPLAINER_FORMAT.remedy)
