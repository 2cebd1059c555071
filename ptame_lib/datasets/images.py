"""Image files of any kind, read alike: 8-bit RGB, upright."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}


LARGE = 2**25  # pixels of a JPEG from which on it is decoded at a lower resolution


LONGEST = 16  # times the short side: what is longer is cut down to it, so that no panorama is blown up to gigabytes


def find_images(folder: Path) -> list[Path]:
    """The image files below a folder, sorted. Raises PermissionError for a sub-folder that can't be listed."""

    def refuse(error: OSError) -> None:
        raise PermissionError(
            f"the folder {error.filename} can't be listed ({error.strerror}): make it readable, or move it elsewhere"
        ) from error

    found = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def read_image(file: str | Path | BinaryIO, needed: int = 256, name: str = "") -> Image.Image:
    """Any image file, or the ``name``d content of one, as 8-bit RGB, upright, the first frame or page of several.

    EXIF's orientation is applied. 16 bits are scaled to 8, and so are floating-point values in [0,1]; what is transparent shows
    white. CMYK, palette and greyscale images become RGB. Of an image longer than 16 times its short side the middle stays; a very
    large JPEG is decoded at a lower resolution, no less than four times ``needed``, the short side that it is read for.

    Raises ValueError, naming the file, for what can't be read: cut off, damaged, empty, missing, no image, values of another
    range, or more pixels than Pillow takes for harmless (`PIL.Image.MAX_IMAGE_PIXELS`, twice).
    """
    name = name or str(file)
    try:
        with Image.open(file) as image:
            if image.width * image.height > LARGE:
                image.draft(None, (4 * needed, 4 * needed))  # does nothing to other formats
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(_shortened(image))
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"the image {name} is too large ({error}): make it smaller, or take it out of the folder"
        ) from error
    except Exception as error:  # a damaged file can bring a decoder to fail in any way
        raise ValueError(
            f"the image {name} can't be read ({error or type(error).__name__}): replace it or take it out of the folder"
        ) from error


def _shortened(image: Image.Image) -> Image.Image:
    """The middle of an image longer than `LONGEST` times its short side."""
    longest = LONGEST * min(image.size)
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _rgb(image: Image.Image) -> Image.Image:
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
