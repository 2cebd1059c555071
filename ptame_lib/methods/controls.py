"""Controls that ignore the classifier: what a method must beat to say anything.

A Gaussian at the centre, noise, edges (the Sobel filter of scikit-image, as Adebayo et al., NeurIPS 2018, compare with
an edge detector), the truth itself, and constant masks as the baselines of the segmentation table.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..masking import normalise
from .base import TRUTH, Explain, Method


def centred_gaussian(pixels: Tensor, targets: Tensor) -> Tensor:
    """A Gaussian at the centre, its deviation a quarter of the side; maps (B,H,W) in [0,1], all the same."""
    height, width = pixels.shape[-2:]
    y = torch.linspace(-2, 2, height, device=pixels.device)
    x = torch.linspace(-2, 2, width, device=pixels.device)
    bump = torch.exp(-(y[:, None] ** 2 + x**2) / 2)
    return normalise(bump).expand(len(pixels), -1, -1)


def random_map(seed: int = 0) -> Explain:
    """Uniform noise (B,H,W) in [0,1], drawn from ``seed`` and the image: an image always gets the same."""

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        maps = []
        for image in pixels.detach().cpu().float():
            generator = torch.Generator().manual_seed(crc32(image.contiguous().numpy().tobytes(), seed))
            maps.append(torch.rand(image.shape[-2:], generator=generator))
        return normalise(torch.stack(maps).to(pixels.device))

    return explain


def truth_map(pixels: Tensor, truth: Tensor) -> Tensor:
    """The truth mask as an explanation: what a map gains by showing where the evidence is, no more.

    It takes the images' ``truth`` (B,H,W) bool instead of targets; maps (B,H,W) in {0,1}, float32. Raises ValueError
    for truths of another size than the images.
    """
    if truth.shape != (len(pixels), *pixels.shape[-2:]):
        raise ValueError(
            f"one truth mask per image and of its size: got {tuple(truth.shape)} for images {tuple(pixels.shape)}"
        )
    return truth.float()


def edges(pixels: Tensor, targets: Tensor) -> Tensor:
    """The Sobel filter on each image's luminance, min-max normalised; (B,H,W) in [0,1]."""
    from skimage.color import rgb2gray  # here, since scikit-image imports much of SciPy
    from skimage.filters import sobel

    grey = rgb2gray(pixels.detach().cpu().double().permute(0, 2, 3, 1).numpy())
    return normalise(torch.from_numpy(np.stack([sobel(image) for image in grey])).to(pixels.device))


def baselines() -> list[Method]:
    """Masks of 0, 0.5 and 1 everywhere, and the objects' own pixels."""

    def flat(value: float) -> Method:
        def explain(pixels: Tensor, _: Tensor) -> Tensor:
            return torch.full_like(pixels[:, 0], value)

        return Method(f"all {value:g}", explain, 0, 0, "baseline: a constant mask", normalised=False)

    return [*map(flat, (0.0, 0.5, 1.0)), Method(TRUTH, truth_map, 0, 0, "baseline: the objects", sees_truth=True)]
