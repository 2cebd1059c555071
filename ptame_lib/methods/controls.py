"""Controls that ignore the classifier: what a method must beat to say anything."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np
import torch
from skimage.color import rgb2gray
from skimage.filters import sobel
from torch import Tensor

from ..masking import normalise
from .base import TRUTH, MaskMethod


def centred_gaussian(pixels: Tensor, targets: Tensor) -> Tensor:
    """The same map for every image: a Gaussian at the centre, standard deviation a quarter of the side; (B,H,W) in [0,1]."""
    height, width = pixels.shape[-2:]
    y = torch.linspace(-2, 2, height, device=pixels.device)
    x = torch.linspace(-2, 2, width, device=pixels.device)
    bump = torch.exp(-(y[:, None] ** 2 + x**2) / 2)
    return normalise(bump).expand(len(pixels), -1, -1)


def random_map(seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """Uniform noise per pixel, (B,H,W) in [0,1], drawn from ``seed`` and the image: an image gets the same map in any batch and at any time."""

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        maps = []
        for image in pixels.cpu():
            generator = torch.Generator().manual_seed(crc32(image.contiguous().numpy().tobytes(), seed))
            maps.append(torch.rand(image.shape[-2:], generator=generator))
        return normalise(torch.stack(maps).to(pixels.device))

    return explain


def truth_map(pixels: Tensor, truth: Tensor) -> Tensor:
    """The truth mask as an explanation: what a map can gain by showing the evidence's place and nothing else.

    Unlike a method it takes, in place of the targets, the images' ``truth`` (B,H,W) bool; maps (B,H,W) in {0,1}, float32.
    Raises ValueError for truths of another size than the images.
    """
    if truth.shape != (len(pixels), *pixels.shape[-2:]):
        raise ValueError(
            f"one truth mask per image and of its size: got {tuple(truth.shape)} for images {tuple(pixels.shape)}"
        )
    return truth.float()


def edges(pixels: Tensor, targets: Tensor) -> Tensor:
    """scikit-image's Sobel filter on each image's luminance, min-max normalised; (B,H,W) in [0,1]."""
    grey = rgb2gray(pixels.detach().cpu().double().permute(0, 2, 3, 1).numpy())
    return normalise(torch.from_numpy(np.stack([sobel(image) for image in grey])).to(pixels.device))


def baselines() -> list[MaskMethod]:
    """Masks of 0, of 0.5 and of 1 everywhere, and the objects' own pixels."""
    flat = [MaskMethod(f"all {v:g}", lambda pixels, _, v=v: torch.full_like(pixels[:, 0], v)) for v in (0.0, 0.5, 1.0)]
    return [*flat, MaskMethod(TRUTH, truth_map, sees_truth=True)]
