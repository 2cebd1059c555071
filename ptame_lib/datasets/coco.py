"""MS COCO 2014 in the release's folder layout, as label vectors and object masks."""

from __future__ import annotations

import contextlib
import io
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CocoDetection

from .images import check_split, naming_missing, to_square, truth_to_square

SPLITS = ("train", "val", "test")
URL = "http://images.cocodataset.org/"
IDS = 91  # category ids 0..90, of which 80 are used
HELD_OUT = 0.1  # share of train2014 that is the split val


class COCO(torch.utils.data.Dataset):
    """A part of COCO-2014 below ``folder``, which holds ``train2014``, ``val2014`` and ``annotations``.

    The seed divides train2014 into ``train`` (nine tenths) and ``val``, and draws the ``test_images`` of ``test`` from
    val2014. Images without any object are left out.

    An item is a dict of ``pixels`` (3,size,size) float32 in [0,1], resized without keeping the aspect, ``labels`` (91,)
    bool by category id, and ``truth`` (size,size) bool: the pixels of any object. ``names`` are the names of the
    categories, empty for unused ids. Objects whose outlines have fewer than three points are labels without pixels.

    Raises ValueError for another split, FileNotFoundError if the data or a file of it is missing.
    """

    def __init__(self, folder: str | Path, split: str, size: int = 224, *, test_images: int = 2000, seed: int = 0):
        check_split(split, SPLITS, "COCO-2014")
        # the release's files
        folder, part = Path(folder).expanduser(), "val2014" if split == "test" else "train2014"
        annotations = folder / "annotations" / f"instances_{part}.json"
        archives = {folder / part: f"zips/{part}.zip", annotations: "annotations/annotations_trainval2014.zip"}
        for path, archive in archives.items():
            if not path.exists():
                remedy = f"download {URL}{archive} and unzip it there"
                raise FileNotFoundError(f"no COCO-2014 at {folder} ({path} is missing): {remedy}")
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its loading
            self._parts = CocoDetection(folder / part, annotations)
        # the split's images
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
        with naming_missing("COCO-2014", "unzip the archive again"):
            image, objects = self._parts[i]
        masks = [self._parts.coco.annToMask(outline) > 0 for outline in map(_outline, objects) if outline]
        truth = np.logical_or.reduce(masks) if masks else np.zeros((image.height, image.width), dtype=bool)
        pixels, truth = to_square(image, self.size), truth_to_square(truth, self.size)
        return {"pixels": pixels, "labels": _present(objects), "truth": truth}

    @cached_property
    def labels(self) -> Tensor:
        """The labels (N,91) bool of all images, read from the annotations alone."""
        return torch.stack([_present(self._parts._load_target(i)) for i in self._parts.ids])


def _outline(one: dict) -> dict | None:
    """An object with the polygons that have an area; None without any.

    pycocotools would take a list of four numbers for a box, and fails on an empty one.
    """
    parts = one.get("segmentation") or []
    if isinstance(parts, dict):  # run lengths
        return one
    parts = [part for part in parts if len(part) >= 6]
    return one | {"segmentation": parts} if parts else None


def _present(objects: list[dict]) -> Tensor:
    labels = torch.zeros(IDS, dtype=torch.bool)
    labels[[one["category_id"] for one in objects]] = True
    return labels
