"""Images that the classifier decides wrongly, and classes other than its decision: rows of their own.

Also the robustness of cheap methods' maps under noise. Both for notebook 13.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ptame_lib.classifiers.wrapper import answers, device_of
from ptame_lib.datasets.embedded import load_embedded
from ptame_lib.methods.base import Method
from ptame_lib.metrics.drop import confidence
from ptame_lib.metrics.robustness import max_sensitivity, rank_stability
from ptame_lib.metrics.statistics import mean_interval
from ptame_lib.metrics.suite import METRICS
from ptame_lib.validation import check_at_least

from . import verdicts
from .figures import colour
from .settings import KIND

RIGHT, WRONG, SECOND = "right", "wrong", "second class"
STRATA = (RIGHT, WRONG, SECOND)
PORTION = 500  # images composed and decided at a time
SEPARATOR = KIND  # between classifier and stratum


@dataclass(frozen=True)
class Asked(Dataset):
    """Some ``items`` of a data set, each with the class that is asked about: ``asked`` (N,) int64."""

    items: Sequence[dict[str, Tensor]]
    asked: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return self.items[i] | {"asked": self.asked[i]}


def find_strata(
    classifier: nn.Module, n: int, *, most: int = 8000, part: str = "test", seed: int = 0
) -> tuple[dict[str, Asked], int]:
    """Up to ``n`` embedded images for each of `STRATA`, and how many images were looked at.

    In the order of the part: the first images that are decided rightly, asked for the decision; the first that are
    decided wrongly, asked for the (wrong) decision; the first of all, asked for the class with the second-highest
    logit. They are composed in portions, until ``n`` wrong ones are found or ``most`` are looked at: there may be
    fewer, or none. Raises ValueError for numbers below 1.
    """
    check_at_least(1, n=n, most=most)
    found: dict[str, list[tuple[dict, Tensor]]] = {name: [] for name in STRATA}
    looked = 0
    while looked < most and any(len(rows) < n for rows in found.values()):
        # compose and decide the next images
        count = min(PORTION, most - looked)
        data = load_embedded(part, count, seed=seed, start=looked, cached=False)
        best, second = first_two(classifier, data)
        looked += count
        # put each where it belongs
        right = best == data.labels
        chosen = {RIGHT: (right, best), WRONG: (~right, best), SECOND: (torch.ones_like(right), second)}
        for name, (members, classes) in chosen.items():
            rows = members.nonzero().flatten()[: n - len(found[name])].tolist()
            found[name] += [(data[i], classes[i]) for i in rows]
    asked = {
        name: Asked([item for item, _ in rows], torch.stack([of for _, of in rows]))
        for name, rows in found.items()
        if rows
    }
    return asked, looked


@torch.no_grad()
def first_two(classifier: nn.Module, data: Dataset, batch_size: int = 100) -> tuple[Tensor, Tensor]:
    """The classes (N,) of the highest and of the second-highest logit of every image, on the CPU."""
    device = device_of(classifier)
    batches = DataLoader(data, batch_size)
    parts = [answers(classifier, batch["pixels"].to(device)).topk(2).indices.cpu() for batch in batches]
    best, second = torch.cat(parts).unbind(1)
    return best, second


@torch.no_grad()
def probability(classifier: nn.Module, data: Asked, batch_size: int = 100) -> Tensor:
    """The probability (N,) in [0,1] of the class that each item asks about, on the CPU."""
    device, parts = device_of(classifier), []
    for batch in DataLoader(data, batch_size):
        parts.append(confidence(classifier, batch["pixels"].to(device), batch["asked"].to(device)).cpu())
    return torch.cat(parts)


def fitting(values: pd.DataFrame, stratum: str) -> pd.DataFrame:
    """Per-image values without the metrics that say nothing in a stratum.

    The second class is not the decision: whether the decision stays (ROAD's accuracy) is not about it, and the truth is
    the pixels of another digit.
    """
    if stratum != SECOND:
        return values
    return values.drop(columns=[m for m in values if m in METRICS and (METRICS[m].needs_truth or " accuracy" in m)])


def label(classifier: str, stratum: str) -> str:
    """One name for both, in tables with one column for them: ``embedded/vgg, wrong``."""
    return f"{classifier}{SEPARATOR}{stratum}"


def missing(found: Mapping[str, Mapping[str, Asked]], wanted: int, most: int) -> list[str]:
    """A sentence for each classifier and stratum with fewer than the ``wanted`` images; else one for all."""
    count = {(name, stratum): len(of.get(stratum, ())) for name, of in found.items() for stratum in STRATA}
    told = [
        f"{name}, {stratum}: only {n} of {wanted} images, though {most} test images were looked at."
        for (name, stratum), n in count.items()
        if n < wanted
    ]
    return told or [f"Every stratum has {wanted} images."]


def with_strata(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose column classifier is ``name, stratum``, with a column for each of both."""
    names = table["classifier"].str.rsplit(SEPARATOR, n=1)
    table = table.assign(classifier=names.str[0])
    table.insert(table.columns.get_loc("classifier") + 1, "stratum", names.str[1])
    return table


def robustness(
    methods: Iterable[Method],
    data: Dataset,
    *,
    noise: float = 0.02,
    draws: int = 10,
    seed: int = 0,
    batch_size: int = 20,
) -> pd.DataFrame:
    """How much maps change under noise: method, metric, value, low, high, n; in percent, with 95 % intervals.

    `max_sensitivity` within a radius of ``noise`` (lower is better) and `rank_stability` under a deviation of ``noise``
    (higher is better), for the class that each item asks about.
    """
    metrics = {
        "max-sensitivity": partial(max_sensitivity, radius=noise, draws=draws, seed=seed),
        "rank stability": partial(rank_stability, noise=noise, draws=draws, seed=seed),
    }
    rows = []
    for method in methods:
        for name, metric in metrics.items():
            batches = DataLoader(data, batch_size)
            values = torch.cat([metric(method, batch["pixels"], batch["asked"]).cpu() for batch in batches])
            values = 100 * values.double().numpy()
            low, high = mean_interval(values) if np.isfinite(values).all() else (np.nan, np.nan)
            rows.append((method.name, name, values.mean(), low, high, len(values)))
    return pd.DataFrame(rows, columns=["method", "metric", "value", "low", "high", "n"])


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """A tidy table as text: a row per classifier and method, a column per metric, ``value [low, high]``."""
    cells = [_with_interval(row) for row in table.itertuples()]
    wide = table.assign(cell=cells).pivot(index=["classifier", "method"], columns="metric", values="cell")
    order = table[["classifier", "method"]].drop_duplicates().apply(tuple, axis=1)
    return wide.loc[list(order), list(table["metric"].unique())].rename_axis(columns=None)


def _with_interval(row: Any) -> str:
    """``71.2 [65.0, 76.1]``; without the interval where there is none."""
    return f"{row.value:.1f}" + (f" [{row.low:.1f}, {row.high:.1f}]" if row.low == row.low else "")


def told(table: pd.DataFrame, method: str, metric: str | None = None) -> list[str]:
    """What a tidy table says of a method alone: a sentence for each classifier and ``metric`` (None: all)."""
    lines = []
    rows = table[(table["method"] == method) & table["metric"].isin(table["metric"] if metric is None else [metric])]
    for (name, of), part in rows.groupby(["classifier", "metric"], sort=False):
        several = [f"{row.stratum} {_with_interval(row)}" for row in part.itertuples() if "stratum" in part]
        lines.append(f"{name}: {of} of {method}: {', '.join(several or map(_with_interval, part.itertuples()))}.")
    return lines


def draw(axis: Axes, table: pd.DataFrame) -> None:
    """Draw means and intervals of one classifier and metric, a row for each stratum and method."""
    rows = list(table.itertuples())
    for at, row in enumerate(rows):
        axis.plot([row.low, row.high], [at, at], color=colour(row.method), lw=3)
        axis.plot(row.value, at, "o", color=colour(row.method), markeredgecolor="white")
    axis.set(title=table["metric"].iloc[0], xlabel="%", xlim=(-5, 105), ylim=(len(rows) - 0.5, -0.5))
    axis.set_yticks(range(len(rows)), [f"{row.stratum}: {row.method}" for row in rows], fontsize=9)


def losses_first(found: pd.DataFrame) -> list[str]:
    """`verdicts.sentences`, those with the most losses of P-TAME first, then those with the fewest gains."""
    told = []
    for _, rows in found.groupby(["classifier", "method"], sort=False):
        lost, won = ((rows["verdict"] == verdict).sum() for verdict in (verdicts.WORSE, verdicts.BETTER))
        told.append((-lost, won, *verdicts.sentences(rows)))
    return [sentence for *_, sentence in sorted(told, key=lambda row: row[:2])]
