"""The Explainer's training loop: P-TAME's, with labels, a validation part and early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..explainers.nn_explainer import Explainer
from ..losses.nn_explainer import (
    ExplainerLoss,
    ExplainerWeights,
    RTISLoss,
    RTISWeights,
    explainer_loss,
    rtis_loss,
    target_masks,
)
from ..masking import blend
from ..progress import progress
from . import checkpoints, distributed
from .batches import Batches, Draws, names
from .loop import stop, stops

ITEM = itemgetter("pixels", "labels")


@dataclass(frozen=True)
class ExplainerConfig:
    """How to train: Adam, batches of 16 and early stopping, as published; lr 1e-4 is ResNet-50's on VOC, the others have 1e-5.

    ``loss``: `ExplainerWeights`, or `RTISWeights` for RTIS's loss. ``steps``: at most; ``validate_every``: steps between validations,
    0 for once per epoch. Training stops after ``patience`` validations (2 on COCO) that weren't better than the best by ``min_delta``.
    ``schedule``: ``constant`` as published, or ``onecycle`` over all steps. ``precision``: accelerate's ``no``, ``bf16`` or ``fp16``.
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
    """Train the Explainer in place to explain the classifier on ``data``; it ends with the weights of the lowest validation loss, in
    eval mode.

    Whether the loss asks each label's sigmoid or the softmax over all classes follows from ``classifier.multi_label``. Items have
    ``pixels`` (3,H,W) in [0,1] and ``labels`` (K,), of which a classifier that is not multi-label wants exactly one to be 1; a data set
    with a method ``draw(i, generator)`` augments by it. What a mask removes takes the classifier's mean colour. Returns the history: one
    row per step with step, lr and the loss's terms, and ``val_<term>`` where the step ended with a validation. With ``checkpoint`` the
    state is written there at every validation (the history beside it as JSON); ``resume=True`` continues from it, and ends as an
    uninterrupted run on the same machine does. ``made_from`` as in `train_ptame`.

    The initial weights are the caller's: call ``torch.manual_seed`` before making the Explainer. Explainer and classifier are moved
    to the device that accelerate finds.

    Raises ValueError for data without fitting labels, a classifier without gradients or a mean colour, settings that don't exist
    and a checkpoint of other settings, shapes or origin, FileNotFoundError for a missing one, RuntimeError where another run writes it,
    FloatingPointError, naming the step and its images, when a loss isn't finite.
    """
    _check(explainer, classifier, data, val_data, config)
    team = distributed.accelerator(config)
    if team.num_processes > 1:
        raise ValueError(
            "the Explainer is trained in one process, since its validation is: start it without accelerate launch"
        )
    optimizer = torch.optim.Adam(explainer.parameters(), lr=config.lr)
    schedule = _schedule(optimizer, config)
    history, best = [], explainer.trained_state()
    plan = Batches(len(data), config)
    every = config.validate_every or len(data) // config.batch_size
    with checkpoints.owned(checkpoint), progress(config.steps, "train Explainer") as bar:
        if resume:
            state = checkpoints.resume(
                checkpoints.required(checkpoint), config, explainer, classifier, optimizer, schedule, made_from
            )
            history, best = state["history"], state["best"]
        plan.first = len(history)
        pinned = team.device.type == "cuda"
        batches = DataLoader(Draws(data, ITEM), batch_sampler=plan, num_workers=config.workers, pin_memory=pinned)
        classifier = classifier.to(team.device)
        model, optimizer, batches = team.prepare(explainer.train(), optimizer, batches)
        bar.update(len(history))
        for pixels, labels in batches if not stops(history, config) else ():
            with team.autocast():
                loss = _loss(model, classifier, pixels, labels, config)
            row = {
                "step": len(history),
                "lr": optimizer.param_groups[0]["lr"],
                **{k: v.item() for k, v in loss._asdict().items()},
            }
            if not math.isfinite(row["total"]):
                stop(row["total"], row["step"], config.lr, names(data, plan.images(row["step"])), checkpoint=checkpoint)
            optimizer.zero_grad()
            team.backward(loss.total)
            optimizer.step()
            schedule.step()
            history.append(row)
            bar.set_postfix(loss=f"{row['total']:.3f}", refresh=False)
            bar.update()
            if len(history) % every == 0 or len(history) == config.steps:
                row |= validate(explainer, classifier, val_data, config)
                if not math.isfinite(row["val_total"]):
                    stop(row["val_total"], row["step"], config.lr, ["those of the validation"], checkpoint=checkpoint)
                if row["val_total"] <= min(earlier.get("val_total", torch.inf) for earlier in history):
                    best = {key: value.detach().cpu().clone() for key, value in explainer.trained_state().items()}
                if checkpoint:
                    checkpoints.check_finite(explainer, optimizer, row["step"], checkpoint)
                    checkpoints.write(
                        checkpoint, config, explainer, classifier, optimizer, schedule, history, made_from, best=best
                    )
            if on_step:
                on_step(row)
            if stops(history, config):
                break
    explainer.fill(best, "the best weights")
    explainer.eval()
    return history


@torch.no_grad()
def validate(explainer: Explainer, classifier: nn.Module, data: Dataset, config: ExplainerConfig) -> dict[str, float]:
    """The loss's terms on ``data``, in eval mode, as ``val_<term>``: the mean over batches, weighted by their sizes."""
    was_training, device = explainer.training, classifier.mean.device
    explainer.eval()
    totals: dict[str, float] = {}
    for pixels, labels in DataLoader(
        Draws(data, ITEM), batch_sampler=_in_order(len(data), config.batch_size), num_workers=config.workers
    ):
        loss = _loss(explainer, classifier, pixels.to(device), labels.to(device), config)
        for term, value in loss._asdict().items():
            totals[f"val_{term}"] = totals.get(f"val_{term}", 0.0) + value.item() * len(pixels) / len(data)
    explainer.train(was_training)
    return totals


def _loss(
    explainer: nn.Module, classifier: nn.Module, pixels: Tensor, labels: Tensor, config: ExplainerConfig
) -> ExplainerLoss | RTISLoss:
    """One forward pass of the Explainer, one of the classifier over what the target masks keep and what they remove."""
    logits = explainer(pixels).float()
    masks = target_masks(logits, labels)
    halves = blend(torch.cat([pixels, pixels]), torch.cat([masks[0], 1 - masks[0]]), classifier.mean)
    kept, removed = classifier(halves).chunk(2)
    loss = rtis_loss if isinstance(config.loss, RTISWeights) else explainer_loss
    return loss(
        logits, labels, kept, removed, masks, config.loss, multi_label=getattr(classifier, "multi_label", False)
    )


def _schedule(optimizer: torch.optim.Optimizer, config: ExplainerConfig) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "onecycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _in_order(n: int, size: int) -> list[list[tuple[int, int]]]:
    """Batches of (index, seed) in order; a validation always sees the same images, whatever steps came before."""
    return [[(i, i) for i in range(start, min(start + size, n))] for start in range(0, n, size)]


def _check(
    explainer: Explainer, classifier: nn.Module, data: Dataset, val_data: Dataset, config: ExplainerConfig
) -> None:
    if config.schedule not in ("constant", "onecycle"):
        raise ValueError(f"unknown schedule {config.schedule!r}: choose constant or onecycle")
    if not getattr(classifier, "differentiable", True) or not hasattr(classifier, "mean"):
        raise ValueError(
            f"the Explainer learns through its classifier and paints with its mean colour: {type(classifier).__name__} can't be used"
        )
    for name, part in (("training", data), ("validation", val_data)):
        if not len(part):
            raise ValueError(f"there are no {name} images")
        labels = part[0].get("labels")
        if labels is None or labels.shape != (explainer.num_classes,):
            found = "none" if labels is None else f"shape {tuple(labels.shape)}"
            raise ValueError(
                f"the {name} images need labels (K,) of K = {explainer.num_classes} classes, found {found}: use multi-label data"
            )
