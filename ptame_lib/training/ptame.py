"""Train P-TAME, Swap-TAME, T-TAME, L-CAM-Img and FastSHAP: the settings, the loss of a step, the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..classifiers.wrapper import likeliest
from ..explainers.ptame import PTAME
from ..losses.ptame import PTAMELoss, PTAMEWeights, ptame_loss
from ..losses.shapley import ShapleyLoss, as_masks, draw_coalitions, shapley_loss
from ..losses.swaps import SwapLoss, draw_areas, matched_masks, swap, swap_loss
from ..masking import keep, keep_share, normalise, resize
from ..validation import check_at_least, check_images
from . import distributed
from .batches import planned
from .checkpoints import TrainingState
from .loop import TrainingLoop
from .sharing import shared_rows

MASKS = ("sigmoid", "minmax", "swap", "shapley", "matched")
SOFT = 0.25  # of a map's deviation: how softly a matched mask ends


@dataclass(frozen=True)
class TrainingConfig:
    """How to train: AdamW with amsgrad and OneCycleLR over all steps, as P-TAME's authors do.

    ``optimizer``: ``adamw``, or ``sgd`` (Nesterov momentum 0.9) as for T-TAME. ``precision``: accelerate's ``no``,
    ``bf16`` or ``fp16``. ``warmup``: the share of the steps in which the rate rises.

    Not in the paper, and helpful with few images: ``mask="minmax"`` masks the image as the evaluation does, by its own
    map, min-max normalised (other classes' maps are then not pressed to be empty). ``mask="swap"``: the loss of
    `losses.swaps` alone, which needs no weights; see `swap_config`. ``mask="shapley"``: that of `losses.shapley` alone,
    which needs none either; see `shapley_config`. ``shares``: of the largest pixels that the masks keep, one a step in
    turn. ``mask="matched"`` keeps such a share of the image whatever the map's values (`matched_masks`): the order of
    its pixels alone counts, and the area term is idle. ``rest``: the weight of a term -log(1 - p), with the decision's
    probability p on what the mask leaves. ``tied``: all classes' rows of the fuser move by the same amount, so that
    classes without an image learn too; ``mapped``: besides, those of finer levels by what the last level's rows know of
    their class (`sharing.Mapped`). Both are sensible after `PTAME.start_from_head`.
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
    rest: float = 0.0
    tied: bool = False
    mapped: bool = False

    def __post_init__(self) -> None:
        check_at_least(1, batch_size=self.batch_size, checkpoint_every=self.checkpoint_every)
        check_at_least(0, steps=self.steps, seed=self.seed, workers=self.workers)
        if not 0 <= self.lr < math.inf or not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"lr and weight_decay can't be {self.lr} and {self.weight_decay}: "
                "give finite numbers that are not negative"
            )
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of the steps, in [0, 1], got {self.warmup}")
        if self.mask not in MASKS:
            raise ValueError(f"unknown mask {self.mask!r}: choose {', '.join(MASKS[:-1])} or {MASKS[-1]}")
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise ValueError(f"shares must be some numbers in (0, 1], got {self.shares}: 1 keeps the whole map")
        if self.mask == "matched" and max(self.shares) == 1:
            raise ValueError("matched masks of the share 1 hide nothing: give shares below 1, such as [0.05, 0.1, 0.2]")
        if not 0 <= self.rest < math.inf:
            raise ValueError(f"rest is a weight, a finite number that is not negative, got {self.rest}")
        if self.tied and self.mapped:
            raise ValueError("rows can't be tied and mapped at once: choose one")


def lcam_config(config: TrainingConfig) -> TrainingConfig:
    """The same training with L-CAM-Img's loss as its authors' code has it: 1.5 CE + 2 mean(M^0.3) + 0.01 TV.

    M are the maps of all targets of the batch; the border lines count .3 in the total variation TV.
    """
    return replace(config, loss=PTAMEWeights(ce=1.5, area=2.0, smooth=0.01, border=0.3, p=0.3, q=2.0))


def swap_config(config: TrainingConfig) -> TrainingConfig:
    """The same training by swaps, for Swap-TAME."""
    return replace(config, mask="swap")


def shapley_config(config: TrainingConfig) -> TrainingConfig:
    """The same training by coalitions of patches, for FastSHAP."""
    return replace(config, mask="shapley")


OWN_LOSS = {"L-CAM-Img": lcam_config, "Swap-TAME": swap_config, "FastSHAP": shapley_config}  # methods that have one


def config_for(method: str, config: TrainingConfig) -> TrainingConfig:
    """The training of a method of `explainers.names.TRAINED`, some of which have a loss of their own."""
    return OWN_LOSS.get(method, lambda same: same)(config)


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
    """Train the explainer in place to explain the classifier's decisions on ``data``; no labels are used.

    ``data``: items with ``pixels`` (3,H,W) in [0,1]; a method ``draw(i, generator)`` augments them. Returns the
    history: one row per step with step, lr and the loss's terms. Call ``torch.manual_seed`` before making the
    explainer: its initial weights are yours. Explainer and classifier move to the device that accelerate finds.

    Every ``checkpoint_every`` steps and at the end ``checkpoint`` is written, and the history next to it as JSON.
    ``resume=True`` continues from it and ends with the weights of an uninterrupted run on the same machine; without it,
    a checkpoint that is there is kept under another name, which a warning tells.
    ``made_from``: what else the weights depend on, compared on resuming. In several processes (``accelerate launch``)
    the main one alone writes, shows the bar and calls ``on_step``; see `distributed`.

    Raises ValueError for a checkpoint of other settings, shapes or origin, FileNotFoundError for a missing one,
    RuntimeError if another run writes it, and FloatingPointError for a loss or weight that is not finite.
    """
    team = distributed.accelerator(config.batch_size, config.precision)
    if team.num_processes > 1 and hasattr(classifier, "learned_state"):
        raise ValueError(
            "a classifier that only answers is learned from in one process: start one, without accelerate launch"
        )
    explainer.power = 1.0  # of a calibration before
    with shared_rows(explainer, "mapped" if config.mapped else "tied" if config.tied else "free"):
        state = TrainingState(explainer, classifier, *_optimizer(explainer, config), made_from)
        steps = planned(data, config, "pixels", "image", pinned=team.device.type == "cuda")
        make = {"swap": _swap_loss, "shapley": _shapley_loss}.get(config.mask, _step_loss)
        ask = _probabilities if config.mask == "shapley" else likeliest
        loss = make(state, _WholeImages(ask, classifier, len(data)), config, team)
        training = TrainingLoop(state, steps, loss, config, team, "train P-TAME", config.checkpoint_every)
        training.after_step, training.on_step = getattr(classifier, "learn", None), on_step
        training.checkpoint = checkpoint
        return training.run(resume)


def _step_loss(
    state: TrainingState, decisions: _WholeImages, config: TrainingConfig, team: Accelerator
) -> Callable[..., PTAMELoss]:
    """A step's loss for the loop; a classifier may have its own ``masked(pixels, masks)``."""
    answer = getattr(state.classifier, "masked", lambda pixels, masks: state.classifier(keep(pixels, masks)))

    def loss(model: nn.Module, pixels: Tensor, images: Tensor) -> PTAMELoss:
        targets = decisions(pixels, images)  # (b,): of the whole batch, or of this process's share of its B images
        with team.autocast():
            share = config.shares[len(state.history) % len(config.shares)]
            masks, own, counts = _masks(model, pixels, targets, team, config.mask, share)
            whole = share == 1 or config.mask == "matched"
            kept = own if whole else keep_share(resize(own, pixels.shape[-2:]), share)
            masked_logits = answer(pixels, kept)
            rest = answer(pixels, 1 - kept).float() if config.rest else None
        found = ptame_loss(masked_logits, targets, masks, config.loss, counts)
        return found if rest is None else found._replace(total=found.total + config.rest * _left(rest, targets))

    return loss


def _swap_loss(
    state: TrainingState, decisions: _WholeImages, config: TrainingConfig, team: Accelerator
) -> Callable[..., SwapLoss]:
    """A step's loss for the loop: every image is swapped with another of the batch; the step alone draws which."""
    if hasattr(state.classifier, "masked"):
        raise ValueError(
            "a classifier that only answers can't be learned from by swaps: "
            "train P-TAME for it, with train_black_box, or give Swap-TAME a classifier with gradients"
        )

    def loss(model: nn.Module, pixels: Tensor, images: Tensor) -> SwapLoss:
        targets = decisions(pixels, images)  # (b,)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + len(state.history))
        other = torch.randperm(len(pixels), generator=generator).to(pixels.device)
        areas = draw_areas(len(pixels), generator).to(pixels.device)
        with team.autocast():
            own = model(pixels, targets, own=True).float()  # (b,h,w)
            masks = matched_masks(resize(own, pixels.shape[-2:]), areas)
            kept, pasted = state.classifier(torch.cat(swap(pixels, pixels[other], masks))).chunk(2)
        return swap_loss(kept, pasted, targets, targets[other])

    return loss


def _shapley_loss(
    state: TrainingState, answers: _WholeImages, config: TrainingConfig, team: Accelerator
) -> Callable[..., ShapleyLoss]:
    """A step's loss for the loop: a coalition of patches and the rest, for each image; the step alone draws which.

    Two forward passes of the classifier for each image, none backward: as many as P-TAME's.
    """
    if hasattr(state.classifier, "masked"):
        raise ValueError(
            "coalitions are asked about without gradients or a surrogate: give train_ptame the black box itself"
        )
    empty: list[Tensor] = []  # the probabilities (K,) of black, once they are known

    def loss(model: nn.Module, pixels: Tensor, images: Tensor) -> ShapleyLoss:
        # the classes that the batch is decided for, and their probabilities on the whole images and on black
        full = answers(pixels, images)  # (b,K)
        classes = distributed.all_targets(full.argmax(1), team).unique()  # (n,)
        if not empty:
            empty.append(_probabilities(state.classifier, torch.zeros_like(pixels[:1]))[0])
        with team.autocast():
            values = model(pixels, classes).float()  # (b,n,h,w)

            # this process's share of the pairs of the whole batch
            b, _, h, w = values.shape
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + len(state.history))
            drawn = draw_coalitions(b * team.num_processes, h * w, generator)
            own = drawn[b * team.process_index :][:b].to(pixels.device)
            pair = torch.stack([own, ~own])  # (2,b,h*w)

            masks = as_masks(pair.view(2 * b, h, w), pixels.shape[-2:])
            kept = _probabilities(state.classifier, keep(pixels.repeat(2, 1, 1, 1), masks))
        worths = kept[:, classes].view(2, b, len(classes))
        return shapley_loss(values.flatten(2), pair, worths, full[:, classes], empty[0][classes])

    return loss


def _probabilities(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """The classifier's probabilities (B,K), without any check or gradient."""
    with torch.no_grad():
        return classifier(pixels).float().softmax(1)


def _left(logits: Tensor, targets: Tensor) -> Tensor:
    """-log(1 - p) of the targets (B,), the mean; at most 9.2, since where p is 1 it would be infinite."""
    p = logits.softmax(1).gather(1, targets[:, None])
    return -(1 - p + 1e-4).log().mean()


def _masks(
    model: nn.Module, pixels: Tensor, targets: Tensor, team: Accelerator, kind: str, share: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Maps (b,n,h,w) of the batch's n distinct targets, each image's own (b,h,w), and the counts (n,).

    Masks of other kinds than the sigmoid are the images' own alone: n is 1, and nothing is counted.
    """
    distinct, which, counts = distributed.all_targets(targets, team).unique(return_inverse=True, return_counts=True)
    maps = model(pixels, distinct).float()
    own = maps[torch.arange(len(targets), device=which.device), which[: len(targets)]]
    if kind == "sigmoid":
        return maps.sigmoid(), own.sigmoid(), counts
    own = matched_masks(own, own.new_full((len(own),), share), SOFT) if kind == "matched" else normalise(own)
    return own[:, None], own, None


def _optimizer(
    explainer: PTAME, config: TrainingConfig
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    if config.optimizer not in ("adamw", "sgd"):
        raise ValueError(f"unknown optimizer {config.optimizer!r}: choose adamw or sgd")
    trained = [p for name, p in explainer.named_parameters() if not name.startswith("auxiliary.")]
    rates, adamw = {"lr": config.lr, "weight_decay": config.weight_decay}, config.optimizer == "adamw"
    if adamw:
        optimizer = torch.optim.AdamW(trained, **rates, amsgrad=True)
    else:
        optimizer = torch.optim.SGD(trained, **rates, momentum=0.9, nesterov=True)
    # the schedule also moves AdamW's momentum, as is torch's default; the published SGD keeps 0.9
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, config.steps, pct_start=config.warmup, cycle_momentum=adamw
    )


class _WholeImages:
    """What ``ask`` finds about whole images, asked for once about each image that never changes (not -1).

    A classifier that counts its queries is asked every time, so that a resumed training counts as an uninterrupted one.
    """

    def __init__(self, ask: Callable[[nn.Module, Tensor], Tensor], classifier: nn.Module, count: int):
        self.ask, self.classifier = ask, classifier
        self.known, self.answers = torch.zeros(count, dtype=torch.bool), torch.empty(0)
        self.counts, self.checked = hasattr(classifier, "learned_state"), False

    def __call__(self, pixels: Tensor, images: Tensor) -> Tensor:
        # check the first batch; if it is not finite, the loss says so, and names the image
        if not self.checked and pixels.isfinite().all():
            check_images(pixels)
        self.checked = True

        # ask about images that are new or change
        images = images.cpu()
        if self.counts or (images < 0).any() or not self.known[images].all():
            found = self.ask(self.classifier, pixels)
            if not len(self.answers):
                self.answers = torch.empty(len(self.known), *found.shape[1:], dtype=found.dtype)
            fixed = images >= 0
            self.answers[images[fixed]], self.known[images[fixed]] = found.cpu()[fixed], True
            return found
        return self.answers[images].to(pixels.device)
