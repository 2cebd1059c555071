"""Swap-TAME's loss of a training step: what the map puts first takes the decision along into another image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..losses.regions import draw_regions, moved_shares, region_loss
from ..losses.swaps import RegionSwapLoss, SwapLoss, draw_areas, matched_masks, swap, swap_loss
from ..masking import resize
from .checkpoints import TrainingState
from .whole_images import WholeImages, probabilities

if TYPE_CHECKING:
    from .ptame import TrainingConfig

NO_SWAPS = (
    "a classifier that only answers can't be learned from by swaps: "
    "train P-TAME for it, with train_black_box, or give Swap-TAME a classifier with gradients"
)


def swap_step(
    state: TrainingState, answers: WholeImages, config: TrainingConfig, team: Accelerator
) -> Callable[..., SwapLoss | RegionSwapLoss]:
    """A step's loss for the loop: every image is swapped with one of the batch; the step alone draws with which.

    That may be itself, from which nothing is learnt. Two passes of the classifier for each image, forward and backward;
    with ``config.regions`` a third, forward alone. ``answers``: of whole images, their decisions; with regions their
    probabilities. Raises ValueError for a classifier without gradients.
    """
    if hasattr(state.classifier, "masked") or not getattr(state.classifier, "differentiable", True):
        raise ValueError(NO_SWAPS)

    def loss(model: nn.Module, pixels: Tensor, images: Tensor) -> SwapLoss | RegionSwapLoss:
        whole = answers(pixels, images)  # (b,), or (b,K)
        targets = whole.argmax(1) if config.regions else whole

        # what the whole batch draws, of which this process takes its share
        everyone, decided = team.gather(pixels), team.gather(targets)
        mine = slice(len(pixels) * team.process_index, len(pixels) * (team.process_index + 1))
        generator = state.step_generator(config.seed)
        other = torch.randperm(len(everyone), generator=generator).to(pixels.device)
        areas = draw_areas(len(everyone), generator).to(pixels.device)[mine]
        others = everyone[other[mine]]

        # the map's first pixels go to the other image, and the other's come here
        with team.autocast():
            own = model(pixels, targets, own=True).float()  # (b,h,w)
            masks = matched_masks(resize(own, pixels.shape[-2:]), areas)
            kept, pasted = state.classifier(torch.cat(swap(pixels, others, masks))).chunk(2)
        swapped = swap_loss(kept, pasted, targets, decided[other[mine]], config.temperature)
        if not config.regions:
            return swapped

        # regions that the map has no part in go there, too
        regions = draw_regions(everyone, generator)[mine]  # (b,H,W)
        with team.autocast():
            mixed = probabilities(state.classifier, torch.where(regions[:, None], pixels, others))
        shares, told = moved_shares(team.gather(mixed), team.gather(whole), decided, other)
        found = region_loss(own, regions, shares[mine], told[mine])
        # the mean over the whole batch's told images, not over those of this process
        found = found * (told[mine].sum() * team.num_processes / told.sum().clamp_min(1))
        return RegionSwapLoss(swapped.total + config.regions * found, swapped.kept, swapped.pasted, found)

    return loss
