"""Controls that ignore the classifier: what a method must beat to say anything."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..masking import normalise


def centred_gaussian(pixels: Tensor, targets: Tensor) -> Tensor:
    """The same map for every image: a Gaussian at the centre, standard deviation a quarter of the side; (B,H,W) in [0,1]."""
    height, width = pixels.shape[-2:]
    y = torch.linspace(-2, 2, height, device=pixels.device)
    x = torch.linspace(-2, 2, width, device=pixels.device)
    bump = torch.exp(-(y[:, None] ** 2 + x**2) / 2)
    return normalise(bump).expand(len(pixels), -1, -1)


def random_map(seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """Uniform noise per pixel, (B,H,W) in [0,1]; the i-th image ever asked for gets the same map whatever the batches."""
    generator = torch.Generator().manual_seed(seed)

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        maps = [torch.rand(pixels.shape[-2:], generator=generator) for _ in pixels]
        return normalise(torch.stack(maps).to(pixels.device))

    return explain


def truth_map(pixels: Tensor, truth: Tensor) -> Tensor:
    """The truth mask as an explanation: what a map can gain by showing the evidence's place and nothing else.

    Unlike a method it takes, in place of the targets, the images' ``truth`` (B,H,W) bool; maps (B,H,W) in {0,1}, float32.
    Raises ValueError for truths of another size than the images.
    """
    if truth.shape != (len(pixels), *pixels.shape[-2:]):
        raise ValueError(f"one truth mask per image and of its size: got {tuple(truth.shape)} for images {tuple(pixels.shape)}")
    return truth.float()
