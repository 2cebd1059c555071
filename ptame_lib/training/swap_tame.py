"""Swap-TAME's loss of a training step: what the map puts first takes the decision along into another image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..losses.swaps import SwapLoss, draw_areas, matched_masks, swap, swap_loss
from ..masking import resize
from .checkpoints import TrainingState
from .whole_images import WholeImages

if TYPE_CHECKING:
    from .ptame import TrainingConfig


def swap_step(
    state: TrainingState, decisions: WholeImages, config: TrainingConfig, team: Accelerator
) -> Callable[..., SwapLoss]:
    """A step's loss for the loop: every image is swapped with another of the batch; the step alone draws which."""
    if hasattr(state.classifier, "masked"):
        raise ValueError(
            "a classifier that only answers can't be learned from by swaps: "
            "train P-TAME for it, with train_black_box, or give Swap-TAME a classifier with gradients"
        )

    def loss(model: nn.Module, pixels: Tensor, images: Tensor) -> SwapLoss:
        targets = decisions(pixels, images)  # (b,)
        generator = state.step_generator(config.seed)
        other = torch.randperm(len(pixels), generator=generator).to(pixels.device)
        areas = draw_areas(len(pixels), generator).to(pixels.device)
        with team.autocast():
            own = model(pixels, targets, own=True).float()  # (b,h,w)
            masks = matched_masks(resize(own, pixels.shape[-2:]), areas)
            kept, pasted = state.classifier(torch.cat(swap(pixels, pixels[other], masks))).chunk(2)
        return swap_loss(kept, pasted, targets, targets[other], config.temperature)

    return loss
