"""Image files of any kind as 8-bit RGB, upright; what the loaders of data sets share."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff"}
SUFFIXES |= {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k"}
UNREAD = {".heic", ".heif", ".jxl", ".svg", ".psd", ".tga", ".ico", ".exr", ".hdr", ".raw", ".dng", ".cr2", ".cr3"}
UNREAD |= {
    ".nef",
    ".arw",
    ".orf",
    ".rw2",
    ".xcf",
    ".ai",
    ".eps",
}  # images, too, which Pillow does not read, or not well
LARGE = 2**25  # pixels; a larger JPEG is decoded at a lower resolution
LONGEST = 16  # times the short side; a longer image is cut, so that no panorama is blown up to gigabytes


def find_images(folder: Path) -> list[Path]:
    """The image files below a folder, sorted.

    Warns of images in formats that are not read and of links to folders, which are not followed: how many, and which.
    Raises PermissionError if a sub-folder can't be listed.
    """

    def refuse(error: OSError) -> None:
        problem = f"the folder {error.filename} can't be listed ({error.strerror})"
        raise PermissionError(f"{problem}: make it readable, or move it elsewhere") from error

    read = SUFFIXES & Image.registered_extensions().keys()  # a Pillow may be built without a format
    found, unread, links = [], [], []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links += [there for name in folders if (there := Path(place, name)).is_symlink()]
        for file in (Path(place, name) for name in names if not name.startswith(".")):
            suffix = file.suffix.lower()
            if suffix in SUFFIXES | UNREAD:
                (found if suffix in read else unread).append(file)

    # say what is left out
    for what, left, remedy in (
        ("images in formats that are not read are", unread, "convert them, for instance to PNG"),
        ("links to folders are", links, "copy the folders, or name them instead"),
    ):
        if left:
            shown = ", ".join(str(file.relative_to(folder)) for file in sorted(left)[:5])
            more = f" and {len(left) - 5} more" if len(left) > 5 else ""
            warnings.warn(f"{folder}: {what} passed over ({len(left)}: {shown}{more}); {remedy}", stacklevel=2)
    return sorted(found)


def read_image(file: str | Path | BinaryIO, needed: int = 256, name: str = "") -> Image.Image:
    """An image file, or the ``name``d content of one, as 8-bit RGB, upright, the first frame or page.

    EXIF's orientation is applied. 16 bits are scaled to 8, as are floating-point values in [0,1]; transparent pixels
    become white. CMYK, palette and greyscale images become RGB. An image longer than 16 times its short side is cut to
    its middle. A very large JPEG is decoded at a lower resolution, with a short side of at least four times ``needed``.

    Raises ValueError, naming the file, if it can't be read: cut off, damaged, empty, missing, no image, values of
    another range, or more than twice `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    name = name or str(file)
    # read what the decoder can, then bring it into one form
    try:
        with Image.open(file) as image:
            if image.width * image.height > LARGE:
                image.draft(None, (4 * needed, 4 * needed))  # does nothing to other formats
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(_cut_to_middle(image))
    except Image.DecompressionBombError as error:
        told = re.search(r"\d+ pixels", str(error))  # how many it claims to have, which Pillow tells in words alone
        size = (f"{told[0]}, " if told else "") + f"more than the {2 * Image.MAX_IMAGE_PIXELS} that are read"
        remedy = "make it smaller, or take it out of the folder"
        raise ValueError(f"the image {name} is too large ({size}): {remedy}") from error
    except Exception as error:  # a damaged file can make a decoder fail in any way
        reason = error or type(error).__name__
        raise ValueError(
            f"the image {name} can't be read ({reason}): replace it or take it out of the folder"
        ) from error


def to_square(image: Image.Image, size: int) -> Tensor:
    """An image as pixels (3,size,size) in [0,1], without keeping the aspect."""
    image = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return TF.to_dtype(TF.pil_to_tensor(image), torch.float32, scale=True)


def truth_to_square(truth: np.ndarray, size: int) -> Tensor:
    """A truth mask (H,W) bool as (size,size) bool, by the nearest pixel."""
    return torch.from_numpy(np.array(Image.fromarray(truth).resize((size, size), Image.Resampling.NEAREST)))


def check_split(split: str, splits: Sequence[str], data: str) -> None:
    """Raise ValueError for a split that the data set named ``data`` does not have."""
    if split not in splits:
        raise ValueError(f"unknown split {split!r}: {data} has {', '.join(splits)}")


@contextmanager
def naming_missing(data: str, remedy: str) -> Iterator[None]:
    """Name the data set and a remedy in the error for a missing file."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error.filename} of {data} is missing: {remedy}") from error


def _cut_to_middle(image: Image.Image) -> Image.Image:
    """Cut an image that is longer than `LONGEST` times its short side."""
    longest = LONGEST * min(image.size)
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would cut their values off at 255
        values = np.asarray(image).astype(np.float64)
        low, high, most = values.min(), values.max(), 1 if image.mode == "F" else 65535
        if not (low >= 0 and high <= most):
            raise ValueError(f"its values are in {low:g}..{high:g}, not in 0..{most}; save it with 8 or 16 bits")
        image = Image.fromarray(np.round(values * (255 / most)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
