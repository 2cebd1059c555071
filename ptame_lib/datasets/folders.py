"""Images of a folder as pixels in [0,1], in the evaluation and training transforms of the paper."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import v2 as T

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}


class ImageFolder(torch.utils.data.Dataset):
    """All images below a folder, in sorted order; sub-folders (ImageNet's layout) give the labels, else they are -1.

    An item is a dict of ``pixels`` (3,size,size) float32 in [0,1] (short side to ``resize``, centre crop) and ``label``.
    ``draw(i, generator)`` gives a training view: random crop and horizontal flip. ``files`` restricts and orders the images.

    Raises FileNotFoundError for a missing folder, ValueError for one without images; reading a broken file raises
    ValueError naming it.
    """

    def __init__(self, folder: str | Path, size: int = 224, resize: int = 256, files: list[str] | None = None):
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"no image folder at {folder}: check the path")
        found = [folder / name for name in files] if files else sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"no images in {folder}: put files ending in {', '.join(sorted(SUFFIXES))} there, in sub-folders or not")
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
        file = self.files[i]
        try:
            with Image.open(file) as image:
                return T.functional.to_dtype(T.functional.pil_to_tensor(self._resize(image.convert("RGB"))), torch.float32, scale=True)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"the image {file} can't be read ({error}): replace it or take it out of the folder") from error
