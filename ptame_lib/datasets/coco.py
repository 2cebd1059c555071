"""MS COCO 2014 as label vectors and object masks, over torchvision's loader and in the release's own folder layout."""

from __future__ import annotations

import contextlib
import io
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CocoDetection

from .voc import resized, resized_truth

SPLITS = ("train", "val", "test")


URL = "http://images.cocodataset.org/"


IDS = 91  # category ids 0..90, of which 80 are used


HELD_OUT = 0.1  # share of train2014 that is the split val


class COCO(torch.utils.data.Dataset):
    """A part of COCO-2014 below ``folder``, which holds ``train2014``, ``val2014`` and ``annotations``.

    ``train`` and ``val`` are nine tenths and one tenth of train2014, drawn by the seed; ``test`` is ``test_images`` images of val2014,
    drawn by the seed. Images without any object are left out.

    An item is a dict of ``pixels`` (3,size,size) float32 in [0,1], resized without keeping the aspect, ``labels`` (91,) bool by category
    id, and ``truth`` (size,size) bool: the pixels of any object. ``names`` are the categories' names, empty for unused ids.

    Raises ValueError for another split, FileNotFoundError where the data or a file of it are missing.
    """

    def __init__(self, folder: str | Path, split: str, size: int = 224, *, test_images: int = 2000, seed: int = 0):
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: COCO-2014 has {', '.join(SPLITS)}")
        folder, part = Path(folder).expanduser(), "val2014" if split == "test" else "train2014"
        annotations = folder / "annotations" / f"instances_{part}.json"
        for path, archive in (
            (folder / part, f"zips/{part}.zip"),
            (annotations, "annotations/annotations_trainval2014.zip"),
        ):
            if not path.exists():
                raise FileNotFoundError(
                    f"no COCO-2014 at {folder} ({path} is missing): download {URL}{archive} and unzip it there"
                )
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its loading
            self._parts = CocoDetection(folder / part, annotations)
        coco = self._parts.coco
        ids = [i for i in self._parts.ids if coco.getAnnIds(i)]
        order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
        cut = test_images if split == "test" else round(HELD_OUT * len(ids))
        self._parts.ids = sorted(ids[k] for k in (order[cut:] if split == "train" else order[:cut]))
        self.size = size
        self.names = tuple(coco.cats[i]["name"] if i in coco.cats else "" for i in range(IDS))

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        try:
            image, objects = self._parts[i]
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error.filename} of COCO-2014 is missing: unzip the archive again") from error
        truth = np.logical_or.reduce([self._parts.coco.annToMask(one) > 0 for one in objects])
        return {
            "pixels": resized(image, self.size),
            "labels": _present(objects),
            "truth": resized_truth(truth, self.size),
        }

    @cached_property
    def labels(self) -> Tensor:
        """The labels (N,91) bool of all images, read from the annotations alone."""
        return torch.stack([_present(self._parts._load_target(i)) for i in self._parts.ids])


def _present(objects: list[dict]) -> Tensor:
    labels = torch.zeros(IDS, dtype=torch.bool)
    labels[[one["category_id"] for one in objects]] = True
    return labels
