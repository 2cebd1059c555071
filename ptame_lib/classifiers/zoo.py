"""The zoo: small networks that look at one known thing each, and an auxiliary that knows no class of theirs.

`datasets.evidence` has their images: 64x64 pixels in which seven things could decide. Seven networks have one
architecture, one for each of the seven; two more have others. ``rotations`` knows how far such an image was turned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from .embedded import ResNetLike, ViTLike

EVIDENCE = {  # network: what it looks at, as `datasets.evidence` names it
    **{name: name for name in ("shape", "badge", "frame", "second", "quadrant", "watermark", "background")},
    "badge-resnet": "badge",
    "quadrant-vit": "quadrant",
}
ZOO = tuple(f"zoo/{name}" for name in EVIDENCE)
AUXILIARY = "zoo/rotations"


class ZooNet(nn.Module):
    """Seven 3x3 convolutions (one at 32, two each at 32, 16 and 8 pixels per side), average pooling, one linear layer.

    Normalised images (B,3,64,64) -> logits.
    """

    def __init__(self, num_classes: int = 10, widths: tuple[int, ...] = (16, 32, 64)):
        super().__init__()
        blocks, inside = [Conv2dNormActivation(3, widths[0], stride=2)], widths[0]
        for width in widths:
            blocks += [nn.MaxPool2d(2)] * (len(blocks) > 1)
            blocks += [Conv2dNormActivation(inside, width), Conv2dNormActivation(width, width)]
            inside = width
        self.features = nn.Sequential(*blocks)
        self.fc = nn.Linear(inside, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


_ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "badge-resnet": partial(ResNetLike, widths=(12, 24, 40, 64)),
    "quadrant-vit": partial(ViTLike, dim=48, depth=2, widths=(12, 24, 32, 48)),
    "rotations": partial(ResNetLike, widths=(16, 32, 60, 60)),  # the first two levels as wide as the digits' auxiliary
}


def build(name: str) -> nn.Module:
    """The untrained network of a name in `EVIDENCE`, or ``rotations``; four classes for quadrants and rotations."""
    return _ARCHITECTURES.get(name, ZooNet)(classes_of(name))


def classes_of(name: str) -> int:
    """How many classes the network of this name has."""
    return 4 if name == "rotations" or EVIDENCE[name] == "quadrant" else 10
