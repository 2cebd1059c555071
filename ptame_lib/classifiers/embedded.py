"""The small networks of the embedded profile: three classifiers and one auxiliary.

They take normalised images (B,3,64,64) and give logits (B,10). Blocks come from torchvision and timm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation

MEAN, STD = (0.36, 0.36, 0.36), (0.23, 0.23, 0.23)  # of the training images, rounded and averaged over colours


class VGGLike(nn.Module):
    """Eight 3x3 convolutions, two per resolution (64, 32, 16, 8), average pooling, one linear layer."""

    def __init__(self, num_classes: int = 10, widths: tuple[int, ...] = (16, 32, 64, 128)):
        super().__init__()
        blocks, inside = [], 3
        for width in widths:
            blocks += [Conv2dNormActivation(inside, width), Conv2dNormActivation(width, width), nn.MaxPool2d(2)]
            inside = width
        self.features = nn.Sequential(*blocks)
        self.fc = nn.Linear(inside, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class ResNetLike(nn.Module):
    """A stem of stride 2 and one basic block per stage (32, 16, 8, 4 pixels per side)."""

    def __init__(self, num_classes: int = 10, widths: tuple[int, ...] = (24, 48, 96, 192)):
        super().__init__()
        self.stem = Conv2dNormActivation(3, widths[0], stride=2)
        self.layer1 = _stage(widths[0], widths[0], 1)
        self.layer2 = _stage(widths[0], widths[1], 2)
        self.layer3 = _stage(widths[1], widths[2], 2)
        self.layer4 = _stage(widths[2], widths[3], 2)
        self.fc = nn.Linear(widths[3], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


def _stage(inside: int, outside: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride > 1 or inside != outside:
        shortcut = Conv2dNormActivation(inside, outside, 1, stride, activation_layer=None)
    return nn.Sequential(BasicBlock(inside, outside, stride, shortcut))


class ViTLike(nn.Module):
    """Five 3x3 convolutions down to stride 8, then transformer blocks on 8x8 tokens.

    ``token_head`` classifies each token (the ten digits or background). Only training uses it: without it, so small a
    transformer does not learn from a few thousand images where to look.
    """

    grid = 8  # tokens per side

    def __init__(
        self,
        num_classes: int = 10,
        dim: int = 96,
        depth: int = 3,
        heads: int = 4,
        widths: tuple[int, ...] = (24, 48, 48, 96),
    ):
        from timm.models.vision_transformer import Block  # here, since timm takes half a second

        super().__init__()
        stem, inside = [], 3
        for width, stride in zip((*widths, dim), (2, 1, 2, 1, 2), strict=True):
            stem.append(Conv2dNormActivation(inside, width, stride=stride))
            inside = width
        self.stem = nn.Sequential(*stem)
        self.position = nn.Parameter(torch.randn(1, self.grid**2, dim) * 0.02)
        self.blocks = nn.Sequential(*(Block(dim, heads, mlp_ratio=2) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        self.token_head = nn.Linear(dim, num_classes + 1)

    def tokens(self, x: Tensor) -> Tensor:
        """Normalised images -> (B,64,dim)."""
        x = self.stem(x).flatten(2).transpose(1, 2) + self.position
        return self.norm(self.blocks(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tokens(x).mean(1))


def build(name: str) -> nn.Module:
    """The untrained network ``vgg``, ``resnet``, ``vit`` or ``auxiliary`` (a narrower ResNet).

    ``multi-vgg`` and ``multi-resnet`` are the same networks, to train on several labels per image.
    """
    return {
        "vgg": VGGLike,
        "resnet": ResNetLike,
        "vit": ViTLike,
        "multi-vgg": VGGLike,
        "multi-resnet": ResNetLike,
        "auxiliary": lambda: ResNetLike(widths=(16, 32, 64, 128)),
    }[name]()
