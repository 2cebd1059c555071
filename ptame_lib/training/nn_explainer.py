"""Train the Explainer, or RTIS on its architecture: with labels, a validation and early stopping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..classifiers.wrapper import eval_mode
from ..explainers.nn_explainer import Explainer
from ..losses.nn_explainer import ExplainerWeights, RTISWeights, explainer_loss, rtis_loss, target_masks
from ..masking import blend
from ..validation import check_amounts, check_at_least
from . import distributed
from .batches import Draws, planned
from .checkpoints import TrainingState
from .loop import TrainingLoop


@dataclass(frozen=True)
class ExplainerConfig:
    """How to train: Adam, batches of 16 and early stopping, as published.

    ``lr``: 1e-4 is ResNet-50's on VOC, the others have 1e-5. ``loss``: `RTISWeights` for RTIS's. ``validate_every``:
    steps between validations, 0 for once per epoch. Training stops after ``patience`` validations (2 on COCO) that
    were not better than the best by ``min_delta``. ``schedule``: ``constant``, or ``onecycle`` over all steps.
    ``precision``: accelerate's ``no``, ``bf16`` or ``fp16``. Raises ValueError for numbers out of range.
    """

    steps: int = 100_000
    batch_size: int = 16
    lr: float = 1e-4
    loss: ExplainerWeights | RTISWeights = field(default_factory=ExplainerWeights)
    seed: int = 42
    validate_every: int = 0
    patience: int = 5
    min_delta: float = 1e-3
    schedule: str = "constant"
    precision: str = "no"
    workers: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, batch_size=self.batch_size, patience=self.patience)
        check_at_least(0, steps=self.steps, seed=self.seed, validate_every=self.validate_every, workers=self.workers)
        check_amounts(lr=self.lr, min_delta=self.min_delta)
        distributed.check_precision(self.precision)


def train_explainer(
    explainer: Explainer,
    classifier: nn.Module,
    data: Dataset,
    val_data: Dataset,
    config: ExplainerConfig = ExplainerConfig(),
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    made_from: dict | None = None,
    on_step: Callable[[dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Train the Explainer in place; it ends with the weights of the lowest validation loss, in eval mode.

    Items have ``pixels`` (3,H,W) in [0,1] and ``labels`` (K,), exactly one of them 1 unless
    ``classifier.multi_label``: the loss then asks for each label's sigmoid, else for the softmax over all classes.
    What a mask removes takes the classifier's mean colour. Returns the history: one row per step with step, lr and the
    loss's terms, and ``val_<term>`` if the step ended with a validation. ``checkpoint`` is written at every
    validation. Everything else is as in `train_ptame`, with the same errors, and ValueError for data, a classifier or
    settings that don't fit.
    """
    # what can be refused before the first step
    _check(explainer, classifier, data, val_data, config)
    team = distributed.accelerator(config.batch_size, config.precision)
    if team.num_processes > 1:
        raise ValueError(
            "the Explainer is trained in one process, since its validation is: start it without accelerate launch"
        )

    # the state, the losses of a step and of a validation, and the loop
    optimizer = torch.optim.Adam(explainer.parameters(), lr=config.lr)
    state = TrainingState(explainer, classifier, optimizer, _schedule(optimizer, config), made_from)
    steps = planned(data, config, "pixels", "labels", pinned=team.device.type == "cuda")

    def loss(model: nn.Module, pixels: Tensor, labels: Tensor) -> NamedTuple:
        with team.autocast():
            return _loss(model, classifier, pixels, labels, config)

    def validated() -> dict[str, float]:
        return validate(explainer, classifier, val_data, config)

    every = config.validate_every or len(data) // config.batch_size
    training = TrainingLoop(
        state, steps, loss, config, team, "train Explainer", every, None, validated, checkpoint, on_step
    )
    return training.run(resume)


@torch.no_grad()
def validate(explainer: Explainer, classifier: nn.Module, data: Dataset, config: ExplainerConfig) -> dict[str, float]:
    """The loss's terms on ``data``, in eval mode, as ``val_<term>``: weighted means over batches."""
    device, totals = classifier.mean.device, {}
    # in order, and each image with one seed: a validation always sees the same, whatever steps came before
    numbered = torch.arange(len(data)).repeat(2, 1).T.tolist()
    batches = [numbered[start : start + config.batch_size] for start in range(0, len(data), config.batch_size)]
    loader = DataLoader(Draws(data, "pixels", "labels"), batch_sampler=batches, num_workers=config.workers)
    with eval_mode(explainer):
        for pixels, labels in loader:
            loss = _loss(explainer, classifier, pixels.to(device), labels.to(device), config)
            for term, value in loss._asdict().items():
                totals[f"val_{term}"] = totals.get(f"val_{term}", 0.0) + value.item() * len(pixels) / len(data)
    return totals


def _loss(
    explainer: nn.Module, classifier: nn.Module, pixels: Tensor, labels: Tensor, config: ExplainerConfig
) -> NamedTuple:
    """A batch's loss: one pass of the Explainer, one of the classifier over both parts of each image."""
    logits = explainer(pixels).float()
    masks = target_masks(logits, labels)
    # what the target masks keep, and what they remove
    halves = blend(torch.cat([pixels, pixels]), torch.cat([masks[0], 1 - masks[0]]), classifier.mean)
    kept, removed = classifier(halves).chunk(2)
    loss = rtis_loss if isinstance(config.loss, RTISWeights) else explainer_loss
    multi_label = getattr(classifier, "multi_label", False)
    return loss(logits, labels, kept, removed, masks, config.loss, multi_label=multi_label)


def _schedule(optimizer: torch.optim.Optimizer, config: ExplainerConfig) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "onecycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _check(
    explainer: Explainer, classifier: nn.Module, data: Dataset, val_data: Dataset, config: ExplainerConfig
) -> None:
    # the settings and the classifier
    if config.schedule not in ("constant", "onecycle"):
        raise ValueError(f"unknown schedule {config.schedule!r}: choose constant or onecycle")
    if not getattr(classifier, "differentiable", True) or not hasattr(classifier, "mean"):
        raise ValueError(
            "the Explainer learns through its classifier and paints with its mean colour: "
            f"{type(classifier).__name__} can't be used"
        )

    # both data sets, by their first item
    for name, part in (("training", data), ("validation", val_data)):
        if not len(part):
            raise ValueError(f"there are no {name} images")
        labels = part[0].get("labels")
        if labels is None or labels.shape != (explainer.num_classes,):
            found = "none" if labels is None else f"shape {tuple(labels.shape)}"
            raise ValueError(
                f"the {name} images need labels (K,) of K = {explainer.num_classes} classes, found {found}: "
                "use multi-label data"
            )
