"""The state behind the page of notebook 09: an image, a class, methods, a share of kept pixels.

    explorer = Explorer(classifier, methods)
    explorer.open(pixels)                       # (3,H,W) in [0,1]; explains the classifier's decision
    print(explorer.at(0.15)["Grad-CAM"].evidence.text())    # what the first 15 % of pixels are worth

Maps are computed once for each image and class. Another share costs four questions to the classifier about each map.
Pictures, bars and sentences are all about the pixels then shown.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor, nn

from ptame_lib.classifiers.wrapper import device_of
from ptame_lib.datasets.folders import Pictures, Size, before_crop
from ptame_lib.masking import normalise, resize
from ptame_lib.metrics.evidence import FILLS, Evidence, at_share, evidence, fill_in, joined
from ptame_lib.texts import MOST, printable

from .figures import MAP_COLOURS

Explain = Callable[[Tensor, Tensor], Tensor]
LARGEST = 50 * 2**20  # bytes of an uploaded file


@dataclass(frozen=True)
class View:
    """What the classifier answers to the pixels shown and to the rest, for one map.

    ``evidence``: in numbers and words. ``images``: of each fill, the pixels shown and the rest, both (3,H,W).
    """

    evidence: Evidence
    images: dict[str, tuple[Tensor, Tensor]]

    def answer(self, part: str, fill: str = "black") -> tuple[float, int]:
        """The class's probability, and the decision, on the ``part`` (kept or rest) with the others as the ``fill``."""
        k = list(FILLS).index(fill)
        columns = getattr(self.evidence, part), getattr(self.evidence, f"{part}_decisions")
        return columns[0][0, k].item(), columns[1][0, k].item()

    @property
    def kept(self) -> float:
        """The class's probability on the pixels shown, all others black."""
        return self.answer("kept")[0]

    @property
    def rest(self) -> float:
        """The class's probability on the image without them, black in their place."""
        return self.answer("rest")[0]


@dataclass(frozen=True)
class Explained:
    """One method's map (H,W) in [0,1] of the open image, at its size, and its `Evidence` for the usual share."""

    mask: Tensor
    evidence: Evidence


class Explorer:
    """Explains one image at a time by several methods.

    ``classifier``: pixels -> logits. ``methods``: name -> (pixels, targets) -> maps, such as a `Method` or
    ``PTAME.explain``. After `open`: ``pixels`` (1,3,H,W); ``probabilities`` (K,) float64 of the whole image;
    ``target``, the class to explain, by default the decision. Images and maps stay on the classifier's device; a
    `View`'s images are on the CPU.
    """

    def __init__(self, classifier: nn.Module, methods: Mapping[str, Explain]):
        if not methods:
            raise ValueError("no methods to show: give at least one")
        self.classifier, self.methods = classifier, dict(methods)
        self.device = device_of(classifier)
        self.pixels: Tensor | None = None
        self._known: dict[tuple[str, int], Explained] = {}

    def open(self, pixels: Tensor) -> None:
        """Take another image (3,H,W) in [0,1]; ValueError for another shape."""
        if pixels.ndim != 3 or pixels.shape[0] != 3:
            raise ValueError(f"an image (3,H,W) is wanted, got {tuple(pixels.shape)}")
        self.pixels = pixels[None].to(self.device)
        self._known.clear()
        self.probabilities = self._ask(self.pixels)[0]
        self.target = int(self.probabilities.argmax())

    def name(self, c: int) -> str:
        """The name of class ``c`` to show: its label as by `printable`, or ``class 3``."""
        labels = getattr(self.classifier, "labels", None)
        return printable(labels[c], MOST) if labels else f"class {c}"

    def top(self, n: int = 5) -> list[tuple[int, float]]:
        """The ``n`` most probable classes of the whole image, as (class, probability)."""
        found = self._opened().topk(min(n, len(self.probabilities)))
        return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))

    def choose(self, target: int) -> None:
        """Explain another class; ValueError for one that the classifier does not have."""
        classes = len(self._opened())
        if not 0 <= target < classes:
            raise ValueError(f"classes are 0..{classes - 1}, got {target}")
        self.target = target

    def explained(self, method: str) -> Explained:
        """The method's map for the open image and class, with its evidence; computed once."""
        self._opened()
        key = (method, self.target)
        if key not in self._known:
            targets = torch.tensor([self.target], device=self.device)
            maps = self.methods[method](self.pixels, targets)
            proof = evidence(self.classifier, self.pixels, targets, maps)
            self._known[key] = Explained(resize(normalise(maps), self.pixels.shape[-2:])[0], proof)
        return self._known[key]

    def at(self, share: float) -> dict[str, View]:
        """Each method's `View` if the ``share`` of pixels with the largest values is shown, as by `first_pixels`.

        Raises ValueError for a share outside (0, 1].
        """
        # all methods in one batch
        known = [self.explained(name) for name in self.methods]
        masks = torch.stack([found.mask for found in known])  # (M,H,W)
        pixels = self.pixels.expand(len(masks), -1, -1, -1)
        proof = at_share(joined([found.evidence for found in known]), self.classifier, pixels, masks, share)
        parts = (proof.pixels_shown, ~proof.pixels_shown)
        shown = {fill: [fill_in(pixels, seen, fill).cpu() for seen in parts] for fill in FILLS}
        return {
            name: View(proof[i], {fill: (kept[i], rest[i]) for fill, (kept, rest) in shown.items()})
            for i, name in enumerate(self.methods)
        }

    @torch.no_grad()
    def _ask(self, pixels: Tensor) -> Tensor:
        return self.classifier(pixels).double().softmax(1)

    def _opened(self) -> Tensor:
        if self.pixels is None:
            raise ValueError("no image is open: call open(pixels) first")
        return self.probabilities


class _Upload(Pictures):
    """The content of one image file, read as files in a folder are."""

    def __init__(self, content: bytes, size: Size):
        super().__init__(size, before_crop(size))
        self.names, self.labels, self.where, self.content = ["image"], [-1], "upload", content

    def _open(self, i: int) -> io.BytesIO:
        return io.BytesIO(self.content)


def read_image(content: bytes, size: Size, name: str = "the file") -> Tensor:
    """An image file's content as pixels of ``size`` in [0,1], resized and cropped as by `ImageFolder`.

    ``size``: a side, or (height, width).

    Raises ValueError, with the ``name`` that users know, for content that is not an image or larger than `LARGEST`,
    which is not decoded.
    """
    if len(content) > LARGEST:
        sizes = f"{len(content) / 2**20:.0f} MB, more than {LARGEST // 2**20} MB"
        raise ValueError(f"{printable(name, MOST)} has {sizes}: make the image smaller")
    try:
        return _Upload(content, size)[0]["pixels"]
    except ValueError as error:
        raise ValueError(f"{printable(name, MOST)} can't be read as an image: choose another one") from error


def overlay(image: Tensor, mask: Tensor) -> Tensor:
    """A map (H,W) in colours over the grey image (3,H,W), as in `one_image.explanation`."""
    heat = torch.from_numpy(colormaps[MAP_COLOURS](mask.cpu().numpy())[..., :3]).permute(2, 0, 1).float()
    return 0.65 * heat + 0.35 * image.cpu().mean(0, keepdim=True)


def png(image: Tensor) -> bytes:
    """An image (3,H,W) in [0,1] as a PNG file's content."""
    file = io.BytesIO()
    values = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous()
    Image.fromarray(values.numpy()).save(file, "png", compress_level=1)  # small enough, and fast
    return file.getvalue()
