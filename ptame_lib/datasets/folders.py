"""Images of a folder as pixels in [0,1], in the evaluation and training transforms of the paper."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import v2 as T

from .. import checks

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
LARGE = 2**25  # pixels of a JPEG from which on it is decoded at a lower resolution
LONGEST = 16  # times the short side: what is longer is cut down to it, so that no panorama is blown up to gigabytes


class ImageFolder(torch.utils.data.Dataset):
    """All images below a folder, in sorted order; sub-folders (ImageNet's layout) give the labels, else they are -1.

    An item is a dict of ``pixels`` (3,size,size) float32 in [0,1] (short side to ``resize``, centre crop) and ``label``.
    ``draw(i, generator)`` gives a training view: random crop and horizontal flip. ``files`` restricts and orders the images.
    Folders with an image's ending, hidden files and folders (``.name``), and links to folders are passed over. What becomes of
    unusual images says `read_image`.

    Raises FileNotFoundError for a missing folder, ValueError for one without images or sizes below 1; reading a broken file
    raises ValueError naming it.
    """

    def __init__(self, folder: str | Path, size: int = 224, resize: int = 256, files: list[str] | None = None):
        checks.at_least(1, size=size, resize=resize)
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"no image folder at {folder}: check the path")
        found = find_images(folder) if files is None else [folder / name for name in files]
        if not found:
            raise ValueError(f"no images in {folder}: put files ending in {', '.join(sorted(SUFFIXES))} there, in sub-folders or not")
        if outside := [file for file in found if not file.is_relative_to(folder)]:
            raise ValueError(f"{outside[0]} is not in the folder {folder}: name files relative to it")
        self.folder, self.files, self.size, self.resize = folder, found, size, resize
        self.classes = sorted({p.relative_to(folder).parts[0] for p in found if len(p.relative_to(folder).parts) > 1})
        index = {name: i for i, name in enumerate(self.classes)}
        self.labels = [index.get(p.relative_to(folder).parts[0], -1) for p in found]
        self._resize = T.Resize(resize, antialias=True)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"pixels": T.functional.center_crop(self._read(i), [self.size]), "label": torch.tensor(self.labels[i])}

    def draw(self, i: int, generator: torch.Generator) -> dict[str, Tensor]:
        """A random crop, flipped or not."""
        image = self._read(i)
        room = [side - self.size + 1 for side in image.shape[-2:]]
        top, left = (int(torch.randint(0, max(r, 1), (), generator=generator)) for r in room)
        pixels = T.functional.crop(image, top, left, self.size, self.size)
        if torch.rand((), generator=generator) < 0.5:
            pixels = pixels.flip(-1)
        return {"pixels": pixels, "label": torch.tensor(self.labels[i])}

    def _read(self, i: int) -> Tensor:
        image = self._resize(read_image(self.files[i], self.resize))
        return T.functional.to_dtype(T.functional.pil_to_tensor(image), torch.float32, scale=True)


def find_images(folder: Path) -> list[Path]:
    """The image files below a folder, sorted. Raises PermissionError for a sub-folder that can't be listed."""

    def refuse(error: OSError) -> None:
        raise PermissionError(f"the folder {error.filename} can't be listed ({error.strerror}): make it readable, or move it elsewhere") from error

    found = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES]
    return sorted(found)


def read_image(file: str | Path, needed: int = 256) -> Image.Image:
    """Any image file as 8-bit RGB, upright, the first frame or page of several.

    EXIF's orientation is applied. 16 bits are scaled to 8, and so are floating-point values in [0,1]; what is transparent shows
    white. CMYK, palette and greyscale images become RGB. Of an image longer than 16 times its short side the middle stays; a very
    large JPEG is decoded at a lower resolution, no less than four times ``needed``, the short side that it is read for.

    Raises ValueError, naming the file, for what can't be read: cut off, damaged, empty, missing, no image, values of another
    range, or more pixels than Pillow takes for harmless (`PIL.Image.MAX_IMAGE_PIXELS`, twice).
    """
    try:
        with Image.open(file) as image:
            if image.width * image.height > LARGE:
                image.draft(None, (4 * needed, 4 * needed))  # does nothing to other formats
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(_shortened(image))
    except Image.DecompressionBombError as error:
        raise ValueError(f"the image {file} is too large ({error}): make it smaller, or take it out of the folder") from error
    except Exception as error:  # a damaged file can bring a decoder to fail in any way
        raise ValueError(f"the image {file} can't be read ({error or type(error).__name__}): replace it or take it out of the folder") from error


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
