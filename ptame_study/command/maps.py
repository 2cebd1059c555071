"""Saliency maps and masks of other tools, from files beside the images: .npy, .png and .safetensors."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from ptame_lib.datasets.folders import Pictures
from ptame_lib.metrics.scores import same_shape


def match_files(folder: Path, names: Sequence[str], what: str = "map") -> list[Path]:
    """The file of each image in a ``folder``: named as the image, ``a/cat.jpg`` -> ``a/cat.npy`` or ``a/cat.jpg.npy``.

    ``what``: the files' name in messages. Warns of files that belong to no image. Raises FileNotFoundError for a
    missing folder, ValueError for one without such files, an image without a file or with two, and a file that could be
    of two images.
    """
    # the files by the names that they may be for
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of {what}s at {folder}: check the path")
    there = sorted(p for p in folder.rglob("*") if p.suffix.lower() in READERS and not p.name.startswith("."))
    if not there:
        raise ValueError(f"no {what}s in {folder}: put files ending in {', '.join(READERS)} there, named as the images")
    by_name: dict[str, list[Path]] = {}
    for file in there:
        by_name.setdefault(file.relative_to(folder).with_suffix("").as_posix(), []).append(file)

    # one for each image: by its whole name, or without its ending where no other image is named so
    stems = [Path(name).with_suffix("").as_posix() for name in names]
    often, found, missing = Counter(stems), [], []
    for name, stem in zip(names, stems, strict=True):
        exact, short = by_name.get(name, []), by_name.get(stem, [])
        if short and often[stem] > 1:
            if not exact:
                raise ValueError(_either(short[0], [n for n, s in zip(names, stems, strict=True) if s == stem], what))
            short = []
        if len(own := [*exact, *short]) > 1:
            raise ValueError(f"two {what}s for the image {name}: {own[0]} and {own[1]}; leave one")
        found += own
        missing += [] if own else [name]
    if missing:
        such = f"{len(missing)} of {len(names)} images have no {what} in {folder}, such as {missing[0]}"
        remedy = f"it must be named {Path(missing[0]).with_suffix('.npy')}, or end in .png or .safetensors"
        raise ValueError(f"{such}: {remedy}")
    if twice := [file for file, count in Counter(found).items() if count > 1]:
        raise ValueError(_either(twice[0], [n for n, f in zip(names, found, strict=True) if f == twice[0]], what))
    if unused := sorted(set(there) - set(found)):
        warnings.warn(f"{len(unused)} {what}s in {folder} belong to no image, such as {unused[0]}", stacklevel=2)
    return found


def _either(file: Path, names: Sequence[str], what: str) -> str:
    """That a file could belong to several images."""
    named = " or ".join(f"{name}{file.suffix}" for name in names[:2])
    return f"{file} could be the {what} of {names[0]} or of {names[1]}: name it {named}"


def read_map(file: Path) -> Tensor:
    """A map (h,w) float32 of finite values. Raises ValueError, naming the file, for anything else."""
    try:
        values = READERS[file.suffix.lower()](file)
    except (OSError, ValueError, EOFError, SyntaxError, SafetensorError, Image.DecompressionBombError) as error:
        raise ValueError(f"the map {file} can't be read ({error}): make it again") from error
    shape = tuple(values.shape)
    while values.ndim > 2 and 1 in (values.shape[0], values.shape[-1]):  # a batch of one, or one channel
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or not values.numel():
        raise ValueError(f"the map {file} has shape {shape}: a map is (h,w), one number for each pixel or cell")
    if values.is_complex():
        raise ValueError(f"the map {file} has complex numbers: save real ones")
    values = values.float()
    if bad := int((~values.isfinite()).sum()):
        raise ValueError(f"the map {file} has {bad} values that are NaN or infinite: check the tool that made it")
    return values


def _numpy(file: Path) -> Tensor:
    values = np.load(file, allow_pickle=False)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiubc":
        raise ValueError("it holds no array of numbers")
    return torch.from_numpy(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="))))


def _png(file: Path) -> Tensor:
    with Image.open(file) as image:
        image.load()
        if image.mode.startswith("I") or image.mode in ("L", "1", "F"):
            values = np.asarray(image).astype(np.float32)
        else:
            bands = np.asarray(image.convert("RGB")).astype(np.float32)
            if (bands != bands[..., :1]).any():
                raise ValueError("it is in colour, which has no order: save the values in grey")
            values = bands[..., 0]
    return torch.from_numpy(values)


def _safetensors(file: Path) -> Tensor:
    tensors = load_file(file)
    if len(tensors) != 1:
        raise ValueError(f"it holds {len(tensors)} tensors, a map's file holds one")
    return next(iter(tensors.values()))


READERS: Mapping[str, Callable[[Path], Tensor]] = {".npy": _numpy, ".png": _png, ".safetensors": _safetensors}


class MapFiles(Sequence[Tensor]):
    """The maps in ``files``, each read when it is asked for.

    They show what the classifier sees of the ``pictures`` (h,w), or with ``whole`` the whole images, and are then
    resized and cut as the images are. Items raise ValueError as `read_map`, and for a map of another shape.
    """

    def __init__(self, files: Sequence[Path], pictures: Pictures, whole: bool = False):
        self.files, self.pictures, self.whole = files, pictures, whole

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Tensor:
        map_, file = read_map(self.files[i]), self.files[i]
        cells, seen = tuple(map_.shape), self.pictures.size
        if not self.whole:
            if not same_shape(cells, seen):
                shapes = f"{cells[0]} x {cells[1]}, of another shape than the {seen[0]} x {seen[1]} pixels"
                remedy = "if it covers the whole image, add --whole"
                raise ValueError(f"the map {file} is {shapes} that the classifier sees: {remedy}")
            return map_
        return _cut(map_, self.pictures, i, f"the map {file}", TF.InterpolationMode.BILINEAR)


class MaskFiles(MapFiles):
    """The masks of the truth in ``files``, of whole images: what is not 0 belongs to it; items are (H,W) bool."""

    def __getitem__(self, i: int) -> Tensor:
        mask = (read_map(self.files[i]) != 0).float()
        return _cut(mask, self.pictures, i, f"the mask {self.files[i]}", TF.InterpolationMode.NEAREST) > 0.5


def _cut(values: Tensor, pictures: Pictures, i: int, name: str, by: TF.InterpolationMode) -> Tensor:
    """Values (h,w) of a whole image, resized and cut as the image is. ValueError for those of another shape."""
    size = tuple(pictures.whole(i).shape[-2:])
    if not same_shape(tuple(values.shape), size):
        shapes = f"{values.shape[0]} x {values.shape[1]}, of another shape than its whole image of"
        raise ValueError(f"{name} is {shapes} {size[0]} x {size[1]} pixels: make it for that image")
    return pictures.middle(TF.resize(values[None], list(size), by, antialias=False))[0]


def check_all(given: Sequence[Tensor]) -> None:
    """Read everything once, so that what can't be read is told before the work and not after half of it."""
    for i in range(len(given)):
        given[i]
