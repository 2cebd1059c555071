"""The training loop of the explainers: visible, seeded, resumable, on whatever device accelerate finds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from operator import itemgetter
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from . import paths
from .classifiers import decide
from .losses import PTAMEWeights, ptame_loss
from .masking import keep, keep_share, normalise, resize
from .progress import progress
from .ptame import PTAME


@dataclass(frozen=True)
class TrainingConfig:
    """How to train: AdamW with amsgrad and OneCycleLR over all steps, as P-TAME's authors do.

    ``optimizer``: ``adamw``, or ``sgd`` (Nesterov momentum 0.9) as for T-TAME. ``precision``: accelerate's ``no``, ``bf16``
    or ``fp16``. ``checkpoint_every``: steps between checkpoints.

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
    checkpoint_every: int = 200
    workers: int = 0
    mask: str = "sigmoid"
    shares: tuple[float, ...] = (1.0,)
    tied: bool = False


def train_ptame(
    explainer: PTAME,
    classifier: nn.Module,
    data: Dataset,
    config: TrainingConfig = TrainingConfig(),
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_step: Callable[[dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Train the explainer in place to explain the classifier's decisions on ``data`` (no labels are used).

    ``data``: items with ``pixels`` (3,H,W) in [0,1]; a data set with a method ``draw(i, generator)`` augments by it.
    Returns the history: one row per step with step, lr and the loss's terms. With ``checkpoint`` the state is written there
    every ``checkpoint_every`` steps and at the end (the history beside it as JSON); ``resume=True`` continues from it, so
    that the finished weights equal those of an uninterrupted run on the same machine. Which images a step sees and how they
    are augmented depends on (seed, step) alone.

    The explainer's initial weights are the caller's: call ``torch.manual_seed`` before making it. Explainer and classifier are
    moved to the device that accelerate finds. A classifier without gradients comes wrapped by `queries.train_black_box`, with
    ``masked(pixels, masks)``, its answer to what the masks keep, ``learn(pixels)``, called after every step, and
    ``learned_state()`` and ``load_learned_state(state)`` for the checkpoint.

    Raises ValueError for a checkpoint of other settings or shapes, FileNotFoundError for a missing one, FloatingPointError
    when a loss is not finite.
    """
    accelerator = _accelerator(config)
    trained = [p for name, p in explainer.named_parameters() if not name.startswith("auxiliary.")]
    optimizer, schedule = _optimizer(trained, config)
    history: list[dict[str, float]] = []
    if resume:
        history = _resume(_required(checkpoint), config, explainer, classifier, optimizer, schedule)["history"]
    batches = DataLoader(
        _Draws(data, itemgetter("pixels", "image")), batch_sampler=_Batches(len(data), config, first=len(history)), num_workers=config.workers
    )
    decisions = _Decisions(classifier, len(data))
    classifier = classifier.to(accelerator.device)
    answer = getattr(classifier, "masked", lambda pixels, masks: classifier(keep(pixels, masks)))
    model, optimizer, batches = accelerator.prepare(explainer.train(), optimizer, batches)
    with _tied(explainer, config.tied), progress(config.steps, "train P-TAME") as bar:
        bar.update(len(history))
        for pixels, images in batches:
            targets = decisions(pixels, images)
            with accelerator.autocast():
                masks, own = _masks(model(pixels, targets).float(), config.mask)
                masked_logits = answer(pixels, _kept(own, pixels, config.shares[len(history) % len(config.shares)]))
            loss = ptame_loss(masked_logits, targets, masks, config.loss)
            row = {"step": len(history), "lr": optimizer.param_groups[0]["lr"], **{k: v.item() for k, v in loss._asdict().items()}}
            _check_finite(row, config)
            optimizer.zero_grad()
            accelerator.backward(loss.total)
            optimizer.step()
            schedule.step()
            if hasattr(classifier, "learn"):
                row |= classifier.learn(pixels)
            history.append(row)
            bar.set_postfix(loss=f"{row['total']:.3f}", refresh=False)
            bar.update()
            if checkpoint and (len(history) % config.checkpoint_every == 0 or len(history) == config.steps):
                _write_checkpoint(checkpoint, config, explainer, classifier, optimizer, schedule, history)
            if on_step:
                on_step(row)
    explainer.eval()
    return history


def _accelerator(config) -> Accelerator:
    """Seeds everything, and gives the device and precision to train with."""
    set_seed(config.seed)
    AcceleratorState._reset_state()  # an earlier training in this process may have had another precision
    return Accelerator(mixed_precision=config.precision, dataloader_config=DataLoaderConfiguration(split_batches=True))


def _masks(maps: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The loss's masks (B,n,h,w), and each image's own one (B,h,w), of the raw maps (B,B,h,w) of all targets of the batch."""
    if kind not in ("sigmoid", "minmax"):
        raise ValueError(f"unknown mask {kind!r}: choose sigmoid or minmax")
    if kind == "minmax":
        own = normalise(maps.diagonal().permute(2, 0, 1))
        return own[:, None], own
    masks = maps.sigmoid()
    return masks, masks.diagonal().permute(2, 0, 1)


def _kept(masks: Tensor, pixels: Tensor, share: float) -> Tensor:
    return masks if share == 1 else keep_share(resize(masks, pixels.shape[-2:]), share)


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


def _check_finite(row: dict[str, float], config: TrainingConfig) -> None:
    if not math.isfinite(row["total"]):
        raise FloatingPointError(
            f"the loss is {row['total']} at step {row['step']}: lower lr (now {config.lr}), or check the images and the classifier"
        )


def _optimizer(trained: list[nn.Parameter], config: TrainingConfig) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    if config.optimizer not in ("adamw", "sgd"):
        raise ValueError(f"unknown optimizer {config.optimizer!r}: choose adamw or sgd")
    if config.optimizer == "adamw":
        optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay, amsgrad=True)
    else:
        optimizer = torch.optim.SGD(trained, lr=config.lr, weight_decay=config.weight_decay, momentum=0.9, nesterov=True)
    # The schedule moves AdamW's momentum as well, torch's default; the published SGD keeps 0.9.
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.steps, cycle_momentum=config.optimizer == "adamw")


def first_batches(data: Dataset, config: TrainingConfig, count: int) -> Iterator[Tensor]:
    """Pixels (B,3,H,W) of ``count`` batches, as the training with another seed would see them."""
    other = replace(config, steps=count, seed=config.seed + 1)
    yield from DataLoader(_Draws(data), batch_sampler=_Batches(len(data), other, first=0), num_workers=config.workers)


def stops(history: list[dict[str, float]], config) -> bool:
    """Whether the last ``config.patience`` validations (rows with ``val_total``) were no better than the best before them by more than
    ``config.min_delta``: early stopping."""
    best, waited = torch.inf, 0
    for row in history:
        if "val_total" in row:
            better = row["val_total"] < best - config.min_delta
            best, waited = (row["val_total"], 0) if better else (best, waited + 1)
    return waited >= config.patience


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


class _Draws(Dataset):
    """Items (index, seed of its augmentation) -> pixels, or whatever of the item is wanted; ``image`` is its index, -1 if augmented."""

    def __init__(self, data: Dataset, wanted: Callable[[dict], Tensor | tuple] = itemgetter("pixels")):
        self.data, self.wanted = data, wanted

    def __getitem__(self, item: tuple[int, int]) -> Tensor | tuple:
        index, seed = item
        if hasattr(self.data, "draw"):
            return self.wanted(self.data.draw(index, torch.Generator().manual_seed(seed)) | {"image": -1})
        return self.wanted(self.data[index] | {"image": index})


class _Batches:
    """The batches of steps first..steps-1, each a pure function of (seed, step), so that a resumed run sees the same."""

    def __init__(self, n: int, config: TrainingConfig, first: int):
        if n < config.batch_size:
            raise ValueError(f"{n} training images are fewer than one batch of {config.batch_size}: give more images or a smaller batch_size")
        self.n, self.config, self.first = n, config, first
        self.batch_size, self.drop_last = config.batch_size, True

    def __len__(self) -> int:
        return self.config.steps - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = self.n // self.batch_size
        order, epoch = None, -1
        for step in range(self.first, self.config.steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = torch.randperm(self.n, generator=torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)).tolist()
            at = step % per_epoch * self.batch_size
            yield [(index, hash((self.config.seed, step, index)) % 2**31) for index in order[at : at + self.batch_size]]


def _write_checkpoint(
    file: Path, config: TrainingConfig, explainer: PTAME, classifier: nn.Module, optimizer, schedule, history: list[dict], **more
) -> None:
    state = {
        "config": _comparable(config),
        "explainer": explainer.trained_state(),
        "optimizer": getattr(optimizer, "optimizer", optimizer).state_dict(),
        "schedule": {k: v for k, v in schedule.state_dict().items() if not k.startswith("_")},
        "history": history,
        **more,
    }
    if hasattr(classifier, "learned_state"):
        state["classifier"] = {"kind": type(classifier).__name__, **classifier.learned_state()}
    with paths.whole(file) as unfinished:
        torch.save(state, unfinished)
    with paths.whole(file.with_suffix(".history.json")) as unfinished:
        unfinished.write_text(json.dumps(history))


def _comparable(config: TrainingConfig) -> dict:
    return {key: value for key, value in asdict(config).items() if key not in ("checkpoint_every", "workers")}


def _required(checkpoint: Path | None) -> Path:
    if checkpoint is None:
        raise ValueError("resume=True needs checkpoint=<file>")
    if not checkpoint.is_file():
        raise FileNotFoundError(f"no checkpoint at {checkpoint}: start with resume=False, or check the path")
    return checkpoint


def _resume(file: Path, config: TrainingConfig, explainer: PTAME, classifier: nn.Module, optimizer, schedule) -> dict:
    """Fill everything from a checkpoint and return its content; nothing but tensors and plain values is ever unpickled."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        saved = state["config"]
    except Exception as error:
        raise ValueError(f"{file} can't be read as a training checkpoint ({type(error).__name__}): delete it and start with resume=False") from error
    wanted = _comparable(config)
    other = [f"{key}: {saved.get(key)!r}, now {wanted[key]!r}" for key in wanted if saved.get(key) != wanted[key]]
    if other:
        raise ValueError(f"{file} was made with other settings ({'; '.join(other)}): use those, or start with resume=False")
    explainer.fill(state["explainer"], file)
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    kind = type(classifier).__name__ if hasattr(classifier, "load_learned_state") else None
    if state.get("classifier", {}).get("kind") != kind:
        raise ValueError(f"{file} was made with another way of asking the classifier: use that one, or start with resume=False")
    if "classifier" in state:
        classifier.load_learned_state(state["classifier"])
    return state
