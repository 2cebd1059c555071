"""PASCAL VOC 2007 as label vectors and object masks, over torchvision's loaders and in the release's own folder layout."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import VOCDetection, VOCSegmentation
from torchvision.transforms.v2 import functional as TF

SPLITS = ("train", "val", "test")


URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/"


VOID = 255  # between an object and the rest, or too hard to say


class VOC(torch.utils.data.Dataset):
    """The part ``train``, ``val`` or ``test`` of VOC-2007 below ``folder``, which holds ``VOCdevkit/VOC2007``.

    An item is a dict of ``pixels`` (3,size,size) float32 in [0,1], resized without keeping the aspect, and ``labels`` (20,) bool: the
    classes of all annotated objects, difficult ones too. With ``truth`` only the images with a segmentation are there (209 / 213 / 210
    of 2501 / 2510 / 4952), and an item also has ``truth`` (size,size) bool: the pixels of any object; void pixels are none.

    Raises ValueError for another split, FileNotFoundError where the data or a file of it are missing.
    """

    names = (
        *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    )

    def __init__(self, folder: str | Path, split: str, size: int = 224, *, truth: bool = False):
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: VOC-2007 has {', '.join(SPLITS)}")
        folder = Path(folder).expanduser()
        listed = folder / "VOCdevkit" / "VOC2007" / "ImageSets" / ("Segmentation" if truth else "Main") / f"{split}.txt"
        if not listed.is_file():
            archive = "VOCtest_06-Nov-2007.tar" if split == "test" else "VOCtrainval_06-Nov-2007.tar"
            raise FileNotFoundError(
                f"no VOC-2007 at {folder} ({listed} is missing): download {URL}{archive} and unpack it there with tar -xf {archive}"
            )
        self.size, self.truth = size, truth
        self._parts = (VOCSegmentation if truth else VOCDetection)(folder, year="2007", image_set=split)
        self._annotations = listed.parents[2] / "Annotations"

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        try:
            image, segmentation = self._parts[i]
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error.filename} of VOC-2007 is missing: unpack the archive again") from error
        item = {"pixels": resized(image, self.size), "labels": self._present(i)}
        if self.truth:
            classes = np.asarray(segmentation)  # 0 is background
            item["truth"] = resized_truth((classes > 0) & (classes != VOID), self.size)
        return item

    @cached_property
    def labels(self) -> Tensor:
        """The labels (N,20) bool of all images, read from the annotations alone."""
        return torch.stack([self._present(i) for i in range(len(self))])

    def _present(self, i: int) -> Tensor:
        try:
            objects = ElementTree.parse(self._annotations / f"{Path(self._parts.images[i]).stem}.xml").iterfind(
                "object/name"
            )
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error.filename} of VOC-2007 is missing: unpack the archive again") from error
        present = {name.text.strip() for name in objects}
        return torch.tensor([name in present for name in self.names])


def resized(image: Image.Image, size: int) -> Tensor:
    """An image as pixels (3,size,size) in [0,1], without keeping the aspect."""
    image = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return TF.to_dtype(TF.pil_to_tensor(image), torch.float32, scale=True)


def resized_truth(truth: np.ndarray, size: int) -> Tensor:
    """A truth mask (H,W) bool as (size,size) bool: of each pixel the nearest."""
    return torch.from_numpy(np.array(Image.fromarray(truth).resize((size, size), Image.Resampling.NEAREST)))
