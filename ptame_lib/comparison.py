"""Every method, every metric, per image: the numbers behind the comparison."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from pandas.io.formats.style import Styler
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .classifiers import decide
from .methods import Method
from .metrics import average_drop, best_iou, increase_in_confidence, masked_confidence, pointing_game
from .metrics.drop import confidence
from .progress import progress
from .statistics import bootstrap_interval, holm, paired_permutation_test
from .study import write_whole

SHARES = (1.0, 0.5, 0.15)
HIGHER_IS_BETTER = {f"{name}{100 * share:.0f}": name == "IC" for share in SHARES for name in ("AD", "IC")} | {"pointing": True, "IoU": True}
METRICS = tuple(HIGHER_IS_BETTER)


def evaluate(classifier: nn.Module, method: Method, data: Dataset, *, batch_size: int = 20) -> tuple[pd.DataFrame, float]:
    """Explain the classifier's decision on every image; returns per-image values in percent, and seconds per image.

    Columns: image, AD100, IC100, AD50, IC50, AD15, IC15 and, where the data have a truth mask, pointing and IoU. Only the
    method's own work is timed: the median over batches, since the first also warms up.
    """
    rows, seconds = [], []
    device = next((tensor.device for tensor in [*classifier.parameters(), *classifier.buffers()]), torch.device("cpu"))
    with progress(len(data), method.name) as bar:
        for batch in DataLoader(data, batch_size):
            pixels = batch["pixels"].to(device)
            targets = decide(classifier, pixels)
            start = time.perf_counter()
            maps = method(pixels, targets)
            seconds.append((time.perf_counter() - start) / len(pixels))
            p = confidence(classifier, pixels, targets)
            columns = {}
            for share in SHARES:
                q = masked_confidence(classifier, pixels, targets, maps, share)
                columns[f"AD{100 * share:.0f}"] = average_drop(p, q)
                columns[f"IC{100 * share:.0f}"] = increase_in_confidence(p, q)
            if "truth" in batch:
                truth = batch["truth"].to(device)
                columns |= {"pointing": pointing_game(maps, truth), "IoU": best_iou(maps, truth)}
            rows.append(torch.stack([100 * v.double() for v in columns.values()], 1).cpu())
            bar.update(len(pixels))
    values = pd.DataFrame(torch.cat(rows).numpy(), columns=list(columns))
    values.insert(0, "image", range(len(values)))
    return values, statistics.median(seconds)


def evaluate_all(name: str, classifier: nn.Module, methods: list[Method], data: Dataset) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every method on one classifier: per-image values (classifier, method, image, metrics) and costs (classifier, method,
    forwards, backwards, ms_per_image)."""
    values, costs = [], []
    for method in methods:
        per_image, seconds = evaluate(classifier, method, data)
        values.append(per_image.assign(classifier=name, method=method.name))
        costs.append((name, method.name, method.forwards, method.backwards, 1000 * seconds))
    per_image = pd.concat(values, ignore_index=True)
    front = ["classifier", "method", "image"]
    per_image = per_image[front + [c for c in per_image if c not in front]]
    return per_image, pd.DataFrame(costs, columns=["classifier", "method", "forwards", "backwards", "ms_per_image"])


def cached(file: Path, made_from: dict, compute: Callable[[], tuple[pd.DataFrame, pd.DataFrame]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per-image values and costs from ``file`` where they were made from the same things, else computed and kept there.

    Beside the CSV lies a JSON with what it was made from and the costs; it is written last, so a half-finished pair is never used.
    """
    note = file.with_suffix(".json")
    if file.is_file() and note.is_file():
        known = json.loads(note.read_text())
        if known["made_from"] == made_from:
            return pd.read_csv(file), pd.DataFrame(known["cost"])
    note.unlink(missing_ok=True)
    per_image, cost = compute()
    write_whole(file, per_image.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
    write_whole(note, json.dumps({"made_from": made_from, "cost": cost.to_dict("records")}, indent=1))
    return pd.read_csv(file), cost  # as read, so that the first and later runs see the same digits


def tidy(per_image: pd.DataFrame) -> pd.DataFrame:
    """Per-image values (classifier, method, image, one column per metric) -> classifier, method, metric, value, low, high, n.

    ``low`` and ``high`` bound the 95 % bootstrap interval of the mean over images.
    """
    rows = []
    for (classifier, method), part in per_image.groupby(["classifier", "method"], sort=False):
        for metric in [m for m in METRICS if m in part]:
            values = part[metric].to_numpy()
            low, high = bootstrap_interval(values)
            rows.append((classifier, method, metric, values.mean(), low, high, len(values)))
    return pd.DataFrame(rows, columns=["classifier", "method", "metric", "value", "low", "high", "n"])


def main_table(table: pd.DataFrame) -> pd.DataFrame:
    """The tidy table as people read it: one row per classifier and method, one column per metric, one decimal."""
    wide = table.pivot(index=["classifier", "method"], columns="metric", values="value")
    order = table[["classifier", "method"]].drop_duplicates().apply(tuple, axis=1)
    return wide.loc[list(order), [m for m in METRICS if m in wide]].round(1).rename_axis(columns=None)


def styled(table: pd.DataFrame) -> Styler:
    """`main_table` for a notebook: the best value of each classifier and metric is bold."""
    wide = main_table(table)

    def bold(column: pd.Series) -> list[str]:
        best = column.groupby(level="classifier").transform("max" if HIGHER_IS_BETTER[column.name] else "min")
        return ["font-weight: bold" if value == top else "" for value, top in zip(column, best, strict=True)]

    arrows = {metric: f"{metric} {'↑' if HIGHER_IS_BETTER[metric] else '↓'}" for metric in wide}
    return wide.style.apply(bold).format("{:.1f}").format_index(lambda m: arrows.get(m, m), axis=1).set_uuid("main")


def wins(per_image: pd.DataFrame, reference: str = "P-TAME") -> pd.DataFrame:
    """Is the reference better than each other method? Paired over images: classifier, metric, method, gain, p.

    ``gain``: by how many points the reference is better (negative: worse); ``p``: two-sided permutation test, corrected
    after Holm over the other methods of one classifier and metric (not over metrics).
    """
    rows = []
    for classifier, part in per_image.groupby("classifier", sort=False):
        own = part[part["method"] == reference].set_index("image")
        others = [m for m in part["method"].unique() if m != reference]
        for metric in [m for m in METRICS if m in part]:
            sign = 1 if HIGHER_IS_BETTER[metric] else -1
            theirs = [part[part["method"] == m].set_index("image")[metric].loc[own.index] for m in others]
            p_values = holm([paired_permutation_test(own[metric].to_numpy(), t.to_numpy()) for t in theirs])
            rows += [(classifier, metric, m, sign * (own[metric] - t).mean(), p) for m, t, p in zip(others, theirs, p_values, strict=True)]
    return pd.DataFrame(rows, columns=["classifier", "metric", "method", "gain", "p"])
