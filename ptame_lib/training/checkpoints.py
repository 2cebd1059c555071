"""Checkpoints of a training: written whole, never with bad weights, and continued only if they fit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import files

FREE = ("checkpoint_every", "workers")  # settings that may change between a run and its continuation


@dataclass
class TrainingState:
    """What a training changes and a checkpoint keeps; ``explainer`` is what is trained.

    ``origin``: what else the weights depend on; ``best``: the weights of the lowest validation loss, if it validates.
    """

    explainer: nn.Module
    classifier: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    origin: dict | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    scaler: torch.amp.GradScaler | None = None

    def step_generator(self, seed: int) -> torch.Generator:
        """What the next step draws from: it depends on seed and step alone, so that a resumed training draws alike."""
        return torch.Generator().manual_seed(seed * 1_000_003 + len(self.history))


def write(file: Path, config: Any, state: TrainingState) -> None:
    """Write everything that a resumed run needs, and the history next to it as JSON."""
    # what is trained, and all that training it depends on
    content = {
        "config": comparable(config),
        "made_from": state.origin,
        "explainer": state.explainer.trained_state(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": {k: v for k, v in state.schedule.state_dict().items() if not k.startswith("_")},
        "history": state.history,
        "best": state.best,
        "scaler": state.scaler and state.scaler.state_dict(),
    }
    if hasattr(state.classifier, "learned_state"):
        content["classifier"] = {"kind": type(state.classifier).__name__, **state.classifier.learned_state()}

    # the checkpoint first: a history alone could not be continued
    with files.whole(file) as unfinished:
        torch.save(content, unfinished)
    with files.whole(_history(file)) as unfinished:
        unfinished.write_text(json.dumps(state.history))


def set_aside(file: Path) -> None:
    """Keep a checkpoint that a new training would overwrite, with its history, and warn where.

    ``e.ckpt`` becomes ``e-old.ckpt``, or ``e-old2.ckpt`` if there is one already. Without a checkpoint nothing is done.
    Raises OSError where it can't be renamed: it would be lost.
    """
    if not file.exists():
        return
    names = (file.with_stem(f"{file.stem}-old{'' if i == 1 else i}") for i in count(1))
    kept = next(name for name in names if not name.exists() and not _history(name).exists())
    with files.explained(file):
        file.rename(kept)
        if _history(file).exists():
            _history(file).rename(_history(kept))
    shown = files.show(file), files.show(kept)
    warnings.warn(f"{shown[0]}, the state of an earlier training, is not continued: kept as {shown[1]}", stacklevel=2)


def _history(file: Path) -> Path:
    return file.with_suffix(".history.json")


def check_finite(state: TrainingState, file: Path) -> None:
    """Raise FloatingPointError if a trained weight or the optimizer's state is not finite.

    The loss shows bad weights one step too late, and a bad moment of the optimizer perhaps never.
    """
    for name, value in (*state.explainer.trained_state().items(), *_moments(state.optimizer)):
        if value.is_floating_point() and not value.isfinite().all():
            kept = f"; {files.show(file)} keeps the last good state" if file.is_file() else ""
            raise FloatingPointError(
                f"{name} is not finite after step {len(state.history) - 1}, though the loss was: lower lr, "
                f"or check the images{kept}"
            )


def _moments(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for state in optimizer.state.values():
        yield from ((f"the optimizer's {name}", value) for name, value in state.items() if isinstance(value, Tensor))


def comparable(config: Any) -> dict:
    """The settings that a run and its continuation must share."""
    return {key: value for key, value in asdict(config).items() if key not in FREE}


def read(file: Path | None, config: Any, made_from: dict | None = None) -> dict:
    """A checkpoint's content; nothing but tensors and plain values is ever unpickled.

    Raises FileNotFoundError for a missing file, ValueError for none, and for one of other settings or another origin.
    """
    # find and read the file
    if file is None:
        raise ValueError("resume=True needs checkpoint=<file>")
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint at {file}: start with resume=False, or check the path")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        saved = content["config"]
    except Exception as error:
        raise ValueError(
            f"{file} can't be read as a training checkpoint ({type(error).__name__}): "
            "delete it and start with resume=False"
        ) from error

    # compare the settings, then the origin
    wanted, origin = comparable(config), content.get("made_from")
    other = [f"{key}: {saved.get(key)!r}, now {wanted[key]!r}" for key in wanted if saved.get(key) != wanted[key]]
    if other:
        raise ValueError(
            f"{file} was made with other settings ({'; '.join(other)}): use those, or start with resume=False"
        )
    if made_from is not None and origin != made_from:
        changed = [key for key in made_from if (origin or {}).get(key) != made_from[key]]
        raise ValueError(
            f"{file} was made from other data, weights or code ({', '.join(changed)}): "
            "use those, or start with resume=False"
        )
    return content


def fits(file: Path, config: Any, made_from: dict) -> bool:
    """Whether a training can go on from ``file``: whole, of these settings and of this origin."""
    try:
        read(file, config, made_from)
    except (FileNotFoundError, ValueError):
        return False
    return True


def resume(file: Path | None, config: Any, state: TrainingState) -> None:
    """Fill the state from a checkpoint. Raises as `read`, and ValueError for weights that don't fit."""
    content = read(file, config, state.origin)
    state.explainer.fill(content["explainer"], file)
    state.optimizer.load_state_dict(content["optimizer"])
    state.schedule.load_state_dict(content["schedule"])
    state.history, state.best = content["history"], content.get("best")
    if state.scaler is not None and content.get("scaler"):
        state.scaler.load_state_dict(content["scaler"])

    # a classifier that learns, too
    kind = type(state.classifier).__name__ if hasattr(state.classifier, "load_learned_state") else None
    if content.get("classifier", {}).get("kind") != kind:
        raise ValueError(
            f"{file} was made with another way of asking the classifier: use that one, or start with resume=False"
        )
    if kind:
        state.classifier.load_learned_state(content["classifier"])
