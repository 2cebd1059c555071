"""P-TAME and FastSHAP for a classifier that only answers: training with a stated number of queries, no gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from ..classifiers.wrapper import device_of
from ..explainers.ptame import PTAME
from ..progress import progress
from .batches import planned
from .ptame import TrainingConfig, train_ptame
from .queries import Antithetic, Asked, Surrogate
from .swap_tame import NO_SWAPS


def train_black_box(
    explainer: PTAME,
    box: nn.Module,
    data: Dataset,
    config: TrainingConfig = TrainingConfig(),
    *,
    method: str = "antithetic",
    queries_per_image: int = 300,
    pairs: int = 8,
    masks_per_image: int = 4,
    warm_up: int = 100,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_step: Callable[[dict[str, float]], None] | None = None,
) -> tuple[list[dict[str, float]], int]:
    """Train the explainer for a ``box`` without gradients; return the history and the queries.

    ``box``: pixels (B,3,H,W) in [0,1] -> logits (B,K). ``method``: ``antithetic`` estimates the gradient for every
    mask from ``pairs`` pairs of answers; ``surrogate`` learns to imitate the box from its answers, first in
    ``warm_up`` steps of its own, then in step with the explainer from ``masks_per_image`` random masks of each image.
    FastSHAP (`shapley_config`) wants no gradient, so it has neither: ``method`` and its options change nothing. The
    rest is as in `train_ptame`. Raises ValueError for an unknown method and for a training by swaps, and before
    anything is asked if the training would ask about more than ``queries_per_image`` times the number of training
    images.
    """
    # check the budget: queries per image of a step, other queries, and what lowers both
    masked = 2 if config.rest else 1  # what the map keeps and, if that counts, what it leaves
    warming = config.batch_size * warm_up * masks_per_image
    costs = {
        "antithetic": (1 + masked * (1 + 2 * pairs), 0, "pairs"),
        "surrogate": (1 + masked + masks_per_image, warming, "masks_per_image, warm_up"),
    }
    if method not in costs:
        raise ValueError(f"unknown method {method!r}: choose {' or '.join(costs)}")
    if config.mask == "swap":
        raise ValueError(NO_SWAPS)
    coalitions = config.mask == "shapley"
    per_step, others, less = (3, config.steps, "batch_size") if coalitions else costs[method]
    wanted = config.batch_size * config.steps * per_step + others
    if wanted > queries_per_image * len(data):
        raise ValueError(
            f"this training asks for {wanted} images, {math.ceil(wanted / max(1, len(data)))} per training image, "
            f"above queries_per_image={queries_per_image}: lower {less} or steps (now {config.steps}), "
            f"or give more images (now {len(data)})"
        )

    # wrap the box; a new surrogate warms up
    if coalitions:
        asked = Asked(box, config.seed)
    elif method == "antithetic":
        asked = Antithetic(box, pairs=pairs, seed=config.seed)
    else:
        options = {"masks_per_image": masks_per_image, "seed": config.seed}
        asked = Surrogate(box, explainer.auxiliary, explainer.num_classes, **options)
        _warm_up(asked.to(Accelerator().device), data, config, 0 if resume else warm_up)
    history = train_ptame(explainer, asked, data, config, checkpoint=checkpoint, resume=resume, on_step=on_step)
    return history, asked.queries


def _warm_up(surrogate: Surrogate, data: Dataset, config: TrainingConfig, steps: int) -> None:
    """Let the surrogate learn for ``steps`` on batches that a training with another seed would see."""
    other, device = replace(config, steps=steps, seed=config.seed + 1), device_of(surrogate)
    with progress(steps, "warm up the surrogate") as bar:
        for pixels in planned(data, other, "pixels").batches(0):
            bar.set_postfix(surrogate.learn(pixels.to(device)), refresh=False)
            bar.update()
