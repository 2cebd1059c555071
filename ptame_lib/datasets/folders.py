"""Images of a folder as pixels in [0,1], in the evaluation and training transforms of the paper."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from torchvision.transforms import v2 as T

from ..validation import check_at_least
from .images import SUFFIXES, find_images, read_image

Size = int | tuple[int, int]  # a side, or (height, width)


def before_crop(size: Size) -> int:
    """The short side to resize to before a crop of ``size``, in the paper's proportion to its longer side."""
    return (size if isinstance(size, int) else max(size)) * 8 // 7


class Pictures(torch.utils.data.Dataset):
    """Images of any size as pixels of one size: what folders and shards share.

    A subclass sets ``names`` (one per image), ``labels`` and ``where`` (for messages), and gives the file of image i,
    or its content, in `_open`. ``size``: a side, or (height, width). An item is a dict of ``pixels``
    (3,height,width) float32 in [0,1] (short side to ``resize``, centre crop) and ``label``, -1 if there is none.
    ``draw(i, generator)`` gives a training view.
    """

    names: list[str]
    labels: list[int]
    where: str

    def __init__(self, size: Size, resize: int):
        height, width = (size, size) if isinstance(size, int) else size
        for side in (height, width):
            check_at_least(1, size=side, resize=resize)
        self.size, self.resize = (height, width), resize
        self._resize = T.Resize(resize, antialias=True)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"pixels": self.middle(self.whole(i)), "label": torch.tensor(self.labels[i])}

    def whole(self, i: int) -> Tensor:
        """The image (3,H,W) in [0,1] at the size from which an item's ``pixels`` are cut, its `middle`."""
        return self._read(i)

    def middle(self, whole: Tensor) -> Tensor:
        """The middle (3,height,width) of a `whole` image, black where that is smaller."""
        return T.functional.center_crop(whole, list(self.size))

    def draw(self, i: int, generator: torch.Generator) -> dict[str, Tensor]:
        """A random crop, with a horizontal flip or not."""
        image = self._read(i)
        room = [side - wanted + 1 for side, wanted in zip(image.shape[-2:], self.size, strict=True)]
        top, left = (int(torch.randint(0, max(r, 1), (), generator=generator)) for r in room)
        pixels = T.functional.crop(image, top, left, *self.size)
        if torch.rand((), generator=generator) < 0.5:
            pixels = pixels.flip(-1)
        return {"pixels": pixels, "label": torch.tensor(self.labels[i])}

    def part(self, indices: Iterable[int]) -> Pictures:
        """The images of these indices, in this order, with their labels."""
        part, indices = copy.copy(self), [int(i) for i in indices]
        part.names, part.labels = ([column[i] for i in indices] for column in (self.names, self.labels))
        return part

    def find(self, wanted: Sequence[str]) -> list[int]:
        """The indices of images by name, or by the last part of the name if that is unique.

        Raises ValueError for a name that is missing or ambiguous.
        """
        known: dict[str, int] = {}
        for i, name in enumerate(self.names):
            last = name.rsplit("/", 1)[-1]
            known[last] = -1 if last in known and last != name else i
        known |= {name: i for i, name in enumerate(self.names)}
        if wrong := [name for name in wanted if known.get(name, -1) < 0]:
            where = f"not in {self.where}, or in several of its folders, such as {wrong[0]}"
            raise ValueError(f"{len(wrong)} of {len(wanted)} listed images are {where}")
        return [known[name] for name in wanted]

    def _open(self, i: int) -> Path | BinaryIO:
        raise NotImplementedError

    def _read(self, i: int) -> Tensor:
        image = self._resize(read_image(self._open(i), self.resize, f"{self.where}/{self.names[i]}"))
        return T.functional.to_dtype(T.functional.pil_to_tensor(image), torch.float32, scale=True)


class ImageFolder(Pictures):
    """All images below a folder, in sorted order; sub-folders (ImageNet's layout) give the labels.

    Items and ``draw`` as in `Pictures`. ``files`` restricts and orders the images; ``labels`` are theirs if the folders
    don't tell them. Folders with an image's ending and hidden files and folders (``.name``) are skipped; `find_images`
    warns of what else is. `read_image` says what happens to unusual images.

    Raises FileNotFoundError for a missing folder, and ValueError for a folder without images, for sizes below 1, and
    for a broken file when it is read.
    """

    def __init__(
        self,
        folder: str | Path,
        size: Size = 224,
        resize: int = 256,
        files: Sequence[str] | None = None,
        labels: Sequence[int] | None = None,
    ):
        super().__init__(size, resize)
        # find the images
        self.folder = folder = Path(folder).expanduser()
        self.where = str(folder)
        if not folder.is_dir():
            remedy = "check the path, or name the folder with the data by DATA=/path"
            raise FileNotFoundError(f"no image folder at {folder}: {remedy}")
        found = find_images(folder) if files is None else [folder / name for name in files]
        if not found:
            remedy = f"put files ending in {', '.join(sorted(SUFFIXES))} there, in sub-folders or not"
            raise ValueError(f"no images in {folder}: {remedy}")
        if outside := [file for file in found if not file.is_relative_to(folder)]:
            raise ValueError(f"{outside[0]} is not in the folder {folder}: name files relative to it")
        # name and label them
        self.names = [p.relative_to(folder).as_posix() for p in found]
        self.classes = sorted({name.split("/")[0] for name in self.names if "/" in name})
        index = {name: i for i, name in enumerate(self.classes)}
        self.labels = [index.get(name.split("/")[0], -1) for name in self.names] if labels is None else list(labels)
        if len(self.labels) != len(self.names):
            numbers = f"{len(self.names)} images and {len(self.labels)} labels"
            raise ValueError(f"there are {numbers}: give one label per image")

    @property
    def files(self) -> list[Path]:
        """The paths of the images."""
        return [self.folder / name for name in self.names]

    def _open(self, i: int) -> Path:
        return self.folder / self.names[i]
