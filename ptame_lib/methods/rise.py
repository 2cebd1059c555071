"""RISE: probe a black box with random masks and average them by its answers.

Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, eq. 6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_at_least, check_request


def rise_masks(n: int, size: tuple[int, int], *, grid: int = 7, keep: float = 0.5, seed: int = 0) -> Tensor:
    """Smooth random masks (n,H,W) in [0,1]: coarse binary grids, upsampled, cropped at a random shift.

    A cell is on with probability ``keep``; the bilinear upsampling is larger than the image by one cell.
    """
    generator = torch.Generator().manual_seed(seed)
    cell = [-(-side // grid) for side in size]
    coarse = (torch.rand(n, 1, grid, grid, generator=generator) < keep).float()
    large = F.interpolate(coarse, [(grid + 1) * c for c in cell], mode="bilinear", align_corners=False)[:, 0]
    shifts = torch.stack([torch.randint(0, c, (n,), generator=generator) for c in cell], 1).tolist()
    return torch.stack([mask[y : y + size[0], x : x + size[1]] for mask, (y, x) in zip(large, shifts, strict=True)])


class RISE:
    """Maps of an image's target, or by `maps` those of several classes from the same answers."""

    def __init__(self, classifier: nn.Module, masks: int, batch_size: int, seed: int):
        self.classifier, self.count, self.batch_size, self.seed = classifier, masks, batch_size, seed
        self.drawn: dict[tuple[int, int], Tensor] = {}

    def __call__(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Maps (B,H,W) in [0,1] of each image's own target (B,)."""
        check_request(self.classifier, pixels, targets)
        return torch.cat([self._of(image, target[None]) for image, target in zip(pixels, targets, strict=True)])

    def maps(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """Maps (B,n,H,W) in [0,1] of the same n classes (n,) for every image, at the cost of one."""
        check_request(self.classifier, pixels, classes, per_image=False)
        return torch.stack([self._of(image, classes) for image in pixels])

    @torch.no_grad()
    def _of(self, image: Tensor, classes: Tensor) -> Tensor:
        size = tuple(image.shape[-2:])
        if size not in self.drawn:
            self.drawn[size] = rise_masks(self.count, size, seed=self.seed)
        total = torch.zeros(len(classes), *size, device=image.device)
        for part in self.drawn[size].to(image.device).split(self.batch_size):
            scores = self.classifier(image * part[:, None]).softmax(1)[:, classes].to(part)
            total += torch.einsum("nk,nhw->khw", scores, part)
        return normalise(total)


def rise(classifier: nn.Module, *, masks: int = 4000, batch_size: int = 50, seed: int = 0) -> RISE:
    """RISE with ``masks`` masks, the same for every image; ``batch_size`` masked images at a time.

    >>> saliency = rise(classifier, masks=4000)(pixels, targets)   # doctest: +SKIP
    """
    check_at_least(1, masks=masks, batch_size=batch_size)
    return RISE(classifier, masks, batch_size, seed)
