"""A trained map with a few questions: corrected on the image itself.

The map of one pass starts a short optimisation of a coarse correction, which is added to the ranks of the map's pixels.
Each question shows the classifier what a soft mask keeps of the image, where the target should stay, and what it
removes, where the target should go. A pull towards the map keeps the correction small where the answers say little:
without it, so few steps fit the mask to black and lose sight of the object. The mask has a given area, which changes
from question to question, so that the order of the pixels counts and not how wide the map is. In the end the map's own
values are handed out in the new order.

A classifier with gradients is asked about both images, forward and backward. A black box is asked about both images of
two maps, moved to either side along one random pattern of signs, whose difference estimates the gradient (Spall,
"Multivariate stochastic approximation using a simultaneous perturbation gradient approximation", 1992). Either way a
question costs four passes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..classifiers.wrapper import answers
from ..masking import resize
from ..validation import check_amounts, check_answers, check_at_least, check_images, check_maps, check_targets

AREAS = (0.25, 0.1, 0.5)  # what the mask keeps, by question
SOFTNESS = 0.1  # of the mask's edge, in ranks


def ask_further(
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    maps: Tensor,
    questions: int,
    *,
    cells: int = 16,
    step: float = 0.15,
    pull: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Maps (B,H,W) in [0,1]: the ``maps`` (B,h,w) in [0,1], corrected by so many ``questions`` to the classifier.

    ``cells`` x ``cells`` values correct the ranks, enlarged smoothly. ``step``: the largest change by the first
    question, as a share of all ranks; it shrinks to 0. ``pull``: the weight of the summed squared correction against
    the objective. ``seed``: of a black box's patterns, the same for every image. No question gives the maps as they
    are, (B,h,w). Raises ValueError for negative numbers, no cells, and targets that don't fit the images.
    """
    check_at_least(0, questions=questions)
    check_at_least(1, cells=cells)
    check_amounts(step=step, pull=pull)
    pixels, large, start = checked_start(classifier, pixels, targets, maps)
    if not questions:
        return maps
    generator = torch.Generator().manual_seed(seed)
    change = torch.zeros(len(pixels), cells, cells, device=pixels.device)
    slope_of = exact_slope if getattr(classifier, "differentiable", True) else estimated_slope

    # one step for each question, whose largest entry per image shrinks to 0
    for number in range(questions):

        def losses(moved: Tensor, area: float = AREAS[number % len(AREAS)]) -> Tensor:
            order = start + resize(moved, tuple(start.shape[1:]))
            return objective(classifier, pixels, targets, order, area) + pull * moved.square().sum((1, 2))

        slope = slope_of(losses, change, generator)
        length = slope.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
        change = change - step * (1 - number / questions) * slope / length
    return reordered(large, start + resize(change, tuple(start.shape[1:])))


def checked_start(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels, the maps (B,H,W) in their size, and the ranks of these; ValueError for what does not fit."""
    check_images(pixels)
    check_targets(targets, len(pixels), getattr(classifier, "num_classes", None))
    if len(pixels):
        check_maps(maps, len(pixels))
    large = resize(maps.detach().float(), tuple(pixels.shape[-2:]))
    return pixels.detach(), large, ranks(large)


def objective(classifier: nn.Module, pixels: Tensor, targets: Tensor, order: Tensor, area: float) -> Tensor:
    """-log p of the targets on what the mask keeps, -log(1 - p) on what it removes; (B,), two images each.

    The mask keeps an ``area`` of the pixels, the largest of the ``order`` (B,H,W); what is removed is black.
    """
    masks = soft_mask(order, area)[:, None]
    own, others = log_answers(classifier, torch.cat([pixels * masks, pixels * (1 - masks)]), targets.repeat(2))
    return -own[: len(pixels)] - others[len(pixels) :]


def log_answers(classifier: nn.Module, pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p) of the targets, (B,) each; FloatingPointError for answers that are NaN.

    p is the softmax over all classes, of a `multi_label` classifier the target's own sigmoid.
    """
    logits, wanted = answers(classifier, pixels), targets[:, None]
    check_answers(logits.detach())
    if getattr(classifier, "multi_label", False):
        own = logits.gather(1, wanted)[:, 0]
        return F.logsigmoid(own), F.logsigmoid(-own)
    others = logits.scatter(1, wanted, -torch.inf).logsumexp(1) - logits.logsumexp(1)
    return logits.log_softmax(1).gather(1, wanted)[:, 0], others


def soft_mask(order: Tensor, area: float) -> Tensor:
    """Masks (B,H,W) in (0,1): a sigmoid that crosses a half where an ``area`` of the ``order`` (B,H,W) is larger."""
    flat = order.detach().flatten(1)
    edge = flat.kthvalue(max(1, round(flat.shape[1] * (1 - area))), dim=1).values
    return ((order - edge[:, None, None]) / SOFTNESS).sigmoid()


def ranks(maps: Tensor) -> Tensor:
    """The share of each map's (B,H,W) pixels that are smaller than a pixel, equal ones by half."""
    flat = maps.flatten(1).contiguous()
    ordered = flat.sort(1).values
    below, upto = (torch.searchsorted(ordered, flat, right=right) for right in (False, True))
    return ((below + upto) / (2 * flat.shape[1])).view_as(maps)


def reordered(maps: Tensor, order: Tensor) -> Tensor:
    """The values of the ``maps`` (B,H,W), handed out in the ``order`` (B,H,W) of each image's pixels."""
    places = order.flatten(1).argsort(dim=1, stable=True)
    return torch.zeros_like(maps).flatten(1).scatter(1, places, maps.flatten(1).sort(1).values).view_as(maps)


def exact_slope(losses, change: Tensor, _: torch.Generator) -> Tensor:
    """The gradient of the ``losses`` (B,) of a change (B,n,m), like it: two images each, forward and backward."""
    with torch.inference_mode(False), torch.enable_grad():
        moved = change.clone().requires_grad_()
        return torch.autograd.grad(losses(moved).sum(), moved)[0]


def estimated_slope(losses, change: Tensor, generator: torch.Generator, width: float = 0.2) -> Tensor:
    """Its estimate from two changes, ``width`` to either side along a random pattern: four images each, forward."""
    pattern = torch.randint(0, 2, change.shape[1:], generator=generator).to(change) * 2 - 1
    with torch.no_grad():
        up, down = (losses(change + sign * width * pattern) for sign in (1, -1))
    return (up - down)[:, None, None] / (2 * width) * pattern
