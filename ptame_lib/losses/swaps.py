"""The swap loss: what a map puts first must take the decision along when it moves to another image."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST, LARGEST = 0.02, 0.9  # shares of an image's pixels that are swapped
TEMPERATURE = 4.0  # by which logits are divided: a decision that is sure would have no gradient, as if enough were all


class SwapLoss(NamedTuple):
    """The total and its terms: ``total = kept + pasted``."""

    total: Tensor
    kept: Tensor
    pasted: Tensor


class RegionSwapLoss(NamedTuple):
    """As `SwapLoss`, with the term of `regions`: ``total = kept + pasted + weight * regions``."""

    total: Tensor
    kept: Tensor
    pasted: Tensor
    regions: Tensor


def draw_areas(count: int, generator: torch.Generator) -> Tensor:
    """Shares (B,) of the pixels, from `SMALLEST` to `LARGEST`, as many small ones as large ones.

    Their log odds are uniform, so that a badge of 2 % and a background of 60 % both meet areas of about their size.
    """
    low, high = torch.tensor([SMALLEST, LARGEST]).logit()
    return (low + (high - low) * torch.rand(count, generator=generator)).sigmoid()


def matched_masks(maps: Tensor, areas: Tensor, softness: float = 0.5) -> Tensor:
    """Masks (B,H,W) in (0,1) of the shares ``areas`` (B,) of the pixels that the raw maps (B,H,W) put first.

    A sigmoid around the map's quantile; its width is ``softness`` standard deviations of the map, so that neither
    scale nor shift of a map matters.

    >>> matched_masks(torch.tensor([[[0.0, 1.0, 2.0, 9.0]]]), torch.tensor([0.5]), softness=0.01).round()
    tensor([[[0., 0., 0., 1.]]])
    """
    flat = maps.flatten(1)
    spread = flat.std(1, keepdim=True).detach() + 1e-4
    rank = (flat.shape[1] * (1 - areas)).long().clamp(0, flat.shape[1] - 1)
    edge = flat.sort(1).values.gather(1, rank[:, None])  # (B,1): half of this pixel is kept
    return ((flat - edge) / (softness * spread)).sigmoid().view_as(maps)


def swap(pixels: Tensor, others: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """What the masks (B,H,W) keep of images (B,3,H,W), on the other images; and the other images' there, on these."""
    masks = masks[:, None]
    return torch.lerp(others, pixels, masks), torch.lerp(pixels, others, masks)


def swap_loss(
    kept: Tensor, pasted: Tensor, targets: Tensor, others: Tensor, temperature: float = TEMPERATURE
) -> SwapLoss:
    """Cross-entropy of both kinds of swapped images, of logits divided by the ``temperature``.

    ``kept`` (B,K): the classifier's logits for what the masks keep, on other images, for which it should decide as for
    the whole image, ``targets`` (B,). ``pasted`` (B,K): for the images with the same places of the other images, for
    which it should decide as for those, ``others`` (B,). Raises ValueError for shapes that don't match.
    """
    if kept.shape != pasted.shape or not len(kept) == len(targets) == len(others):
        sizes = {"kept": kept, "pasted": pasted, "targets": targets, "others": others}
        raise ValueError("sizes differ: " + ", ".join(f"{name} {tuple(size.shape)}" for name, size in sizes.items()))
    kept = F.cross_entropy(kept.float() / temperature, targets)
    pasted = F.cross_entropy(pasted.float() / temperature, others)
    return SwapLoss(kept + pasted, kept, pasted)
