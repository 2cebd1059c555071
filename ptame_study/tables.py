"""The comparison's tables: means with intervals, the best and those not significantly worse, ranks."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from ptame_lib import files
from ptame_lib.methods.base import TRUTH
from ptame_lib.metrics.statistics import bootstrap_interval, holm, paired_permutation_test
from ptame_lib.metrics.suite import MASK_METRICS, METRICS

from . import paths
from .profiles import load_profile
from .records import write_table


def report(profile: str) -> str:
    """The main table of a finished profile (where it compares), and where everything lies."""
    pass

    lines = [f"Profile {profile}"]
    file = paths.results(profile) / "compare.csv"
    if not file.is_file() and len(found := list(file.parent.glob("compare-*.csv"))) == 1:
        file = found[0]  # of a profile's only classifier
    if file.is_file():
        table = main_table(pd.read_csv(file), list(CORE))
        lines = [
            f"Profile {profile}, percent: AD and MoRF lower is better; all others higher is better",
            "",
            table.to_string(),
            "",
        ]
    places = {
        "tables": paths.results(profile),
        "figures": paths.figures(profile),
        "executed notebooks": paths.runs(profile),
    }
    return "\n".join(lines + [f"{what:>18}: {files.show(folder)}/" for what, folder in places.items()])


def write_seeds(profile: str) -> Path:
    """``results/<profile>/seeds.csv`` of the trained methods: classifier, method, metric, value and sd (over the seeds' means), seeds."""
    from ptame_lib.explainers.loading import TRAINED

    pass

    content = load_profile(profile)
    every = [(name, seed) for name in content["classifiers"] for seed in content.get("seeds", [0])]
    values = pd.concat([pd.read_csv(paths.per_image(profile, name, seed)).assign(seed=seed) for name, seed in every])
    return write_table(paths.results(profile) / "seeds.csv", over_seeds(values[values.method.isin(TRAINED)]))


METRICS = METRICS | MASK_METRICS


LEVEL = 0.05  # of every test


CORE = (
    "AD100",
    "IC100",
    "AD50",
    "IC50",
    "AD15",
    "IC15",
    "MoRF confidence",
    "LeRF confidence",
    "pointing",
    "IoU",
)  # a summary of the main ones


MAIN = [name for name, metric in METRICS.items() if metric.main]


def wanted(metrics: list[str] | None) -> list[str]:
    """The named metrics, by default the main ones; ValueError for one that there is not. (One that was not measured is left out of tables.)"""
    for name in metrics or ():
        if name not in METRICS:
            raise ValueError(f"unknown metric {name!r}: choose from {', '.join(METRICS)}")
    return metrics or MAIN


def tidy(per_image: pd.DataFrame) -> pd.DataFrame:
    """Per-image values (classifier, method, image, one column per metric) -> classifier, method, metric, value, low, high, n.

    ``low`` and ``high`` bound the 95 % bootstrap interval of the mean over the ``n`` images for which the metric is defined.
    """
    rows = []
    for (classifier, method), part in per_image.groupby(["classifier", "method"], sort=False):
        known = part[[m for m in METRICS if m in part]].dropna(axis=1, how="all")
        whole = known.dropna(axis=1)
        low, high = bootstrap_interval(whole.to_numpy())
        bounds = dict(zip(whole, zip(low, high, strict=True), strict=True))
        for metric in known:
            values = known[metric].dropna().to_numpy()
            rows.append(
                (
                    classifier,
                    method,
                    metric,
                    values.mean(),
                    *(bounds.get(metric) or bootstrap_interval(values)),
                    len(values),
                )
            )
    return pd.DataFrame(rows, columns=["classifier", "method", "metric", "value", "low", "high", "n"])


def over_seeds(per_image: pd.DataFrame) -> pd.DataFrame:
    """Per-image values of several seeds (classifier, method, seed, image, metrics) -> classifier, method, metric, value, sd, seeds: mean and
    standard deviation (n - 1) of the seeds' means over images."""
    by_seed = per_image.groupby(["classifier", "method", "seed"], sort=False)[
        [m for m in METRICS if m in per_image]
    ].mean()
    long = by_seed.rename_axis(columns="metric").stack().rename("mean").reset_index()
    found = long.groupby(["classifier", "method", "metric"], sort=False)["mean"].agg(
        value="mean", sd="std", seeds="count"
    )
    return found.reset_index()


def main_table(table: pd.DataFrame, metrics: list[str] | None = None) -> pd.DataFrame:
    """The tidy table as people read it: one row per classifier and method, one column per metric (default: the main ones), one decimal."""
    wide = table.pivot(index=["classifier", "method"], columns="metric", values="value")
    order = table[["classifier", "method"]].drop_duplicates().apply(tuple, axis=1)
    return wide.loc[list(order), [m for m in wanted(metrics) if m in wide]].round(1).rename_axis(columns=None)


def leaders(per_image: pd.DataFrame, metrics: list[str] | None = None) -> pd.DataFrame:
    """Who is best, and who is not significantly worse: classifier, metric, method, gap, p, best, tied.

    ``gap``: by how much the method is worse than the best, over the images both have explained; ``p``: paired two-sided permutation
    test against the best, corrected after Holm over the methods of one classifier and metric; ``tied``: p is at least 5 %. The
    ground truth is left out: it is shown the answer. A method measured on fewer images is the best if on those it beats the best of
    the others by the largest mean difference.
    """
    rows, chosen = [], wanted(metrics)
    for classifier, part in per_image[per_image["method"] != TRUTH].groupby("classifier", sort=False):
        for metric in [m for m in chosen if m in part]:
            wide = part.pivot(index="image", columns="method", values=metric)[part["method"].unique()].dropna(
                axis=1, how="all"
            )
            if not METRICS[metric].higher_is_better:
                wide = -wide
            everywhere = wide.columns[wide.notna().sum() == wide.notna().sum().max()]
            best = wide[everywhere].mean().idxmax()
            best = wide.sub(wide[best], axis=0).mean().idxmax()  # of a method with few images, on those
            others = [m for m in wide if m != best]
            gaps = {m: (wide[best] - wide[m]).dropna().to_numpy() for m in others}
            p_values = dict(zip(others, holm(_tests(gaps)), strict=True))
            for method in wide:
                gap, p = (0.0, 1.0) if method == best else (gaps[method].mean(), p_values[method])
                rows.append((classifier, metric, method, gap, p, method == best, method != best and p >= LEVEL))
    return pd.DataFrame(rows, columns=["classifier", "metric", "method", "gap", "p", "best", "tied"])


def _tests(differences: dict[str, np.ndarray]) -> list[float]:
    """p-values of paired differences; those over equally many images share their random signs."""
    found: dict[str, float] = {}
    for n in {len(d) for d in differences.values()}:
        names = [m for m, d in differences.items() if len(d) == n]
        columns = np.stack([differences[m] for m in names], 1)
        found |= dict(zip(names, paired_permutation_test(columns, np.zeros_like(columns)), strict=True))
    return [float(found[m]) for m in differences]


def styled(table: pd.DataFrame, marks: pd.DataFrame, metrics: list[str] | None = None) -> Styler:
    """`main_table` for a notebook: the best value of each classifier and metric is bold, those not significantly worse (`leaders`)
    are underlined."""
    wide = main_table(table, metrics)
    looks = pd.DataFrame("", index=wide.index, columns=wide.columns)
    for row in marks[marks["metric"].isin(wide.columns)].itertuples():
        looks.loc[(row.classifier, row.method), row.metric] = (
            "font-weight: bold" if row.best else "text-decoration: underline" if row.tied else ""
        )
    arrows = {metric: f"{metric} {'↑' if METRICS[metric].higher_is_better else '↓'}" for metric in wide}
    shown = wide.style.apply(lambda _: looks, axis=None).format("{:.1f}", na_rep="")
    return shown.format_index(lambda m: arrows.get(m, m), axis=1).set_uuid(f"{crc32(','.join(wide).encode()):x}")


def everywhere(table: pd.DataFrame) -> list[str]:
    """The methods that explain every classifier of a table (classifier, method, ...), in its order: those whose means can be compared."""
    count = table.groupby("method", sort=False)["classifier"].nunique()
    return list(count.index[count == table["classifier"].nunique()])


def partly(table: pd.DataFrame, marks: pd.DataFrame) -> list[str]:
    """A sentence for each method that explains only some of a table's classifiers: its mean rank among all methods there, beside P-TAME's."""
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
    """One row per method: its mean rank over classifiers and metrics (1 is best; ties share), in how many of those cells it is the best,
    and in how many it is not significantly worse than the best. The ground truth is left out, and so are methods that were not there for
    every classifier (`everywhere`, `partly`), since a mean over other cells says something else; a cell where one of these is the
    best has no best in the counts."""
    cells = table[
        table["metric"].isin(wanted(metrics)) & (table["method"] != TRUTH) & table["method"].isin(everywhere(table))
    ]
    sign = cells["metric"].map(lambda m: -1 if METRICS[m].higher_is_better else 1)
    rank = (sign * cells["value"]).groupby([cells["classifier"], cells["metric"]]).rank()
    found = rank.groupby(cells["method"]).agg(["mean", "size"]).rename(columns={"mean": "mean rank", "size": "cells"})
    counts = marks[marks["metric"].isin(wanted(metrics))].groupby("method")[["best", "tied"]].sum()
    return (
        found.join(counts.rename(columns={"tied": "not significantly worse"}))
        .sort_values("mean rank")
        .rename_axis(None)
    )


def wins(per_image: pd.DataFrame, reference: str = "P-TAME", metrics: list[str] | None = None) -> pd.DataFrame:
    """Is the reference better than each other method? Paired over images: classifier, metric, method, gain, p.

    ``gain``: by how much the reference is better (negative: worse), over the images both have explained; ``p``: two-sided permutation
    test, corrected after Holm over the other methods of one classifier and metric (not over metrics).
    """
    rows, chosen = [], wanted(metrics)
    for classifier, part in per_image.groupby("classifier", sort=False):
        for metric in [m for m in chosen if m in part]:
            wide = part.pivot(index="image", columns="method", values=metric)
            sign = 1 if METRICS[metric].higher_is_better else -1
            others = [m for m in part["method"].unique() if m != reference]
            gains = {m: sign * (wide[reference] - wide[m]).dropna().to_numpy() for m in others}
            rows += [
                (classifier, metric, m, g.mean(), p)
                for (m, g), p in zip(gains.items(), holm(_tests(gains)), strict=True)
            ]
    return pd.DataFrame(rows, columns=["classifier", "metric", "method", "gain", "p"])
