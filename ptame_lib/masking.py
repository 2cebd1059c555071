"""Masking in pixel space, and the maps that do it: pure functions.

Pixels are (B,3,H,W) in [0,1]; saliency maps are (B,h,w); a mask is a map in [0,1], 1 = keep.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def normalise(maps: Tensor) -> Tensor:
    """Min-max normalise each map (..., h, w) to [0,1], in float32; a constant map becomes 0."""
    maps = maps.float()
    low = maps.amin((-2, -1), keepdim=True)
    high = maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-8)


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (B,h,w) to ``size`` = (H,W) bilinearly. Raises ValueError for maps of another shape."""
    if maps.ndim != 3:
        raise ValueError(f"maps must be (B,h,w), got {tuple(maps.shape)}: one map for each image, without channels")
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def keep(pixels: Tensor, masks: Tensor) -> Tensor:
    """Multiply the pixels by the masks (B,h,w), resized to the image; a removed pixel is black.

    >>> keep(torch.ones(1, 3, 2, 2), torch.tensor([[[1.0, 0.5], [0.0, 0.0]]]))[0, 0]
    tensor([[1.0000, 0.5000],
            [0.0000, 0.0000]])
    """
    return pixels * resize(masks, pixels.shape[-2:])[:, None]


def remove(pixels: Tensor, masks: Tensor) -> Tensor:
    """The complement of `keep`: what is left where the masks are 0."""
    return pixels * (1 - resize(masks, pixels.shape[-2:]))[:, None]


def blend(pixels: Tensor, masks: Tensor, colour: Tensor) -> Tensor:
    """As `keep`, but a removed pixel takes the ``colour`` (1,3,1,1) or (B,3,1,1).

    With a classifier's ``mean`` as colour, this multiplies its normalised image by the mask.
    """
    return torch.lerp(colour.to(pixels.dtype), pixels, resize(masks, pixels.shape[-2:])[:, None])


def keep_share(maps: Tensor, share: float) -> Tensor:
    """Keep only the largest ``share``, in (0, 1], of the values of each map (B,H,W); the others become 0.

    The threshold is the k-th smallest value, k = int(N (1 - share)); only values strictly above it are kept, so values
    tied with it go. A share of 1 keeps the map as it is (P-TAME's AD/IC at 100 %). Raises ValueError for another share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    flat = maps.flatten(1)
    k = int(flat.shape[1] * (1 - share))
    if k < 1:
        return maps
    threshold = flat.kthvalue(k, dim=1, keepdim=True).values
    return torch.where(flat > threshold, flat, 0.0).view_as(maps)


def first_pixels(maps: Tensor, share: float) -> Tensor:
    """The pixels (B,H,W) bool with the largest ``share``, in (0, 1], of the values of each map (B,H,W).

    These are the int(N share) largest; those tied with the next one are left out, so that the share is never exceeded.
    Raises ValueError for another share.

    >>> first_pixels(torch.tensor([[[0.1, 0.9], [0.5, 0.3]]]), 0.5)
    tensor([[[False,  True],
             [ True, False]]])
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    flat = maps.flatten(1)
    n = flat.shape[1]
    k = n - int(n * share + 1e-6)  # 0.9 of 10 are 9, though 1 - 0.9 is less than 0.1
    if k < 1:
        return torch.ones_like(maps, dtype=torch.bool)
    return (flat > flat.kthvalue(k, dim=1, keepdim=True).values).view(maps.shape)
