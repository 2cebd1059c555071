"""The training loop of the explainers: visible, seeded, resumable, on whatever device accelerate finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..classifiers.wrapper import likeliest as decide
from ..explainers.ptame import PTAME
from ..losses.ptame import PTAMEWeights, ptame_loss
from ..masking import keep, keep_share, normalise, resize
from ..progress import progress
from ..validation import check_at_least, check_images
from . import checkpoints, distributed
from .batches import Batches, Draws, names
from .loop import stop


def lcam_config(config: TrainingConfig) -> TrainingConfig:
    """The same training with L-CAM-Img's loss: 0.01 TV + 2 mean(M^0.3) + 1.5 CE, of each image's own map M, no border lines."""
    return replace(config, loss=PTAMEWeights(ce=1.5, area=2.0, smooth=0.01, border=0.0, p=0.3, q=2.0))


MASKS = ("sigmoid", "minmax")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train: AdamW with amsgrad and OneCycleLR over all steps, as P-TAME's authors do.

    ``optimizer``: ``adamw``, or ``sgd`` (Nesterov momentum 0.9) as for T-TAME. ``precision``: accelerate's ``no``, ``bf16``
    or ``fp16``. ``warmup``: the share of the steps in which the rate rises. ``checkpoint_every``: steps between checkpoints.

    What the paper does not do, for few images: ``mask``: ``sigmoid`` as published, or ``minmax``, which masks the image as the evaluation
    does, with each image's own map, min-max normalised (other classes' maps are then not pressed to be empty). ``shares``: the shares
    of the largest pixels that a step's masks keep, step by step in turn, as AD and IC do at 50 % and 15 %. ``tied``: all classes' rows of
    the fuser move alike, so that classes without an image learn as well; sensible after `PTAME.start_from_head`.
    """

    steps: int = 600
    batch_size: int = 32
    lr: float = 1e-2
    weight_decay: float = 0.01
    loss: PTAMEWeights = field(default_factory=PTAMEWeights)
    seed: int = 0
    optimizer: str = "adamw"
    precision: str = "no"
    warmup: float = 0.3
    checkpoint_every: int = 200
    workers: int = 0
    mask: str = "sigmoid"
    shares: tuple[float, ...] = (1.0,)
    tied: bool = False

    def __post_init__(self) -> None:
        check_at_least(1, batch_size=self.batch_size, checkpoint_every=self.checkpoint_every)
        check_at_least(0, steps=self.steps, workers=self.workers)
        if not 0 <= self.lr < math.inf or not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"lr and weight_decay can't be {self.lr} and {self.weight_decay}: give finite numbers that are not negative"
            )
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of the steps, in [0, 1], got {self.warmup}")
        if self.mask not in MASKS:
            raise ValueError(f"unknown mask {self.mask!r}: choose sigmoid or minmax")
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise ValueError(f"shares must be some numbers in (0, 1], got {self.shares}: 1 keeps the whole map")


def train_ptame(
    explainer: PTAME,
    classifier: nn.Module,
    data: Dataset,
    config: TrainingConfig = TrainingConfig(),
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    made_from: dict | None = None,
    on_step: Callable[[dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Train the explainer in place to explain the classifier's decisions on ``data`` (no labels are used).

    ``data``: items with ``pixels`` (3,H,W) in [0,1]; a data set with a method ``draw(i, generator)`` augments by it.
    Returns the history: one row per step with step, lr and the loss's terms. With ``checkpoint`` the state is written there
    every ``checkpoint_every`` steps and at the end (the history beside it as JSON); ``resume=True`` continues from it, so
    that the finished weights equal those of an uninterrupted run on the same machine. Which images a step sees and how they
    are augmented depends on (seed, step) alone. ``made_from``: what else the weights depend on (`records.fingerprint`), kept in the
    checkpoint and compared on resuming; `checkpoints.fits` asks beforehand.

    Started by ``accelerate launch`` in several processes, each sees its share of every batch, and the finished weights are those of
    one process up to rounding (`parallel` says how). The main process alone writes, shows the bar and calls ``on_step``.

    The explainer's initial weights are the caller's: call ``torch.manual_seed`` before making it. Explainer and classifier are
    moved to the device that accelerate finds. A classifier without gradients comes wrapped by `black_box.train_black_box`, with
    ``masked(pixels, masks)``, its answer to what the masks keep, ``learn(pixels)``, called after every step, and
    ``learned_state()`` and ``load_learned_state(state)`` for the checkpoint.

    Raises ValueError for a checkpoint of other settings, shapes or origin, FileNotFoundError for a missing one, RuntimeError where
    another run writes it, FloatingPointError, naming the step and its images, when a loss is not finite, and when a weight is not
    where a checkpoint is due: the last good one is kept.
    """
    team = distributed.accelerator(config)
    if team.num_processes > 1 and hasattr(classifier, "learned_state"):
        raise ValueError(
            "a classifier that only answers is learned from in one process: start one, without accelerate launch"
        )
    trained = [p for name, p in explainer.named_parameters() if not name.startswith("auxiliary.")]
    optimizer, schedule = _optimizer(trained, config)
    history: list[dict[str, float]] = []
    plan = Batches(len(data), config)
    main = team.is_main_process
    with (
        checkpoints.owned(checkpoint if main else None),
        distributed.global_statistics(explainer, team),
        _tied(explainer, config.tied),
    ):
        if resume:
            state = checkpoints.resume(
                checkpoints.required(checkpoint), config, explainer, classifier, optimizer, schedule, made_from
            )
            history = state["history"]
            if team.scaler is not None and state.get("scaler"):
                team.scaler.load_state_dict(state["scaler"])
        plan.first = len(history)
        pinned = team.device.type == "cuda"
        batches = DataLoader(
            Draws(data, itemgetter("pixels", "image")),
            batch_sampler=plan,
            num_workers=config.workers,
            pin_memory=pinned,
        )
        decisions = _Decisions(classifier, len(data))
        classifier = classifier.to(team.device)
        answer = getattr(classifier, "masked", lambda pixels, masks: classifier(keep(pixels, masks)))
        model, optimizer, batches = team.prepare(explainer.train(), optimizer, batches)
        with progress(config.steps, "train P-TAME", shown=main) as bar:
            bar.update(len(history))
            for pixels, images in batches:
                if (
                    len(history) == plan.first and pixels.isfinite().all()
                ):  # else the loss says so, with the image's name
                    check_images(pixels)
                targets = decisions(pixels, images)  # (b,): all of the batch, or this process's share of its B images
                with team.autocast():
                    masks, own, counts = _masks(model, pixels, targets, team, explainer.own_only, config.mask)
                    share = config.shares[len(history) % len(config.shares)]
                    masked_logits = answer(
                        pixels, own if share == 1 else keep_share(resize(own, pixels.shape[-2:]), share)
                    )
                loss = ptame_loss(masked_logits, targets, masks, config.loss, counts)
                row = {
                    "step": len(history),
                    "lr": optimizer.param_groups[0]["lr"],
                    **distributed.mean_over_processes(loss._asdict(), team),
                }
                if not math.isfinite(row["total"]):
                    with torch.no_grad():
                        bad = (~team.gather(classifier(pixels)).isfinite().all(1)).tolist()
                    stop(row["total"], len(history), config.lr, names(data, plan.images(len(history))), bad, checkpoint)
                optimizer.zero_grad()
                team.backward(loss.total)
                optimizer.step()
                schedule.step()
                if hasattr(classifier, "learn"):
                    row |= classifier.learn(pixels)
                history.append(row)
                bar.set_postfix(loss=f"{row['total']:.3f}", refresh=False)
                bar.update()
                if checkpoint and (len(history) % config.checkpoint_every == 0 or len(history) == config.steps):
                    checkpoints.check_finite(explainer, optimizer, row["step"], checkpoint)
                    if main:
                        scaler = team.scaler and team.scaler.state_dict()
                        checkpoints.write(
                            checkpoint,
                            config,
                            explainer,
                            classifier,
                            optimizer,
                            schedule,
                            history,
                            made_from,
                            scaler=scaler,
                        )
                if on_step and main:
                    on_step(row)
    explainer.eval()
    return history


def _masks(
    model: nn.Module, pixels: Tensor, targets: Tensor, team: Accelerator, own_only: bool, kind: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What a step's loss is made of: for every image of this process the maps of all targets of the batch (b,n,h,w), each image's own
    one (b,h,w), and how many images of the batch each of the n distinct targets has: their maps are the same, so that each is made once.
    Where the loss sees the images' own maps alone, n is 1, and nothing is counted."""
    if own_only:
        own = model(pixels, targets).float()[:, 0]
    else:
        distinct, which, counts = distributed.all_targets(targets, team).unique(return_inverse=True, return_counts=True)
        maps = model(pixels, distinct).float()
        own = maps[torch.arange(len(targets), device=which.device), which[: len(targets)]]
        if kind == "sigmoid":
            return maps.sigmoid(), own.sigmoid(), counts
    own = own.sigmoid() if kind == "sigmoid" else normalise(own)
    return own[:, None], own, None


@contextmanager
def _tied(explainer: PTAME, tied: bool) -> Iterator[None]:
    """Inside, every class's row of the fuser gets the sum of all rows' gradients, if ``tied``."""
    parameters = explainer.fuser.parameters() if tied else ()
    hooks = [p.register_hook(lambda gradient: gradient.sum(0, keepdim=True).expand_as(gradient)) for p in parameters]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _optimizer(
    trained: list[nn.Parameter], config: TrainingConfig
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    if config.optimizer not in ("adamw", "sgd"):
        raise ValueError(f"unknown optimizer {config.optimizer!r}: choose adamw or sgd")
    if config.optimizer == "adamw":
        optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay, amsgrad=True)
    else:
        optimizer = torch.optim.SGD(
            trained, lr=config.lr, weight_decay=config.weight_decay, momentum=0.9, nesterov=True
        )
    # The schedule moves AdamW's momentum as well, torch's default; the published SGD keeps 0.9.
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, config.steps, pct_start=config.warmup, cycle_momentum=config.optimizer == "adamw"
    )


class _Decisions:
    """The classifier's decisions, asked for once about images that never change: those with a number of their own.

    One that counts its questions is asked anew, since a resumed training must count as an uninterrupted one.
    """

    def __init__(self, classifier: nn.Module, count: int):
        self.classifier, self.known = classifier, torch.full((count,), -1)
        self.counts = hasattr(classifier, "learned_state")

    def __call__(self, pixels: Tensor, images: Tensor) -> Tensor:
        images = images.cpu()
        if self.counts or (images < 0).any() or (self.known[images] < 0).any():
            found = decide(self.classifier, pixels)
            self.known[images[images >= 0]] = found.cpu()[images >= 0]
            return found
        return self.known[images].to(pixels.device)
