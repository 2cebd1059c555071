"""Extremal perturbations: the smooth mask of a given area that keeps the target's score highest.

Fong, Patrick, Vedaldi, "Understanding Deep Networks via Extremal Perturbations and Smooth Masks", ICCV 2019: the
perturbation by a local blur, the area constraint by ranking, the smooth mask by a max-convolution, stochastic gradient
descent with momentum, and the sum over areas as the map. Chosen here, where the paper's values are for images of 224
pixels or do not follow from its formulas: the target's logit as score; a mean instead of a sum over pixels in the area
term, so that its weight does not depend on the image's size; the weight's linear growth from 0; the start at 0.5, the
learning rate, the kernel's scale of half a cell, and every length as a share of the image's side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from ..masking import normalise
from ..validation import check_at_least, check_request
from .base import Explain

AREAS = (0.05, 0.1, 0.2, 0.4)
TEMPERATURE = 1 / 20  # of the smooth maximum
BLUR = 20 / 224  # the largest blur's deviation, as a share of the image's side
LEVELS = 8  # of the pyramid of blurs


def extremal_perturbations(
    classifier: nn.Module,
    areas: Sequence[float] = AREAS,
    steps: int = 800,
    *,
    lr: float = 0.1,
    weight: float = 1000.0,
    cell: float = 1 / 16,
    fill: str = "blur",
) -> Explain:
    """Maps (B,H,W) in [0,1]: the sum of the masks of all ``areas`` (shares of the image), normalised.

    ``weight``: of the area term at the last step. ``cell``: the distance between the mask's parameters, as a share of
    the image's longer side. ``fill``: what a pixel with mask 0 becomes, ``blur`` as in the paper, or ``black`` as
    elsewhere in the study. Costs ``steps * len(areas)`` forward and as many backward passes; all images and areas go
    through the classifier as one batch without influencing each other. Raises ValueError for another ``fill`` and areas
    outside (0, 1).
    """
    check_fill(fill)
    check_at_least(1, steps=steps)
    if not areas or not all(0 < area < 1 for area in areas):
        raise ValueError(f"areas must be shares between 0 and 1, got {tuple(areas)}")

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        images, wanted = (value.repeat_interleave(len(areas), 0) for value in (pixels.detach().float(), targets))
        pyramid = filled(images, fill)
        template = area_template(areas, pixels.shape[-2] * pixels.shape[-1]).to(images).repeat(len(pixels), 1)
        smooth = SmoothMasks(pixels.shape[-2:], cell)
        # optimise the coarse masks of all images and areas together
        with torch.enable_grad():
            coarse = torch.full((len(images), *smooth.grid), 0.5, device=pixels.device, requires_grad=True)
            optimizer = torch.optim.SGD([coarse], lr=lr, momentum=0.9)
            for step in range(steps):
                masks = smooth(coarse)
                # high score, and the area that is asked for
                score = classifier(perturb(pyramid, masks)).gather(1, wanted[:, None])[:, 0]
                area = (masks.flatten(1).sort(1).values - template).square().mean(1)
                loss = (weight * step / steps * area - score).sum()  # first the score alone, to rank the equal pixels
                (coarse.grad,) = torch.autograd.grad(loss, coarse)
                optimizer.step()
                with torch.no_grad():
                    coarse.clamp_(0, 1)
            found = smooth(coarse.detach())
        # add up each image's areas
        return normalise(found.unflatten(0, (len(pixels), len(areas))).sum(1))

    return explain


def area_template(areas: Sequence[float], n: int) -> Tensor:
    """The n sorted values that a mask of each area should have, zeros, then ones; (areas, n).

    >>> area_template((0.25, 0.5), 4)
    tensor([[0., 0., 0., 1.],
            [0., 0., 1., 1.]])
    """
    return (torch.arange(n) >= n - torch.tensor([[round(n * area)] for area in areas])).float()


def blurs(images: Tensor) -> Tensor:
    """The images under more and more blur, (levels,B,3,H,W): from none to `BLUR` times the side."""
    largest = BLUR * min(images.shape[-2:])
    sigmas = [largest * level / (LEVELS - 1) for level in range(1, LEVELS)]
    return torch.stack([images, *(gaussian_blur(images, 2 * round(2 * sigma) + 1, sigma) for sigma in sigmas)])


def check_fill(fill: str) -> None:
    """Raises ValueError for another fill than ``blur`` and ``black``."""
    if fill not in ("blur", "black"):
        raise ValueError(f"unknown fill {fill!r}: choose blur or black")


def filled(images: Tensor, fill: str) -> Tensor:
    """The images on the way to what a removed pixel becomes, (levels,B,3,H,W): `blurs`, or black."""
    return blurs(images) if fill == "blur" else torch.stack([images, torch.zeros_like(images)])


def perturb(pyramid: Tensor, masks: Tensor) -> Tensor:
    """Each pixel from the level 1 - mask (B,H,W) of the pyramid (levels,B,3,H,W), between two linearly."""
    last = len(pyramid) - 1
    place = (1 - masks) * last
    levels = torch.arange(last + 1, device=masks.device).view(-1, 1, 1, 1)
    shares = (1 - (place - levels).abs()).clamp_min(0)  # (levels,B,H,W)
    return torch.einsum("lbhw,lbchw->bchw", shares, pyramid)


class SmoothMasks:
    """Coarse parameters (B,h,w) in [0,1] -> smooth masks (B,H,W) in [0,1] by a smooth max-convolution.

    A pixel is the smooth maximum, sum(f exp(f/T)) / sum(exp(f/T)), of f = k(distance) * parameter over the parameters
    near it, with k(d) = exp(-max(0, d - 1)^2 / 4), d in half cells, and T = `TEMPERATURE`. Parameters lie at the
    centres of square cells; those of cells more than two away from the pixel's own are left out, since their k is below
    exp(-4).
    """

    reach = 2  # cells

    def __init__(self, size: tuple[int, int], cell: float):
        self.size, self.side = tuple(size), max(1, round(cell * max(size)))
        self.grid = tuple(-(-length // self.side) for length in self.size)
        inside = torch.arange(self.side) - (self.side - 1) / 2  # of a pixel, from its cell's centre
        away = torch.arange(-self.reach, self.reach + 1) * self.side
        along = (inside[:, None] - away).square()  # (side, 2 reach + 1)
        distance = (along[:, None, :, None] + along[None, :, None, :]).sqrt() / max(self.side / 2, 1)
        weights = torch.exp(-(distance - 1).clamp_min(0).square() / 4)
        self.kernel = weights.flatten(2).flatten(0, 1).T  # (candidates, side * side)

    def __call__(self, coarse: Tensor) -> Tensor:
        near = F.unfold(coarse[:, None], 2 * self.reach + 1, padding=self.reach)  # (B, candidates, h * w)
        f = near[:, :, None] * self.kernel.to(coarse)[None, :, :, None]  # (B, candidates, side * side, h * w)
        power = ((f - 1) / TEMPERATURE).exp()  # f is at most 1
        smooth = (f * power).sum(1) / power.sum(1)  # (B, side * side, h * w)
        whole = F.pixel_shuffle(smooth.unflatten(2, self.grid), self.side)[:, 0]
        return whole[:, : self.size[0], : self.size[1]]
