"""Data sets of composed images: what the embedded data and the cutouts share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import files
from ..progress import progress

KEYS = ("images", "labels", "truth")


@dataclass(frozen=True)
class Composed(torch.utils.data.Dataset):
    """Composed images with their truth.

    ``images`` (N,3,H,W) uint8; ``labels`` (N,) int64, or several per image (N,...); ``truth``, the pixels of what was
    pasted, (N,H,W) bool, or (N,K,H,W) with several masks. An item is a dict of ``pixels`` (3,H,W) float32 in [0,1],
    ``label`` (``labels`` if there are several) and ``truth``.
    """

    images: Tensor
    labels: Tensor
    truth: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        label = "label" if self.labels.ndim == 1 else "labels"
        return {"pixels": self.images[i].float() / 255, label: self.labels[i], "truth": self.truth[i]}


def compose(n: int, what: str, one: Callable[[int], tuple[np.ndarray, Any, np.ndarray]]) -> tuple[Tensor, ...]:
    """The images, labels and truths of `Composed`, from ``one(i)``: canvas (H,W,3) in [0,1], label, truth."""
    rows = []
    with progress(n, f"compose {what} images") as bar:
        for i in range(n):
            canvas, *known = one(i)
            rows.append((np.round(np.clip(canvas, 0, 1) * 255).astype(np.uint8), *known))
            bar.update()
    images, labels, truth = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
    return images.permute(0, 3, 1, 2).contiguous(), labels, truth


def remembered(name: str, make: Callable[[], tuple[Tensor, ...]], cached: bool = True) -> tuple[Tensor, ...]:
    """What ``make()`` gives, from the file of this name in the cache folder if it was made before.

    A damaged file is made again. Not ``cached``: neither read nor written.
    """
    file = files.cache() / f"{name}.safetensors" if cached else Path()
    if cached and file.is_file():
        try:
            with safe_open(file, "pt") as tensors:
                return tuple(tensors.get_tensor(key) for key in KEYS)
        except (SafetensorError, OSError):
            file.unlink()
    found = make()
    if cached:
        with files.whole(file) as unfinished:
            save_file(dict(zip(KEYS, found, strict=True)), unfinished)
    return found
