"""Train P-TAME and what is trained like it: the settings, P-TAME's loss of a step, the optimizer.

T-TAME and L-CAM-Img have the same loss with other weights; `swap_tame` and `fastshap` hold the losses of theirs.
"""

from __future__ import annotations

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
from ..losses.swaps import TEMPERATURE, matched_masks
from ..masking import keep, keep_share, normalise, resize
from ..validation import check_amounts, check_at_least
from . import distributed
from .batches import Batches, planned
from .checkpoints import TrainingState
from .fastshap import shapley_step
from .loop import TrainingLoop
from .sharing import shared_rows
from .swap_tame import swap_step
from .whole_images import WholeImages, probabilities

MASKS = ("sigmoid", "minmax", "swap", "shapley", "matched")
SOFT = 0.25  # of a map's deviation: how softly a matched mask ends


@dataclass(frozen=True)
class TrainingConfig:
    """How to train: AdamW with amsgrad and OneCycleLR over all steps, as P-TAME's authors do.

    ``optimizer``: ``adamw``, or ``sgd`` (Nesterov momentum 0.9) as for T-TAME. ``precision``: accelerate's ``no``,
    ``bf16`` or ``fp16``. ``warmup``: the share of the steps in which the rate rises.

    Not in the paper, and helpful with few images: ``mask="minmax"`` masks the image as the evaluation does, by its own
    map, min-max normalised (other classes' maps are then not pressed to be empty). ``mask="swap"``: the loss of
    `losses.swaps` alone, which needs no weights; see `swap_config`. Its logits are divided by ``temperature``: 4 for
    ten classes, 1 for a thousand. ``regions``: the weight that `losses.regions` has beside it, for evidence that is
    most of an image. ``mask="shapley"``: the loss of `losses.shapley` alone, which needs no weights either; see
    `shapley_config`. ``shares``: of the largest pixels that the masks keep, one a step in turn.
    ``mask="matched"`` keeps such a share of the image whatever the map's values (`matched_masks`): the order of its
    pixels alone counts, and the area term is idle. ``rest``: the weight of a term -log(1 - p), with the decision's
    probability p on what the mask leaves. ``tied``: all classes' rows of the fuser move by the same amount, so that
    classes without an image learn too; ``mapped``: besides, those of finer levels by what the last level's rows know of
    their class (`sharing.Mapped`). Both are sensible after `PTAME.start_from_head`.

    Raises ValueError for numbers out of range and for what is no number, TypeError for another ``loss``, ``tied`` or
    ``mapped``.
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
    temperature: float = TEMPERATURE
    regions: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(1, batch_size=self.batch_size, checkpoint_every=self.checkpoint_every)
        check_at_least(0, steps=self.steps, seed=self.seed, workers=self.workers)
        amounts = ("lr", "weight_decay", "warmup", "rest", "temperature", "regions")
        check_amounts(**{name: getattr(self, name) for name in amounts})
        if self.warmup > 1:
            raise ValueError(f"warmup is a share of the steps, in [0, 1], got {self.warmup}")
        if self.mask not in MASKS:
            raise ValueError(f"unknown mask {self.mask!r}: choose {', '.join(MASKS[:-1])} or {MASKS[-1]}")
        distributed.check_precision(self.precision)
        shares = self.shares if isinstance(self.shares, tuple | list) else ()
        check_amounts(**{f"shares[{i}]": share for i, share in enumerate(shares)})
        if not shares or not all(0 < share <= 1 for share in shares):
            raise ValueError(f"shares must be some numbers in (0, 1], got {self.shares!r}: 1 keeps the whole map")
        if self.mask == "matched" and max(shares) == 1:
            raise ValueError("matched masks of the share 1 hide nothing: give shares below 1, such as [0.05, 0.1, 0.2]")
        if self.temperature == 0:
            raise ValueError("temperature divides logits, so it can't be 0: give a number above 0")
        if not isinstance(self.loss, PTAMEWeights):
            raise TypeError(f"loss can't be {self.loss!r}: give PTAMEWeights")
        for name in ("tied", "mapped"):
            if not isinstance(value := getattr(self, name), bool):
                raise TypeError(f"{name} can't be {value!r}: give True or False")
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


def check_training(config: TrainingConfig, images: int) -> None:
    """Raise ValueError for settings that `train_ptame` refuses for so many ``images``, before they are made."""
    check_at_least(1, steps=config.steps)
    if config.regions and config.mask != "swap":
        raise ValueError(
            f"regions={config.regions:g} is a term beside swaps, but mask is {config.mask!r}: "
            "train Swap-TAME with swap_config(config), or set regions to 0"
        )
    if config.mask == "swap":
        check_at_least(2, batch_size=config.batch_size)  # an image is swapped with another one
    Batches(images, config)


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

    Raises ValueError for no steps, for regions without swaps and for a checkpoint of other settings, shapes or origin,
    FileNotFoundError for a missing one, RuntimeError if another run writes it, and FloatingPointError for a loss or
    weight that is not finite.
    """
    check_training(config, len(data))
    team = distributed.accelerator(config.batch_size, config.precision)
    if team.num_processes > 1 and hasattr(classifier, "learned_state"):
        raise ValueError(
            "a classifier that only answers is learned from in one process: start one, without accelerate launch"
        )
    explainer.power = 1.0  # of a calibration before
    with shared_rows(explainer, "mapped" if config.mapped else "tied" if config.tied else "free"):
        state = TrainingState(explainer, classifier, *_optimizer(explainer, config), made_from)
        steps = planned(data, config, "pixels", "image", pinned=team.device.type == "cuda")
        make = {"swap": swap_step, "shapley": shapley_step}.get(config.mask, ptame_step)
        all_classes = config.mask == "shapley" or config.regions > 0
        ask = probabilities if all_classes else likeliest
        loss = make(state, WholeImages(ask, classifier, len(data)), config, team)
        training = TrainingLoop(state, steps, loss, config, team, "train P-TAME", config.checkpoint_every)
        training.after_step, training.on_step = getattr(classifier, "learn", None), on_step
        training.checkpoint = checkpoint
        return training.run(resume)


def ptame_step(
    state: TrainingState, decisions: WholeImages, config: TrainingConfig, team: Accelerator
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
