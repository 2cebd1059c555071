"""P-TAME for a classifier that only answers: training with a stated number of queries instead of gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from ..explainers.ptame import PTAME
from ..progress import progress
from .batches import first_batches
from .ptame import TrainingConfig, train_ptame
from .queries import Antithetic, Surrogate


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
    """Train the explainer on a ``box`` (pixels (B,3,H,W) in [0,1] -> logits (B,K)) that has no gradients, such as a `BlackBox`.

    ``method``: ``antithetic`` estimates the gradient for every mask from ``pairs`` pairs of answers, and needs nothing else;
    ``surrogate`` learns a differentiable imitation of the box from its answers (``warm_up`` steps before the first of the explainer,
    then side by side, asking about ``masks_per_image`` random masks of each image of a step). Notebook 11 compares them. The rest is
    as in `train_ptame`, and one explanation is still one forward pass that does not ask the box.

    Returns the history and the number of images asked for, which is checked beforehand to be at most ``queries_per_image``
    times the number of training images. Raises ValueError where it would be more, or for an unknown method.
    """
    per_image = {"antithetic": 2 + 2 * pairs, "surrogate": 2 + masks_per_image}
    if method not in per_image:
        raise ValueError(f"unknown method {method!r}: choose {' or '.join(per_image)}")
    warm_up = warm_up if method == "surrogate" else 0
    wanted = config.batch_size * (config.steps * per_image[method] + warm_up * masks_per_image)
    if wanted > queries_per_image * len(data):
        less = "masks_per_image, warm_up" if method == "surrogate" else "pairs"
        raise ValueError(
            f"this training asks for {wanted} images, {wanted / len(data):.0f} per training image, above queries_per_image={queries_per_image}: "
            f"lower {less} or steps (now {config.steps}), or give more images (now {len(data)})"
        )
    device = Accelerator().device
    if method == "antithetic":
        asked = Antithetic(box, pairs=pairs, seed=config.seed)
    else:
        asked = Surrogate(
            box, explainer.auxiliary, explainer.num_classes, masks_per_image=masks_per_image, seed=config.seed
        ).to(device)
        if not resume:
            with progress(warm_up, "warm up the surrogate") as bar:
                for pixels in first_batches(data, config, warm_up):
                    bar.set_postfix(asked.learn(pixels.to(device)), refresh=False)
                    bar.update()
    history = train_ptame(explainer, asked, data, config, checkpoint=checkpoint, resume=resume, on_step=on_step)
    return history, asked.queries
