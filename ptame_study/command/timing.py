"""How long a training takes: measured on a few steps beforehand, and told while it runs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from ptame_lib.explainers.ptame import PTAME
from ptame_lib.training.ptame import TrainingConfig

from ..explainers import fit_explainer


def seconds_to_train(
    explainer: PTAME, classifier: nn.Module, data: Dataset, config: TrainingConfig, tries: int = 4, **options: Any
) -> float:
    """About how many seconds `fit_explainer` with the same arguments will take on this machine.

    A copy of the explainer is trained for 1 + ``tries`` steps, the first of which only warms everything up. A
    classifier that only answers is asked for this, too. Raises what the training itself would.
    """
    times: list[float] = []
    short = replace(config, steps=1 + tries)
    clock = {"on_step": lambda _: times.append(time.perf_counter())}
    fit_explainer(copy.deepcopy(explainer), classifier, data, short, **clock, **options)
    return (times[-1] - times[0]) / tries * config.steps


def while_training(steps: int, say: Callable[[str], None], after: int = 5) -> Callable[[dict[str, float]], None]:
    """A callback that says once, ``after`` steps after the first, how long the rest will take."""
    times: list[float] = []

    def on_step(row: dict[str, float]) -> None:
        times.append(time.perf_counter())
        if len(times) == after + 1:  # the first step also warms everything up
            say(f"About {duration((times[-1] - times[0]) / after * (steps - 1 - row['step']))} to go.")

    return on_step


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(42), duration(600), duration(7200)
    ('42 seconds', '10 minutes', '2.0 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
