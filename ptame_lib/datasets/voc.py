"""PASCAL VOC 2007 in the release's folder layout, as label vectors and object masks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import VOCDetection, VOCSegmentation

from .images import check_split, naming_missing, to_square, truth_to_square

SPLITS = ("train", "val", "test")
URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/"
VOID = 255  # between an object and the rest, or too hard to say
RELEASE, REMEDY = "VOC-2007", "unpack the archive again"


class VOC(torch.utils.data.Dataset):
    """The part ``train``, ``val`` or ``test`` of VOC-2007; ``folder`` holds ``VOCdevkit/VOC2007``.

    An item is a dict of ``pixels`` (3,size,size) float32 in [0,1], resized without keeping the aspect, and ``labels``
    (20,) bool: the classes of all annotated objects, including difficult ones. With ``truth`` only the images with a
    segmentation are in it (209 / 213 / 210 of 2501 / 2510 / 4952), and an item also has ``truth`` (size,size) bool: the
    pixels of any object, without void pixels.

    Raises ValueError for another split, FileNotFoundError if the data or a file of it is missing.
    """

    names = (
        *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    )

    def __init__(self, folder: str | Path, split: str, size: int = 224, *, truth: bool = False):
        check_split(split, SPLITS, RELEASE)
        folder = Path(folder).expanduser()
        listed = folder / "VOCdevkit" / "VOC2007" / "ImageSets" / ("Segmentation" if truth else "Main") / f"{split}.txt"
        if not listed.is_file():
            archive = "VOCtest_06-Nov-2007.tar" if split == "test" else "VOCtrainval_06-Nov-2007.tar"
            remedy = f"download {URL}{archive} and unpack it there with tar -xf {archive}"
            raise FileNotFoundError(f"no {RELEASE} at {folder} ({listed} is missing): {remedy}")
        self.size, self.truth = size, truth
        self._parts = (VOCSegmentation if truth else VOCDetection)(folder, year="2007", image_set=split)
        self._annotations = listed.parents[2] / "Annotations"

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        with naming_missing(RELEASE, REMEDY):
            image, segmentation = self._parts[i]
        item = {"pixels": to_square(image, self.size), "labels": self._present(i)}
        if self.truth:
            classes = np.asarray(segmentation)  # 0 is background
            item["truth"] = truth_to_square((classes > 0) & (classes != VOID), self.size)
        return item

    @cached_property
    def labels(self) -> Tensor:
        """The labels (N,20) bool of all images, read from the annotations alone."""
        return torch.stack([self._present(i) for i in range(len(self))])

    def _present(self, i: int) -> Tensor:
        with naming_missing(RELEASE, REMEDY):
            content = ElementTree.parse(self._annotations / f"{Path(self._parts.images[i]).stem}.xml")
        present = {name.text.strip() for name in content.iterfind("object/name")}
        return torch.tensor([name in present for name in self.names])
