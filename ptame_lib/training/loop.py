"""The training loop: visible, seeded, resumable, on whatever device accelerate finds."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .. import files
from ..classifiers.frozen import Frozen, at_rest, frozen_at_rest
from ..classifiers.wrapper import eval_mode
from ..progress import progress
from . import checkpoints, distributed
from .batches import Steps
from .checkpoints import TrainingState
from .stopping import Stopped, Stops


@dataclass
class TrainingLoop:
    """Train ``state.explainer`` in place, by the loss it is given.

    ``loss(model, *batch)``: scalar terms with ``total``; ``model`` is the explainer as accelerate wraps it. They make a
    row of the history, to which ``after_step(pixels)`` may add. Every ``every`` steps and at the end, ``validate()``
    adds ``val_total``, and the checkpoint is written; that is also written when Ctrl-C or SIGTERM ends the training. A
    training that validates stops early (`stops`) and ends with the weights of the lowest ``val_total``. ``config`` has
    lr and seed, and if it validates also patience and min_delta.
    """

    state: TrainingState
    steps: Steps
    loss: Callable[..., NamedTuple]
    config: Any
    team: Accelerator
    title: str
    every: int
    after_step: Callable[[Tensor], dict[str, float]] | None = None
    validate: Callable[[], dict[str, float]] | None = None
    checkpoint: Path | None = None
    on_step: Callable[[dict[str, float]], None] | None = None

    def run(self, resume: bool = False) -> list[dict[str, float]]:
        """Train, from the checkpoint on if ``resume``, which else is set aside; return the history.

        The explainer ends in eval mode.
        """
        state, team = self.state, self.team
        wrapped = any(isinstance(part, Frozen) for part in state.classifier.modules())
        with (
            distributed.seeded(self.config.seed),
            frozen_at_rest(state.explainer, state.classifier),  # once, not at every step
            # a bare network; what learns while it is asked stays as it is
            nullcontext() if wrapped or hasattr(state.classifier, "learned_state") else at_rest(state.classifier),
            files.alone(self.checkpoint) if self.checkpoint and team.is_main_process else nullcontext(),
            distributed.global_statistics(state.explainer, team),
            eval_mode(state.explainer),  # restores the modes, whatever ends the training
        ):
            # continue from the checkpoint, or keep it: it may hold days of work
            state.scaler = team.scaler
            if resume:
                checkpoints.resume(self.checkpoint, self.config, state)
            elif self.checkpoint and team.is_main_process:
                checkpoints.set_aside(self.checkpoint)

            # move everything to accelerate's device
            state.classifier.to(team.device)
            batches = self.steps.batches(len(state.history))
            model, state.optimizer, batches = team.prepare(state.explainer.train(), state.optimizer, batches)
            self._keep_what_was_done(model, batches)
        if state.best is not None:
            state.explainer.load_state_dict(state.best)
        state.explainer.eval()
        return state.history

    def _keep_what_was_done(self, model: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> None:
        """Take the steps; on Ctrl-C and SIGTERM write the checkpoint after the one that has begun, then end.

        Of several processes each would end at a step of its own, so there the signals do what they did before.
        """
        done, number = len(self.state.history), 0
        with Stops() if self.checkpoint and self.team.num_processes == 1 else nullcontext() as signals:
            try:
                self._take_steps(model, batches, signals.finished_first if signals else nullcontext)
            except Stopped as stop:
                number = stop.number
                if len(self.state.history) > done:
                    self._write()
        if number:
            signal.raise_signal(number)  # now as without a training
            raise KeyboardInterrupt

    def _take_steps(
        self,
        model: nn.Module,
        batches: Iterable[tuple[Tensor, ...]],
        finished_first: Callable[[], AbstractContextManager],
    ) -> None:
        history, main = self.state.history, self.team.is_main_process
        with progress(self.steps.count, self.title, shown=main) as bar:
            bar.update(len(history))
            if self.validate and history and self._is_due() and "val_total" not in history[-1]:
                self._validate(self.validate)  # which a signal interrupted
            for batch in () if self._stops() else batches:
                with finished_first():
                    history.append(self._step(model, batch))
                bar.set_postfix(loss=f"{history[-1]['total']:.3f}", refresh=False)
                bar.update()

                # validate before writing the checkpoint, which keeps the result
                if self._is_due():
                    if self.validate:
                        self._validate(self.validate)
                    with finished_first():
                        self._write()
                if self.on_step and main:
                    self.on_step(history[-1])
                if self._stops():
                    break

    def _is_due(self) -> bool:
        """Whether the last step is one after which to validate and to write the checkpoint."""
        done = len(self.state.history)
        return done % self.every == 0 or done == self.steps.count

    def _write(self) -> None:
        if self.checkpoint:
            checkpoints.check_finite(self.state, self.checkpoint)
        if self.checkpoint and self.team.is_main_process:
            checkpoints.write(self.checkpoint, self.config, self.state)

    def _step(self, model: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, float]:
        """Take one step down the gradient of the loss and return its row."""
        state, step = self.state, len(self.state.history)
        terms = self.loss(model, *batch)
        means = distributed.mean_over_processes(terms._asdict(), self.team)
        row = {"step": step, "lr": state.optimizer.param_groups[0]["lr"], **means}
        if not math.isfinite(row["total"]):
            self._refuse(f"the loss is {row['total']} {self.steps.place(step)}", self._images(step, batch[0]))
        state.optimizer.zero_grad()
        self.team.backward(terms.total)
        state.optimizer.step()
        state.schedule.step()
        return row | self.after_step(batch[0]) if self.after_step else row

    def _validate(self, validate: Callable[[], dict[str, float]]) -> None:
        """Add a validation to the last row, and keep the weights if they are the best."""
        state, row = self.state, self.state.history[-1]
        row |= validate()
        value = row["val_total"]
        if not math.isfinite(value):
            self._refuse(f"the validation loss is {value} {self.steps.place(row['step'])}")
        if value <= min(earlier.get("val_total", math.inf) for earlier in state.history):
            state.best = {key: value.detach().cpu().clone() for key, value in state.explainer.state_dict().items()}

    def _stops(self) -> bool:
        return self.validate is not None and stops(self.state.history, self.config)

    def _images(self, step: int, pixels: Tensor) -> str:
        """The names of a step's images, and of those for which the classifier's answer is not finite."""
        if not (names := self.steps.images(step)):
            return ""
        with torch.no_grad():
            bad = (~self.team.gather(self.state.classifier(pixels)).isfinite().all(1)).tolist()
        found = [name for name, is_bad in zip(names, bad, strict=True) if is_bad]
        answers = f" The classifier's answer is not finite for {', '.join(found)}." if found else ""
        return f" and the classifier. The step's images: {', '.join(names)}.{answers}"

    def _refuse(self, what: str, images: str = "") -> None:
        file = self.checkpoint
        kept = f" {files.show(file)} keeps the last good state." if file and file.is_file() else ""
        raise FloatingPointError(f"{what}: lower lr (now {self.config.lr}), or check the images{images or '.'}{kept}")


def stops(history: list[dict[str, float]], config: Any) -> bool:
    """Whether the last ``config.patience`` validations brought nothing better: early stopping.

    Validations are the rows with ``val_total``; better means lower by more than ``config.min_delta``.
    """
    best, waited = math.inf, 0
    for row in history:
        if "val_total" in row:
            better = row["val_total"] < best - config.min_delta
            best, waited = (row["val_total"], 0) if better else (best, waited + 1)
    return waited >= config.patience
