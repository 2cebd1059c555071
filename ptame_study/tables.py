"""The comparison's tables: means with intervals, the best and those not significantly worse, ranks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from ptame_lib import files
from ptame_lib.explainers.loading import TRAINED
from ptame_lib.methods.base import TRUTH
from ptame_lib.metrics import suite
from ptame_lib.metrics.specificity import Confusion
from ptame_lib.metrics.statistics import bootstrap_interval, holm, paired_permutation_test
from ptame_lib.texts import in_html

from . import paths
from .profiles import load_profile
from .records import write_table

METRICS = suite.METRICS | suite.MASK_METRICS
MAIN = [name for name, metric in METRICS.items() if metric.main]
CORE = ("AD100", "IC100", "AD50", "IC50", "AD15", "IC15")  # a summary of the main ones
CORE += ("MoRF confidence", "LeRF confidence", "pointing", "IoU")
UNKNOWN = "n/a"  # a metric that is not defined for any image, such as the AP of an empty truth
LEVEL = 0.05  # of every test


def wanted(metrics: list[str] | None) -> list[str]:
    """The named metrics, by default the main ones. Raises ValueError for an unknown one."""
    for name in metrics or ():
        if name not in METRICS:
            raise ValueError(f"unknown metric {name!r}: choose from {', '.join(METRICS)}")
    return metrics or MAIN


def tidy(per_image: pd.DataFrame) -> pd.DataFrame:
    """Means of per-image values (classifier, method, image, metrics), a row for each.

    Columns: classifier, method, metric, value, low, high, n. ``low`` and ``high`` bound the 95 % bootstrap interval of
    the mean over the ``n`` images for which the metric is defined.
    """
    rows = []
    for (classifier, method), part in per_image.groupby(["classifier", "method"], sort=False):
        known = part[[m for m in METRICS if m in part]].dropna(axis=1, how="all")
        # metrics defined for all images are resampled together, the others each by itself
        whole = known.dropna(axis=1)
        bounds = dict(zip(whole, zip(*bootstrap_interval(whole.to_numpy()), strict=True), strict=True))
        for metric in known:
            values = known[metric].dropna().to_numpy()
            low, high = bounds.get(metric) or bootstrap_interval(values)
            rows.append((classifier, method, metric, values.mean(), low, high, len(values)))
    return pd.DataFrame(rows, columns=["classifier", "method", "metric", "value", "low", "high", "n"])


def over_seeds(per_image: pd.DataFrame) -> pd.DataFrame:
    """Per-image values of several seeds as classifier, method, metric, value, sd, seeds.

    ``value`` and ``sd``: mean and standard deviation (n - 1) of the seeds' means over images.
    """
    metrics = [m for m in METRICS if m in per_image]
    by_seed = per_image.groupby(["classifier", "method", "seed"], sort=False)[metrics].mean()
    means = by_seed.rename_axis(columns="metric").stack().rename("mean").reset_index()
    groups = means.groupby(["classifier", "method", "metric"], sort=False)["mean"]
    return groups.agg(value="mean", sd="std", seeds="count").reset_index()


def write_seeds(profile: str) -> Path:
    """Write ``results/<profile>/seeds.csv`` of the trained methods: what `over_seeds` makes.

    Raises FileNotFoundError for a comparison that has not been made, ValueError for a profile without any.
    """
    content = load_profile(profile)
    every = [(name, seed) for name in content.get("classifiers", []) for seed in content.get("seeds", [0])]
    if not every:
        raise ValueError(f"profile {profile} has no classifiers or no seeds to compare: add them to its file")
    for name, seed in every:
        if not (file := paths.per_image(profile, name, seed)).is_file():
            options = ["--profile", profile, "--classifier", name, *(["--seed", str(seed)] if seed else [])]
            command = shlex.join(["python", "-m", "ptame_study", "run", "03_compare", *options])
            raise FileNotFoundError(f"no comparison at {files.show(file)}: make it with `{command}`")
    values = pd.concat([pd.read_csv(paths.per_image(profile, name, seed)).assign(seed=seed) for name, seed in every])
    return write_table(paths.results(profile) / "seeds.csv", over_seeds(values[values.method.isin(TRAINED)]))


def main_table(table: pd.DataFrame, metrics: list[str] | None = None) -> pd.DataFrame:
    """The tidy table with a row per classifier and method and a column per metric, to one decimal."""
    wide = table.pivot(index=["classifier", "method"], columns="metric", values="value")
    order = table[["classifier", "method"]].drop_duplicates().apply(tuple, axis=1)
    return wide.loc[list(order), [m for m in wanted(metrics) if m in wide]].round(1).rename_axis(columns=None)


def report(profile: str) -> str:
    """The main table of a finished profile, if it compares methods, and where everything is."""
    lines = [f"Profile {profile}"]
    file = paths.results(profile) / "compare.csv"
    if not file.is_file() and len(found := list(file.parent.glob("compare-*.csv"))) == 1:
        file = found[0]  # of a profile's only classifier
    if file.is_file():
        lines = [f"Profile {profile}, percent: AD and MoRF lower is better; all others higher is better", ""]
        lines += [main_table(pd.read_csv(file), list(CORE)).to_string(na_rep=UNKNOWN), ""]
    places = {"tables": paths.results, "figures": paths.figures, "executed notebooks": paths.runs}
    return "\n".join(lines + [f"{what:>18}: {files.show(folder(profile))}/" for what, folder in places.items()])


def _cells(per_image: pd.DataFrame, metrics: list[str] | None) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Classifier, metric, and its values: a row per image, a column per method in their order."""
    chosen = wanted(metrics)
    for classifier, part in per_image.groupby("classifier", sort=False):
        for metric in [m for m in chosen if m in part]:
            wide = part.pivot(index="image", columns="method", values=metric)[part["method"].unique()]
            yield classifier, metric, wide


def leaders(per_image: pd.DataFrame, metrics: list[str] | None = None) -> pd.DataFrame:
    """Which method is best and which are not significantly worse, for each classifier and metric.

    Columns: classifier, metric, method, gap, p, best, tied. ``gap``: by how much the method is worse than the best,
    over the images both have explained; ``p``: paired two-sided permutation test against the best, Holm-corrected over
    the methods of one classifier and metric; ``tied``: p is at least 5 %. The ground truth is left out, since it is
    shown the answer. A method measured on fewer images is the best if on those it beats the best of the others by the
    largest mean difference.
    """
    rows = []
    for classifier, metric, wide in _cells(per_image[per_image["method"] != TRUTH], metrics):
        wide = (wide if METRICS[metric].higher_is_better else -wide).dropna(axis=1, how="all")
        # the best of the methods with most images, then of all on the images they share with it
        counts = wide.notna().sum()
        best = wide[wide.columns[counts == counts.max()]].mean().idxmax()
        best = wide.sub(wide[best], axis=0).mean().idxmax()
        gaps = {m: (wide[best] - wide[m]).dropna().to_numpy() for m in wide if m != best}
        p_values = dict(zip(gaps, holm(_tests(gaps)), strict=True))
        for method in wide:
            gap, p = (0.0, 1.0) if method == best else (gaps[method].mean(), p_values[method])
            rows.append((classifier, metric, method, gap, p, method == best, method != best and p >= LEVEL))
    return pd.DataFrame(rows, columns=["classifier", "metric", "method", "gap", "p", "best", "tied"])


def wins(per_image: pd.DataFrame, reference: str = "P-TAME", metrics: list[str] | None = None) -> pd.DataFrame:
    """Whether the reference is better than each other method: classifier, metric, method, gain, p.

    ``gain``: by how much the reference is better (negative: worse), over the images both have explained; ``p``:
    two-sided permutation test, Holm-corrected over the other methods of one classifier and metric (not over metrics).
    """
    rows = []
    for classifier, metric, wide in _cells(per_image, metrics):
        sign = 1 if METRICS[metric].higher_is_better else -1
        gains = {m: sign * (wide[reference] - wide[m]).dropna().to_numpy() for m in wide if m != reference}
        p_values = holm(_tests(gains))
        rows += [(classifier, metric, m, g.mean(), p) for (m, g), p in zip(gains.items(), p_values, strict=True)]
    return pd.DataFrame(rows, columns=["classifier", "metric", "method", "gain", "p"])


def _tests(differences: dict[str, np.ndarray]) -> list[float]:
    """p-values of paired differences; those over equally many images share their random signs."""
    found: dict[str, float] = {}
    for n in {len(d) for d in differences.values()}:
        names = [m for m, d in differences.items() if len(d) == n]
        columns = np.stack([differences[m] for m in names], 1)
        found |= dict(zip(names, paired_permutation_test(columns, np.zeros_like(columns)), strict=True))
    return [float(found[m]) for m in differences]


def styled(table: pd.DataFrame, marks: pd.DataFrame, metrics: list[str] | None = None) -> Styler:
    """`main_table` for a notebook: `leaders` are bold, those not significantly worse underlined."""
    wide = main_table(table, metrics)
    looks = pd.DataFrame("", index=wide.index, columns=wide.columns)
    for row in marks[marks["metric"].isin(wide.columns)].itertuples():
        look = "font-weight: bold" if row.best else "text-decoration: underline" if row.tied else ""
        looks.loc[(row.classifier, row.method), row.metric] = look
    arrows = {metric: f"{metric} {'↑' if METRICS[metric].higher_is_better else '↓'}" for metric in wide}
    shown = wide.style.apply(lambda _: looks, axis=None).format("{:.1f}", na_rep=UNKNOWN)
    shown = shown.format_index(in_html, axis=0)  # names of a profile are text
    return shown.format_index(lambda m: arrows.get(m, m), axis=1).set_uuid(f"{crc32(','.join(wide).encode()):x}")


def everywhere(table: pd.DataFrame) -> list[str]:
    """The methods that explain every classifier of a table, in its order: their means are comparable."""
    count = table.groupby("method", sort=False)["classifier"].nunique()
    return list(count.index[count == table["classifier"].nunique()])


def partly(table: pd.DataFrame, marks: pd.DataFrame) -> list[str]:
    """A sentence on each method that explains only some classifiers: its mean rank there, and P-TAME's."""
    told = []
    for method, rows in table[~table["method"].isin(everywhere(table))].groupby("method", sort=False):
        there = list(rows["classifier"].unique())
        own = ranks(*(part[part["classifier"].isin(there)] for part in (table, marks)))["mean rank"]
        beside = f", P-TAME's {own['P-TAME']:.1f}" if "P-TAME" in own else ""
        told.append(
            f"{method} explains {', '.join(there)} alone and is left out of means over all classifiers: "
            f"there its mean rank is {own[method]:.1f} of {len(own)}{beside}."
        )
    return told


def ranks(table: pd.DataFrame, marks: pd.DataFrame, metrics: list[str] | None = None) -> pd.DataFrame:
    """One row per method: its mean rank over classifiers and metrics (1 is best), and counts of cells.

    Ties share a rank. The counts: in how many cells it is the best, and in how many not significantly worse than the
    best. Left out are the ground truth, and methods that do not explain every classifier (`everywhere`, `partly`),
    since a mean over other cells is not comparable; a cell where one of these is the best has no best in the counts.
    """
    chosen = wanted(metrics)
    rated = (table["method"] != TRUTH) & table["method"].isin(everywhere(table))
    cells = table[table["metric"].isin(chosen) & rated]
    sign = cells["metric"].map(lambda m: -1 if METRICS[m].higher_is_better else 1)
    rank = (sign * cells["value"]).groupby([cells["classifier"], cells["metric"]]).rank()
    found = rank.groupby(cells["method"]).agg(["mean", "size"]).rename(columns={"mean": "mean rank", "size": "cells"})
    counts = marks[marks["metric"].isin(chosen)].groupby("method")[["best", "tied"]].sum()
    counts = counts.rename(columns={"tied": "not significantly worse"})
    return found.join(counts).sort_values("mean rank").rename_axis(None)


def confusion_table(found: Confusion, names: Sequence[str]) -> pd.DataFrame:
    """The class-specific test as image_class, mask_class (``none``: whole image), probability, images."""
    rows = [
        (image_class, mask_class, value, count)
        for image_class, values, count in zip(names, found.values.tolist(), found.images.tolist(), strict=True)
        for mask_class, value in zip(["none", *names], values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["image_class", "mask_class", "probability", "images"])
