"""Checkpoints of both explainers' trainings: written whole, never with bad weights, and continued only where they fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import files

FREE = ("checkpoint_every", "workers")  # settings that may change between a run and its continuation


@contextmanager
def owned(file: Path | None) -> Iterator[None]:
    """Nobody else trains into the checkpoint ``file`` meanwhile (`files.alone`); None: nothing is written."""
    with files.alone(file) if file else nullcontext():
        yield


def write(
    file: Path,
    config: Any,
    explainer: nn.Module,
    classifier: nn.Module,
    optimizer,
    schedule,
    history: list[dict],
    made_from: dict | None,
    **more,
) -> None:
    """Everything a resumed run needs, and the history beside it as JSON."""
    state = {
        "config": comparable(config),
        "made_from": made_from,
        "explainer": explainer.trained_state(),
        "optimizer": getattr(optimizer, "optimizer", optimizer).state_dict(),
        "schedule": {k: v for k, v in schedule.state_dict().items() if not k.startswith("_")},
        "history": history,
        **more,
    }
    if hasattr(classifier, "learned_state"):
        state["classifier"] = {"kind": type(classifier).__name__, **classifier.learned_state()}
    with files.whole(file) as unfinished:
        torch.save(state, unfinished)
    with files.whole(file.with_suffix(".history.json")) as unfinished:
        unfinished.write_text(json.dumps(history))


def check_finite(explainer: nn.Module, optimizer: torch.optim.Optimizer, step: int, file: Path | None = None) -> None:
    """FloatingPointError where a trained weight or what the optimizer keeps is NaN or infinite after ``step``.

    To be asked before a checkpoint is written: the loss tells of bad weights one step too late, and of a bad moment of the
    optimizer perhaps never.
    """
    for name, value in (*explainer.trained_state().items(), *_moments(getattr(optimizer, "optimizer", optimizer))):
        if value.is_floating_point() and not value.isfinite().all():
            kept = f"; {files.show(file)} keeps the last good state" if file and file.is_file() else ""
            raise FloatingPointError(
                f"{name} is not finite after step {step}, though the loss was: lower lr, or check the images{kept}"
            )


def _moments(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for state in optimizer.state.values():
        yield from ((f"the optimizer's {name}", value) for name, value in state.items() if isinstance(value, Tensor))


def comparable(config: Any) -> dict:
    """The settings that a run and its continuation must share."""
    return {key: value for key, value in asdict(config).items() if key not in FREE}


def required(checkpoint: Path | None) -> Path:
    """The checkpoint to go on from; ValueError where none is named, FileNotFoundError where it is missing."""
    if checkpoint is None:
        raise ValueError("resume=True needs checkpoint=<file>")
    if not checkpoint.is_file():
        raise FileNotFoundError(f"no checkpoint at {checkpoint}: start with resume=False, or check the path")
    return checkpoint


def read(file: Path, config: Any, made_from: dict | None = None) -> dict:
    """A checkpoint's content; nothing but tensors and plain values is ever unpickled.

    Raises ValueError for a file that is no checkpoint, or one of other settings or, where both say it, made from other things.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        saved = state["config"]
    except Exception as error:
        raise ValueError(
            f"{file} can't be read as a training checkpoint ({type(error).__name__}): delete it and start with resume=False"
        ) from error
    wanted = comparable(config)
    other = [f"{key}: {saved.get(key)!r}, now {wanted[key]!r}" for key in wanted if saved.get(key) != wanted[key]]
    if other:
        raise ValueError(
            f"{file} was made with other settings ({'; '.join(other)}): use those, or start with resume=False"
        )
    origin = state.get("made_from")
    if made_from is not None and origin != made_from:
        changed = [key for key in made_from if (origin or {}).get(key) != made_from[key]]
        raise ValueError(
            f"{file} was made from other data, weights or code ({', '.join(changed)}): use those, or start with resume=False"
        )
    return state


def fits(file: Path, config: Any, made_from: dict) -> bool:
    """Whether a training can go on from ``file``: it is there, whole, and of the same settings, data, weights and code."""
    try:
        read(required(file), config, made_from)
    except (FileNotFoundError, ValueError):
        return False
    return True


def resume(
    file: Path,
    config: Any,
    explainer: nn.Module,
    classifier: nn.Module,
    optimizer,
    schedule,
    made_from: dict | None = None,
) -> dict:
    """Fill everything from a checkpoint and return its content. Raises as `read`, and ValueError for weights that don't fit."""
    state = read(file, config, made_from)
    explainer.fill(state["explainer"], file)
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    kind = type(classifier).__name__ if hasattr(classifier, "load_learned_state") else None
    if state.get("classifier", {}).get("kind") != kind:
        raise ValueError(
            f"{file} was made with another way of asking the classifier: use that one, or start with resume=False"
        )
    if "classifier" in state:
        classifier.load_learned_state(state["classifier"])
    return state
