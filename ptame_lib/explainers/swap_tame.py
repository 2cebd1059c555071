"""Swap-TAME: P-TAME that must follow its classifier. This study's own variant, not a published method.

    explainer = SwapTAME(load_auxiliary("resnet18"), num_classes=1000)
    train_ptame(explainer, classifier, images, swap_config(TrainingConfig()))

P-TAME's loss is content with a map of what is striking: the object. Two changes make the map depend on the classifier:

- the training moves what the map puts first to another image, which must then be decided as this one, and pastes the
  other image's pixels at these places, with which this one must be decided as the other (`losses.swaps`); with
  ``TrainingConfig(regions=20)`` it also moves regions drawn without the map (`losses.regions`), as evidence that is
  most of an image needs;
- the attention knows more: where a position lies, what is around it, and the pixels themselves. What is added starts at
  0, so that before the training this is P-TAME.

Where the auxiliary knows the classes (`PTAME.start_from_head`), another part serves better than these, a *gate*: one
map for all classes, by which each class's map is multiplied. The fuser adds, so what it learns of objects lifts the
other objects of an image, too; a gate weakens what is no object and leaves the classes apart as they are.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn

from ..masking import normalise, resize
from . import storage
from .features import FeatureExtractor
from .ptame import PTAME

PARTS = ("positions", "neighbours", "pixels")  # that the attention has beyond P-TAME's
GATE = "gate"
ALL_PARTS = (*PARTS, GATE)
CLOSED = 0.1  # what a closed gate leaves of a map
PIXEL_CHANNELS = 8


def positions(features: Tensor) -> Tensor:
    """Channels (1,7,h,w) that tell where a position of features (B,C,h,w) lies, all in [-1,1], of their type.

    Down y, across x, y x, y^2, x^2, the distance from the middle max(|x|,|y|), and how close to the border.
    """
    h, w = features.shape[-2:]
    y = torch.linspace(-1, 1, h, device=features.device)[:, None].expand(h, w)
    x = torch.linspace(-1, 1, w, device=features.device)[None].expand(h, w)
    edge = torch.maximum(y.abs(), x.abs())
    found = torch.stack([y, x, y * x, y.square(), x.square(), edge, 5 * (edge - 0.8).relu()])
    return found[None].to(features.dtype)


class SwapTAME(PTAME):
    """P-TAME with positions, neighbours and the pixels themselves in its attention; saved and trained like it.

    ``parts``: which of `PARTS` it has, and whether a `GATE`. Raises ValueError for another part, TypeError for text.
    """

    method = "Swap-TAME"

    def __init__(
        self,
        auxiliary: FeatureExtractor,
        num_classes: int,
        fuser_bias: bool = False,
        one_step: bool = False,
        parts: tuple[str, ...] = PARTS,
    ):
        super().__init__(auxiliary, num_classes, fuser_bias, one_step)
        if isinstance(parts, str):
            raise TypeError(f"parts are a list of names, got {parts!r}: write [{parts!r}]")
        if unknown := set(parts) - {*ALL_PARTS}:
            raise ValueError(f"unknown parts {', '.join(sorted(unknown))}: choose among {', '.join(ALL_PARTS)}")
        self.parts = tuple(part for part in ALL_PARTS if part in parts)
        added = []
        # beside each level's 1x1 convolution: one of the positions, and a 5x5 one of each channel's neighbourhood
        if "positions" in parts:
            self.places = nn.ModuleList(nn.Conv2d(7, c, 1) for c in auxiliary.channels)
            added += self.places
        if "neighbours" in parts:
            self.nears = nn.ModuleList(nn.Conv2d(c, c, 5, padding=2, groups=c) for c in auxiliary.channels)
            added += self.nears

        # a level before the first: what a small network of 7x7 pixels sees
        if "pixels" in parts:
            n = PIXEL_CHANNELS
            self.pixels = nn.Sequential(
                *(nn.Conv2d(3, n, 3, padding=1), nn.BatchNorm2d(n), nn.ReLU()),
                *(nn.Conv2d(n, n, 3, padding=2, dilation=2), nn.BatchNorm2d(n), nn.ReLU()),
            )
            self.channels = (n, *self.channels)
            self.fuser = nn.Conv2d(sum(self.channels), num_classes, 1, bias=fuser_bias)
            nn.init.zeros_(self.fuser.weight[:, :n].detach())

        # one number for each position of all levels but the last, the coarsest
        if GATE in parts:
            gated = auxiliary.channels[:-1] or auxiliary.channels
            self.gates = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(c), nn.Conv2d(c, 1, 1)) for c in gated)
            added += [conv for _, conv in self.gates]
        for conv in added:
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)

    def attention(self, pixels: Tensor) -> list[Tensor]:
        """Pixels (B,3,H,W) in [0,1] -> attended maps L x (B,C_l,h_l,w_l), with `PIXEL_CHANNELS` of (H,W) before."""
        with torch.no_grad():
            features = self.auxiliary(pixels)
        own = self.fuser.weight.dtype  # the auxiliary converts pixels to its own type, too
        attended = [self.pixels((pixels - 0.5).to(own))] if "pixels" in self.parts else []
        for level, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            f = features[level]  # (B,C,h,w)
            total = bn(conv(f)) + f
            if "positions" in self.parts:
                total = total + self.places[level](positions(f))
            if "neighbours" in self.parts:
                total = total + self.nears[level](f)
            attended.append(total.relu())
        return attended

    def fuse_all(self, attended: list[Tensor], classes: Tensor | None) -> Tensor:
        """As `PTAME.fuse_all`; with a gate, each map is min-max normalised and multiplied by it."""
        return self._gated(super().fuse_all(attended, classes), attended)

    def fuse_own(self, attended: list[Tensor], targets: Tensor) -> Tensor:
        """As `PTAME.fuse_own`, gated as by `fuse_all`."""
        return self._gated(super().fuse_own(attended, targets)[:, None], attended)[:, 0]

    def _gated(self, maps: Tensor, attended: list[Tensor]) -> Tensor:
        """Maps (B,n,h,w) times the gate (B,1,h,w), from `CLOSED` to 1, if there is one."""
        if GATE not in self.parts:
            return maps
        levels = attended[1:] if "pixels" in self.parts else attended  # the pixels' level has no gate
        opening = sum(resize(gate(f)[:, 0], maps.shape[-2:]) for gate, f in zip(self.gates, levels, strict=False))
        gate = CLOSED + (1 - CLOSED) * opening.sigmoid()  # (B,h,w)
        return normalise(maps.flatten(0, 1)).view_as(maps) * gate[:, None]

    def start_from_head(self, head: Tensor, scale: float = 0.2) -> SwapTAME:
        """As `PTAME.start_from_head`. With a gate it alone is then trained: what is known of the classes stays."""
        super().start_from_head(head, scale)
        if GATE in self.parts:
            self.requires_grad_(False).gates.requires_grad_(True)
        return self

    def config(self) -> dict[str, str]:
        """As `PTAME.config`, with the method and its parts."""
        return super().config() | {"method": self.method, "parts": json.dumps(self.parts)}

    @classmethod
    def from_config(cls, config: dict[str, str], auxiliary: FeatureExtractor) -> SwapTAME:
        """As `PTAME.from_config`."""
        parts = storage.entry(config, "parts", storage.names, "a list of names")
        return super().from_config(config, auxiliary, parts=parts)
