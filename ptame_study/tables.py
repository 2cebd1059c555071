"""The comparison's tables: means with intervals, the best and those not significantly worse, ranks.

Methods are ranked over the same images only. Slow ones, measured on fewer images, are ranked in a table of their own,
where all methods are measured on the images that all share: `two_parts` makes the per-image values of both.
"""

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
from ptame_lib.metrics.statistics import (
    FEW,
    all_pairs_test,
    holm,
    mean_interval,
    paired_permutation_test,
    resampled_means,
)
from ptame_lib.texts import in_html

from . import paths
from .profiles import load_profile
from .records import write_table

METRICS = suite.METRICS | suite.MASK_METRICS
MAIN = suite.RANKED  # methods are ranked by them
PUBLISHED = [
    name for name, metric in METRICS.items() if metric.main and metric.published
]  # a power of a map moves them
CORE = ("AD@25", "IC@25", "AD@10", "IC@10", "MoRF confidence", "LeRF confidence", "deletion")  # a summary of MAIN
CORE += ("pointing", "precision@truth", "AP", "contour")
SCROLLS = 'style="display: block; max-height: 80vh; overflow: auto"'  # a long table, in itself
UNKNOWN = "n/a"  # a metric that is not defined for any image, such as the AP of an empty truth
LEVEL = 0.05  # of every test
FAMILIES = {  # metrics that say similar things, by how their names begin; families count alike in mean ranks
    "kept": ("AD", "IC", "AG", "saliency"),  # the decision on what the map keeps
    "ROAD": ("MoRF", "LeRF", "TELEA"),
    "insertion, deletion": ("insertion", "deletion"),
    "truth": ("pointing", "energy", "IoU", "AP", "precision@truth", "contour"),
}


def wanted(metrics: list[str] | None) -> list[str]:
    """The named metrics, by default the main ones. Raises ValueError for an unknown one."""
    for name in metrics or ():
        if name not in METRICS:
            raise ValueError(f"unknown metric {name!r}: choose from {', '.join(METRICS)}")
    return metrics or MAIN


def family(metric: str) -> str:
    """The family of metrics that a metric belongs to; one that is in none is a family of its own."""
    # "AP" is no beginning of another's name; the longest beginning decides
    found = {start: name for name, starts in FAMILIES.items() for start in starts if metric.startswith(start)}
    return found[max(found, key=len)] if found else metric


def two_parts(per_image: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per-image values of the two ranked tables, for each classifier.

    The first: the methods measured on all images. The second, empty if these are all methods: all methods, on the
    images that they share.
    """
    whole, shared = [], []
    for _, part in per_image.groupby("classifier", sort=False):
        count = part.groupby("method", sort=False)["image"].nunique()
        few = count.index[count < count.max()]
        whole.append(part[~part["method"].isin(few)])
        methods_of = part.groupby("image")["method"].nunique()
        shared.append(
            part[part["image"].isin(methods_of.index[methods_of == len(count)])].head(len(part) * bool(len(few)))
        )
    return pd.concat(whole), pd.concat(shared)


def tidy(per_image: pd.DataFrame) -> pd.DataFrame:
    """Means of per-image values (classifier, method, image, metrics), a row for each.

    Columns: classifier, method, metric, value, low, high, n. ``low`` and ``high`` bound the 95 % interval of the mean
    over the ``n`` images for which the metric is defined: the percentile bootstrap, of fewer than 100 images Wilson's
    interval (shares) or the BCa bootstrap, and none where too few images differ to tell (`mean_interval`).
    """
    rows = []
    for classifier, part in per_image.groupby("classifier", sort=False):
        wide = part.pivot(index="image", columns="method", values=[m for m in METRICS if m in part])
        wide = wide.dropna(axis=1, how="all")
        # values over the same images are resampled together
        defined = wide.notna().to_numpy()
        yes_or_no = wide.isin([0, 100]).to_numpy() | ~defined  # means over seeds are not
        shares = [
            bool(suite.SHARE.fullmatch(at[0])) and whole for at, whole in zip(wide, yes_or_no.all(0), strict=True)
        ]
        alike = wide.columns.to_series().groupby([[d.tobytes() for d in defined.T], np.array(shares)], sort=False)
        bounds = {}
        for (_, share), columns in alike:
            low, high = mean_interval(wide[list(columns)].dropna().to_numpy(), share=share)
            bounds |= dict(zip(columns, zip(low, high, strict=True), strict=True))
        means, count = wide.mean(), wide.notna().sum()
        for method in part["method"].unique():
            for at in [(metric, method) for metric in METRICS if (metric, method) in bounds]:
                rows.append((classifier, method, at[0], means[at], *bounds[at], count[at]))
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
    """Write ``results/<profile>/seeds.csv`` of the trained methods: what `over_seeds` makes of what all seeds have.

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
    values = [pd.read_csv(paths.per_image(profile, name, seed)).assign(seed=seed) for name, seed in every]
    values = pd.concat(values, join="inner")  # metrics measured for every seed
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
    """Classifier, metric, and its values: a row per image, a column per method in their order; higher is better."""
    chosen = wanted(metrics)
    for classifier, part in per_image.groupby("classifier", sort=False):
        for metric in [m for m in chosen if m in part]:
            wide = part.pivot(index="image", columns="method", values=metric)[part["method"].unique()]
            wide = wide.dropna(axis=1, how="all")  # a method for which the metric is never defined
            if len(wide.columns) and wide.notna().all(axis=1).any():  # of an image for all methods
                yield classifier, metric, wide if METRICS[metric].higher_is_better else -wide


def leaders(per_image: pd.DataFrame, metrics: list[str] | None = None) -> pd.DataFrame:
    """Which method is best and which are not significantly worse, for each classifier and metric.

    Columns: classifier, metric, method, gap, p, best, tied. ``gap``: by how much the method is worse than the best,
    over the images that all methods have explained (see `two_parts`); ``p``: of the paired two-sided test against the
    best, corrected for all pairs of methods of this classifier and metric, since the best is chosen by the same data
    (`all_pairs_test`); ``tied``: p is at least 5 %. The ground truth is left out, since it is shown the answer.
    """
    rows = []
    cells = [cell for cell in _cells(per_image[per_image["method"] != TRUTH], metrics)]
    for found in _alike(cells).values():
        values = np.stack([wide.to_numpy() for _, _, wide in found], 1)
        for (classifier, metric, wide), p_values in zip(found, all_pairs_test(values), strict=True):
            means = wide.dropna().mean()
            best = int(np.argmax(means))
            for i, method in enumerate(wide):
                gap, p = means.iloc[best] - means.iloc[i], p_values[best, i]
                rows.append((classifier, metric, method, gap, p, i == best, i != best and p >= LEVEL))
    table = pd.DataFrame(rows, columns=["classifier", "metric", "method", "gap", "p", "best", "tied"])
    order = {cell[:2]: at for at, cell in enumerate(cells)}
    at = [order[row.classifier, row.metric] for row in table.itertuples()]
    return table.iloc[np.argsort(at, kind="stable")].reset_index(drop=True)


def _alike(cells: list[tuple]) -> dict[tuple, list[tuple]]:
    """Cells of one classifier and the same methods and images, whose tests share their random signs."""
    groups: dict[tuple, list[tuple]] = {}
    for cell in cells:
        groups.setdefault((cell[0], *cell[2], len(cell[2])), []).append(cell)
    return groups


def wins(per_image: pd.DataFrame, reference: str = "P-TAME", metrics: list[str] | None = None) -> pd.DataFrame:
    """Whether the reference is better than each other method: classifier, metric, method, gain, p.

    ``gain``: by how much the reference is better (negative: worse), over the images both have explained; ``p``:
    two-sided test of the paired values (`paired_permutation_test`). The whole table is one family of tests: Holm's
    correction is for all of its rows. The ground truth is left out.
    """
    rows, tests, metrics = [], [], wanted(metrics)
    for classifier, metric, wide in _cells(per_image[per_image["method"] != TRUTH], metrics):
        if reference not in wide:  # not defined for it
            continue
        gains = wide[[reference]].to_numpy() - wide.drop(columns=reference).to_numpy()
        gains = [(m, g[np.isfinite(g)]) for m, g in zip(wide.columns.drop(reference), gains.T, strict=True)]
        rows += [(classifier, metric, method, gain.mean()) for method, gain in gains]
        tests += _tests([gain for _, gain in gains])
    return pd.DataFrame(rows, columns=["classifier", "metric", "method", "gain"]).assign(p=holm(tests))


def _tests(differences: list[np.ndarray]) -> list[float]:
    """p-values of paired differences; those over equally many images share their random signs."""
    found = np.ones(len(differences))
    lengths = np.array([len(d) for d in differences])
    for n in np.unique(lengths):
        at = np.flatnonzero(lengths == n)
        columns = np.stack([differences[i] for i in at], 1)
        found[at] = paired_permutation_test(columns, np.zeros_like(columns))
    return found.tolist()


class Rows(Styler):
    """A styled table for a notebook whose classifier is repeated in each row; its head stays while it scrolls."""

    def _repr_html_(self) -> str:
        return self.to_html(sparse_index=False)


def arrowed(metric: str) -> str:
    """The metric's name with an arrow: up where higher is better, else down."""
    return f"{metric} {'↑' if METRICS[metric].higher_is_better else '↓'}"


def styled(table: pd.DataFrame, marks: pd.DataFrame, metrics: list[str] | None = None) -> Styler:
    """`main_table` for a notebook: `leaders` are bold, those not significantly worse underlined."""
    wide = main_table(table, metrics)
    looks = pd.DataFrame("", index=wide.index, columns=wide.columns)
    for row in marks[marks["metric"].isin(wide.columns)].itertuples():
        look = "font-weight: bold" if row.best else "text-decoration: underline" if row.tied else ""
        looks.loc[(row.classifier, row.method), row.metric] = look
    arrows = {metric: arrowed(metric) for metric in wide}
    shown = Rows(wide).apply(lambda _: looks, axis=None).format("{:.1f}", na_rep=UNKNOWN)
    shown = shown.set_sticky(axis="columns").set_table_attributes(SCROLLS)
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
        ranked = method in own  # not if it explains few images
        rank = f": there its mean rank is {own[method]:.1f} of {len(own)}{beside}" if ranked else ""
        told.append(f"{method} explains {', '.join(there)} alone and is left out of means over all classifiers{rank}.")
    return told


def ranks(table: pd.DataFrame, marks: pd.DataFrame, metrics: list[str] | None = None) -> pd.DataFrame:
    """One row per method: its mean rank (1 is best), that in each family of metrics, and counts of cells.

    In each classifier and metric (a cell), ties share a rank. The rank of a family (`FAMILIES`) is the mean over its
    cells, the mean rank that over the families: each counts alike, however many metrics it has. The counts: in how many
    cells the method is the best, and in how many not significantly worse than the best. Left out are the
    ground truth, methods measured on fewer images than others (see `two_parts`), and methods that do not explain every
    classifier (`everywhere`, `partly`), since a mean over other cells is not comparable; a cell where one of these is
    the best has no best in the counts.
    """
    chosen = wanted(metrics)
    cells = table[table["metric"].isin(chosen) & table["method"].isin(_rated(table))]
    sign = cells["metric"].map(lambda m: -1 if METRICS[m].higher_is_better else 1)
    rank = (sign * cells["value"]).groupby([cells["classifier"], cells["metric"]]).rank()
    by_family = rank.groupby([cells["method"], cells["metric"].map(family)]).mean().unstack()
    by_family = by_family[[name for name in dict.fromkeys(map(family, chosen)) if name in by_family]]
    found = by_family.assign(cells=rank.groupby(cells["method"]).size())
    found.insert(0, "mean rank", by_family.mean(axis=1))
    counts = marks[marks["metric"].isin(chosen)].groupby("method")[["best", "tied"]].sum()
    counts = counts.rename(columns={"tied": "not significantly worse"})
    return found.join(counts).sort_values("mean rank", kind="stable").rename_axis(index=None, columns=None)


def _rated(table: pd.DataFrame) -> list[str]:
    """The methods that are ranked: on every classifier, on all images."""
    images = table.groupby(["classifier", "method"], sort=False)["n"].max()
    few = images[images < images.groupby("classifier").transform("max")].index.get_level_values("method")
    return [method for method in everywhere(table) if method != TRUTH and method not in set(few)]


def rank_intervals(
    per_image: pd.DataFrame, metrics: list[str] | None = None, *, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """95 % intervals (low, high) of the mean ranks that `ranks` gives, a row per method.

    The images of each classifier are resampled for all methods and metrics together. NaN for fewer than 100 images, of
    which the bootstrap would say too little.
    """
    counts = per_image.groupby(["classifier", "method"], sort=False)["image"].nunique().rename("n").reset_index()
    methods = _rated(counts)
    chosen = [m for m in wanted(metrics) if m in per_image]
    if counts["n"].max() < FEW:
        return pd.DataFrame(np.nan, index=methods, columns=["low", "high"])
    sums, cells = {}, {}
    for _, part in per_image[per_image["method"].isin(methods)].groupby("classifier", sort=False):
        for metric, rank in _resampled_ranks(part, methods, chosen, resamples, seed):
            sums[family(metric)] = sums.get(family(metric), 0) + rank
            cells[family(metric)] = cells.get(family(metric), 0) + 1
    means = np.mean([sums[name] / cells[name] for name in sums], axis=0)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return pd.DataFrame({"low": low, "high": high}, index=methods)


def _resampled_ranks(
    part: pd.DataFrame, methods: list[str], metrics: list[str], resamples: int, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """The ranks (resamples,methods) in each metric of one classifier's values."""
    from scipy.stats import rankdata

    wide = part.pivot(index="image", columns="method", values=metrics)
    wide = wide.reindex(columns=pd.MultiIndex.from_product([metrics, methods])).to_numpy().reshape(len(wide), -1)
    # means over the images where a metric is defined: resampled sums by resampled counts
    defined = np.isfinite(wide)
    both = np.concatenate([np.where(defined, wide, 0), defined], axis=1)
    sums = np.concatenate(list(resampled_means(both, resamples=resamples, seed=seed)))
    known = np.where(sums[:, wide.shape[1] :] > 0, sums[:, wide.shape[1] :], np.nan)
    means = (sums[:, : wide.shape[1]] / known).reshape(-1, len(metrics), len(methods))
    for i, metric in enumerate(metrics):
        sign = -1 if METRICS[metric].higher_is_better else 1
        if np.isfinite(means[:, i]).all():
            yield metric, rankdata(np.round(sign * means[:, i], 9), axis=1)


def confusion_table(found: Confusion, names: Sequence[str]) -> pd.DataFrame:
    """The class-specific test as image_class, mask_class (``none``: whole image), probability, images."""
    rows = [
        (image_class, mask_class, value, count)
        for image_class, values, count in zip(names, found.values.tolist(), found.images.tolist(), strict=True)
        for mask_class, value in zip(["none", *names], values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["image_class", "mask_class", "probability", "images"])
