"""Whether a run gives the values of the full study: each difference against what images and seeds let expect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from ptame_lib.texts import printable

from . import paths, profiles
from .tables import CORE

LEVEL = 0.95
CELL = ["classifier", "method", "metric"]
NAMED = 40  # cells outside, at most
RULE = (
    f"A value is inside if it is one that a run like this has in {100 * LEVEL:.0f} % of all cases: its images are the "
    "first of the full study's, trained methods are trained again, and one image may be decided otherwise elsewhere."
)


def compared(
    run: pd.DataFrame, full: pd.DataFrame, seeds: pd.DataFrame | None = None, nested: bool = False
) -> pd.DataFrame:
    """The cells of two tidy tables: classifier, method, metric, value, full, low, high, inside.

    ``low`` to ``high`` is the prediction interval of the run's mean, the full study's mean plus and minus a quantile
    of t times the standard error of the difference. The images' standard deviation is pooled over both, as in Student's
    test, since one over few images may be 0. ``seeds`` (classifier, method, metric, sd): trained methods have been
    trained twice, too. ``nested``: the run's images are some of the full study's, so that the difference has less
    variance; the interval is then no narrower than one image of the run. A cell without an interval in either table is
    left out.
    """
    both = run.merge(full, on=CELL, suffixes=("", "_full"))
    both = both.dropna(subset=["low", "high", "low_full", "high_full"]).reset_index(drop=True)
    sizes, variances = both[["n", "n_full"]].to_numpy(float).T, _variances(both)
    freedom = sizes.sum(0) - 2
    pooled = ((sizes - 1) * variances).sum(0) / freedom
    squared = pooled * ((1 / sizes[0] - 1 / sizes[1]).clip(0) if nested else (1 / sizes).sum(0))
    if seeds is not None:
        squared = squared + 2 * both.merge(seeds[[*CELL, "sd"]], on=CELL, how="left")["sd"].fillna(0).to_numpy() ** 2
    half = t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(squared)
    half = np.maximum(half, 100 / sizes[0]) if nested else half
    found = both[[*CELL, "value"]].assign(full=both["value_full"])
    found = found.assign(low=found["full"] - half, high=found["full"] + half)
    # tables have four decimals
    return found.assign(inside=(found["value"] - found["full"]).abs() <= half + 1e-3)


def _variances(both: pd.DataFrame) -> np.ndarray:
    """The variance between images in either table, from the width of its interval."""
    wide = [both[f"high{end}"] - both[f"low{end}"] for end in ("", "_full")]
    sizes = both[["n", "n_full"]].to_numpy(float).T
    errors = np.stack(wide) / (2 * norm.ppf((1 + LEVEL) / 2))  # of the means, over resampled images
    return errors**2 * sizes**2 / (sizes - 1).clip(1)


def check(profile: str) -> list[str]:
    """Lines about a finished profile's main table; none where the full study has no such values.

    It has those of itself and of profiles that extend it.
    """
    files = [paths.results(name) / "compare.csv" for name in (profile, "reference")]
    if (
        profile == profiles.DEFAULTS
        or profiles.FULL not in profiles.ancestry(profile)
        or not all(map(Path.is_file, files))
    ):
        return []
    run, full = map(pd.read_csv, files)
    seeds = files[1].with_name("seeds.csv")
    run, full = (table[table["metric"].isin(CORE)] for table in (run, full))
    found = compared(run, full, pd.read_csv(seeds) if seeds.is_file() else None, nested=True)
    return _told(found, len(full) - len(found))


def _told(found: pd.DataFrame, others: int = 0) -> list[str]:
    outside = found[~found["inside"]]
    lines = ["", f"Reproduction check: {len(found) - len(outside)} of {len(found)} cells inside.", RULE]
    if others:
        lines.append(f"{others} cells are not compared: too few images differ to tell, or they are in one study alone.")
    if len(outside):
        expected = round((1 - LEVEL) * len(found))
        lines.append(f"About {expected} would be outside by chance. Outside, with the full study's and the interval:")
    for row in outside.head(NAMED).itertuples():
        told = f"{row.value:.1f} ({row.full:.1f}, {row.low:.1f} to {row.high:.1f})"
        lines.append(printable(f"  {row.classifier}, {row.method}, {row.metric}: {told}"))
    return lines + [f"  and {len(outside) - NAMED} more"] * (len(outside) > NAMED)
