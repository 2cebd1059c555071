"""The state behind the page of notebook 09: an image, a class, some methods, a share of kept pixels; no widgets in here.

    explorer = Explorer(classifier, methods)
    explorer.open(pixels)                       # (3,H,W) in [0,1]; explains the classifier's decision
    explorer.at(0.15)["Grad-CAM"].kept          # the class's probability on the first 15 % of pixels

Maps and evidence are computed once for each image and class; a move of the share costs one batch through the classifier.
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
from ptame_lib.datasets.folders import Pictures
from ptame_lib.masking import keep, keep_share, normalise, remove, resize
from ptame_lib.metrics.evidence import Evidence, evidence

from .figures import MAP_COLOURS

Explain = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class View:
    """What a share of the pixels does, each as (on the kept pixels, on the rest): the ``images`` (3,H,W), the explained class's
    ``probabilities`` on them, and the ``decisions`` there."""

    images: tuple[Tensor, Tensor]
    probabilities: tuple[float, float]
    decisions: tuple[int, int]

    @property
    def kept(self) -> float:
        return self.probabilities[0]

    @property
    def rest(self) -> float:
        return self.probabilities[1]


@dataclass(frozen=True)
class Explained:
    """One method's map (H,W) in [0,1] of the open image, at its size, and the `Evidence` for it."""

    mask: Tensor
    evidence: Evidence


class Explorer:
    """``classifier``: pixels -> logits; ``methods``: name -> (pixels, targets) -> maps, such as a `Method` or ``PTAME.explain``.

    After `open`: ``pixels`` (1,3,H,W), ``probabilities`` (K,) float64 of the whole image and ``target``, the class that is explained,
    by default the decision. Images and maps stay on the classifier's device; a view's images are on the CPU.
    """

    def __init__(self, classifier: nn.Module, methods: Mapping[str, Explain]):
        if not methods:
            raise ValueError("no methods to show: give at least one")
        self.classifier, self.methods = classifier, dict(methods)
        self.device = device_of(classifier)
        self.pixels: Tensor | None = None
        self._known: dict[tuple[str, int], Explained] = {}

    def open(self, pixels: Tensor) -> None:
        """Take another image (3,H,W) in [0,1]; raises ValueError for anything else."""
        if pixels.ndim != 3 or pixels.shape[0] != 3:
            raise ValueError(f"an image (3,H,W) is wanted, got {tuple(pixels.shape)}")
        self.pixels = pixels[None].to(self.device)
        self._known.clear()
        self.probabilities = self._ask(self.pixels)[0]
        self.target = int(self.probabilities.argmax())

    def name(self, c: int) -> str:
        """The class for people."""
        labels = getattr(self.classifier, "labels", None)
        return labels[c] if labels else f"class {c}"

    def top(self, n: int = 5) -> list[tuple[int, float]]:
        """The ``n`` classes with the highest probability on the whole image, and that probability."""
        found = self._opened().topk(min(n, len(self.probabilities)))
        return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))

    def choose(self, target: int) -> None:
        """Explain another class; raises ValueError for one that the classifier has not."""
        classes = len(self._opened())
        if not 0 <= target < classes:
            raise ValueError(f"classes are 0..{classes - 1}, got {target}")
        self.target = target

    def explained(self, method: str) -> Explained:
        """The method's map for the open image and class, with its evidence; computed when it is first asked for."""
        self._opened()
        key = (method, self.target)
        if key not in self._known:
            targets = torch.tensor([self.target], device=self.device)
            maps = self.methods[method](self.pixels, targets)
            proof = evidence(self.classifier, self.pixels, targets, maps)
            self._known[key] = Explained(resize(normalise(maps), self.pixels.shape[-2:])[0], proof)
        return self._known[key]

    def at(self, share: float) -> dict[str, View]:
        """Each method's `View` when the ``share`` (0..1] of pixels with the largest values is kept as it is and the others are black.

        A hard mask, as in `Evidence.share`; values tied with the threshold go. The classifier is asked one batch, two images a method.
        Raises ValueError for a share outside (0, 1].
        """
        masks = torch.stack([self.explained(name).mask for name in self.methods])  # (M,H,W)
        hard = torch.ones_like(masks) if share == 1 else (keep_share(masks, share) > 0).float()
        shown = torch.cat([keep(self.pixels, hard), remove(self.pixels, hard)])  # (2M,3,H,W)
        answers = self._ask(shown)
        own, decisions, shown = answers[:, self.target].tolist(), answers.argmax(1).tolist(), shown.cpu()
        pairs = [(i, len(masks) + i) for i in range(len(masks))]  # where each method's two images are
        return {
            name: View(*(tuple(column[i] for i in pair) for column in (shown, own, decisions)))
            for name, pair in zip(self.methods, pairs, strict=True)
        }

    @torch.no_grad()
    def _ask(self, pixels: Tensor) -> Tensor:
        return self.classifier(pixels).double().softmax(1)

    def _opened(self) -> Tensor:
        if self.pixels is None:
            raise ValueError("no image is open: call open(pixels) first")
        return self.probabilities


class _Upload(Pictures):
    """One image file's content, which is in no folder."""

    def __init__(self, content: bytes, size: int, resize: int):
        super().__init__(size, resize)
        self.names, self.labels, self.where, self.content = ["image"], [-1], "upload", content

    def _open(self, i: int) -> io.BytesIO:
        return io.BytesIO(self.content)


def read_image(content: bytes, size: int, name: str = "the file") -> Tensor:
    """An image file's content as pixels (3,size,size) in [0,1], resized and cropped as `recipes.folder` does with files.

    Raises ValueError, with the ``name`` that people know, for content that is no image.
    """
    try:
        return _Upload(content, size, size * 8 // 7)[0]["pixels"]
    except ValueError as error:
        raise ValueError(f"{name} is no image that can be read: choose another one") from error


def overlay(image: Tensor, mask: Tensor) -> Tensor:
    """A map (H,W) in [0,1] in colours over the grey image (3,H,W), as in `figures.explanation`."""
    heat = torch.from_numpy(colormaps[MAP_COLOURS](mask.cpu().numpy())[..., :3]).permute(2, 0, 1).float()
    return 0.65 * heat + 0.35 * image.cpu().mean(0, keepdim=True)


def png(image: Tensor) -> bytes:
    """An image (3,H,W) in [0,1] as a PNG file's content."""
    file = io.BytesIO()
    values = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous()
    Image.fromarray(values.numpy()).save(file, "png", compress_level=1)  # small enough, and fast
    return file.getvalue()
