"""FastSHAP's loss of a training step: the least squares of coalitions of patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..losses.shapley import ShapleyLoss, as_masks, draw_coalitions, shapley_loss
from ..masking import keep
from . import distributed
from .checkpoints import TrainingState
from .whole_images import WholeImages, probabilities

if TYPE_CHECKING:
    from .ptame import TrainingConfig


def shapley_step(
    state: TrainingState, answers: WholeImages, config: TrainingConfig, team: Accelerator
) -> Callable[..., ShapleyLoss]:
    """A step's loss for the loop: a coalition of patches and the rest, for each image; the step alone draws which.

    Two forward passes of the classifier for each image, none backward: as many as P-TAME's. ``answers``: of whole
    images, their probabilities; black is asked about as these are.
    """
    black = WholeImages(probabilities, state.classifier, 1)

    def loss(model: nn.Module, pixels: Tensor, images: Tensor) -> ShapleyLoss:
        # the classes that the batch is decided for, and their probabilities on the whole images and on black
        full = answers(pixels, images)  # (b,K)
        classes = distributed.all_targets(full.argmax(1), team).unique()  # (n,)
        empty = black(torch.zeros_like(pixels[:1]), torch.zeros(1, dtype=torch.long))[0]  # (K,)
        with team.autocast():
            values = model(pixels, classes).float()  # (b,n,h,w)

            # this process's share of the pairs of the whole batch
            b, _, h, w = values.shape
            generator = state.step_generator(config.seed)
            drawn = draw_coalitions(b * team.num_processes, h * w, generator)
            own = drawn[b * team.process_index :][:b].to(pixels.device)
            pair = torch.stack([own, ~own])  # (2,b,h*w)

            masks = as_masks(pair.view(2 * b, h, w), pixels.shape[-2:])
            kept = probabilities(state.classifier, keep(pixels.repeat(2, 1, 1, 1), masks))
        worths = kept[:, classes].view(2, b, len(classes))
        return shapley_loss(values.flatten(2), pair, worths, full[:, classes], empty[classes])

    return loss
