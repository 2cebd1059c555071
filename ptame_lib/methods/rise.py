"""RISE: probe a black box with random masks and average them by its answers.

Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, eq. 6.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from ..masking import normalise


def rise_masks(n: int, size: tuple[int, int], *, grid: int = 7, keep: float = 0.5, seed: int = 0) -> Tensor:
    """Smooth random masks (n,H,W) in [0,1]: coarse binary grids, each cell on with probability ``keep``, upsampled
    bilinearly by one cell more than the image and cropped at a random shift."""
    generator = torch.Generator().manual_seed(seed)
    cell = [-(-side // grid) for side in size]
    coarse = (torch.rand(n, 1, grid, grid, generator=generator) < keep).float()
    large = F.interpolate(coarse, [(grid + 1) * c for c in cell], mode="bilinear", align_corners=False)[:, 0]
    shifts = torch.stack([torch.randint(0, c, (n,), generator=generator) for c in cell], 1).tolist()
    return torch.stack([mask[y : y + size[0], x : x + size[1]] for mask, (y, x) in zip(large, shifts, strict=True)])


def rise(classifier: nn.Module, *, masks: int = 4000, batch_size: int = 50, seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """RISE with ``masks`` masks per image (the same for every image); ``batch_size`` masked images at a time.

    >>> saliency = rise(classifier, masks=4000)(pixels, targets)   # doctest: +SKIP
    """
    checks.at_least(1, masks=masks, batch_size=batch_size)
    drawn: dict[tuple[int, int], Tensor] = {}

    @torch.no_grad()
    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        checks.request(classifier, pixels, targets)
        size = tuple(pixels.shape[-2:])
        if size not in drawn:
            drawn[size] = rise_masks(masks, size, seed=seed)
        maps = []
        for image, target in zip(pixels, targets, strict=True):
            total = torch.zeros(size, device=pixels.device)
            for part in drawn[size].to(pixels.device).split(batch_size):
                scores = classifier(image * part[:, None]).softmax(1)[:, target]
                total += torch.einsum("n,nhw->hw", scores, part)
            maps.append(total)
        return normalise(torch.stack(maps))

    return explain
