"""iGOS++: a deletion and an insertion mask, optimised together by integrated gradients.

Khorram, Lawson, Fuxin, "iGOS++: Integrated Gradient Optimized Saliency by Bilateral Perturbations", ACM CHIL 2021: the
objective over both masks and their product, the paths of its integrated gradients, the bilateral total variation, and
the product as the map. The paper finds the length of a step by a line search; here it is fixed (the largest entry of
each image's step) and shrinks linearly to 0. Also chosen here: the weights, of means over the mask, so that they do not
depend on its size; the masks' resolution; and no noise unless asked for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..masking import normalise, resize
from ..validation import check_at_least, check_request
from .base import Explain
from .extremal_perturbations import check_fill, filled

LIKENESS = 0.1  # neighbours whose colours differ by this much are tied with strength 1/e


def igos(
    classifier: nn.Module,
    steps: int = 20,
    path: int = 20,
    *,
    resolution: float = 1 / 8,
    lr: float = 0.4,
    sparse: float = 0.3,
    smooth: float = 1.0,
    noise: float = 0.0,
    fill: str = "blur",
    seed: int = 0,
) -> Explain:
    """Maps (B,h,w) in [0,1]: what both masks remove, at ``resolution`` times the image's size.

    ``path``: points of the integrated gradients. ``sparse`` and ``smooth`` weigh the area that the masks remove and its
    bilateral total variation. ``noise``: its standard deviation in every image that is asked about, drawn from ``seed``
    and the same for all images, so that they do not influence each other. ``fill``: what a removed pixel becomes,
    ``blur`` as in the paper, or ``black`` as elsewhere in the study. Costs ``4 * steps * path`` forward and as many
    backward passes. Raises ValueError for another ``fill``.
    """
    check_at_least(1, steps=steps, path=path)
    check_fill(fill)

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        pixels, generator = pixels.detach(), torch.Generator().manual_seed(seed)
        base = filled(pixels, fill)[-1]
        shape = (2, len(pixels), *(max(2, round(side * resolution)) for side in pixels.shape[-2:]))
        ties = likeness(F.adaptive_avg_pool2d(pixels, shape[2:]))
        with torch.enable_grad():
            masks = torch.ones(shape, device=pixels.device, requires_grad=True)  # deletion, insertion; 1 keeps
            for step in range(steps):
                # the gradient of the regularisers
                penalty = _penalty(masks.prod(0), ties, sparse, smooth)
                (gradient,) = torch.autograd.grad(penalty.sum(), masks)
                # the scores' gradient, integrated along the path
                for point in range(1, path + 1):
                    draw = noise * torch.randn(pixels.shape[1:], generator=generator).to(pixels)
                    answers = bilateral_scores(classifier, pixels, base, targets, masks, point / path, draw)
                    gradient += torch.autograd.grad(answers.sum(), masks)[0] / path
                # a step whose largest entry per image shrinks to 0
                with torch.no_grad():
                    length = gradient.abs().amax((0, 2, 3), keepdim=True).clamp_min(1e-12)
                    masks.sub_(lr * (1 - step / steps) * gradient / length).clamp_(0, 1)
        return normalise(1 - masks.detach().prod(0))

    return explain


def _penalty(both: Tensor, ties: tuple[Tensor, Tensor], sparse: float, smooth: float) -> Tensor:
    return sparse * (1 - both).mean((1, 2)) + smooth * bilateral_variation(both, ties)


def bilateral_scores(
    classifier: nn.Module,
    pixels: Tensor,
    base: Tensor,
    targets: Tensor,
    masks: Tensor,
    share: float = 1.0,
    noise: Tensor | float = 0.0,
) -> Tensor:
    """The objective (B,) without its regularisers: f(D) + f(DI) - f(1 - I) - f(1 - DI).

    f is the target's probability on what a mask keeps of the pixels, the rest from ``base``; D and I are the deletion
    and insertion ``masks`` (2,B,h,w). ``share`` (0..1), the place on the path of the integrated gradients, scales D, I
    and DI: as it falls to 0, deletion reaches the base, insertion the whole image.
    """
    deletion, insertion, both = (share * resize(part, pixels.shape[-2:]) for part in (*masks, masks.prod(0)))
    kept = torch.stack([deletion, both, 1 - insertion, 1 - both])  # (4,B,H,W)
    images = base + kept[:, :, None] * (pixels - base) + noise
    p = classifier(images.flatten(0, 1)).softmax(1).unflatten(0, (4, len(pixels)))
    p = p.gather(2, targets.expand(4, -1)[..., None])[..., 0]
    return p[0] + p[1] - p[2] - p[3]


def likeness(images: Tensor) -> tuple[Tensor, Tensor]:
    """Ties exp(-|difference|^2 / `LIKENESS`^2) of neighbours along x and y: (B,h,w-1), (B,h-1,w)."""
    return tuple(torch.exp(-images.diff(dim=axis).square().sum(1) / LIKENESS**2) for axis in (-1, -2))


def bilateral_variation(masks: Tensor, ties: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared difference (B,) of neighbours in the masks (B,h,w), weighted by their ties."""
    return sum((tie * masks.diff(dim=axis).square()).mean((1, 2)) for tie, axis in zip(ties, (-1, -2), strict=True))
