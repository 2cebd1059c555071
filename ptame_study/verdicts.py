"""Sentences that rank two methods: computed, by the rules of docs/protocol.md."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from ptame_lib.explainers.loading import TRAINED
from ptame_lib.metrics.statistics import FEW

from . import paths, tables
from .profiles import load_profile
from .settings import KIND

BETTER, WORSE = "better", "worse"
NO_DIFFERENCE, TOO_FEW = "no difference shown", "too few images to tell"
# in what the values of two training seeds are made from
OF_A_SEED = ("trained_seed", "methods", "fewer", "measured", "files")


def with_seeds(per_image: pd.DataFrame, profile: str, seed: int = 0) -> pd.DataFrame:
    """Per-image values of one training ``seed`` with a column ``seed``, and those of the profile's other ones.

    Values of another seed are taken if they are there and were made from the same data and code. Only the comparison of
    seed 0 looks for others, since theirs are made before it.
    """
    found = [per_image.assign(seed=seed)]
    of_profile = seed == 0 and (paths.profiles() / f"{profile}.yaml").is_file()  # the notebooks' own has no file
    others = load_profile(profile).get("seeds", []) if of_profile else []
    for name in dict.fromkeys(name.partition(KIND)[0] for name in per_image["classifier"]):  # without kinds of images
        made_from = _made_from(profile, name, seed)
        for other in [other for other in others if other != seed]:
            if made_from is not None and _made_from(profile, name, other) == made_from:
                values = pd.read_csv(paths.per_image(profile, name, other))
                found.append(values[values["method"].isin(TRAINED)].assign(seed=other))
    return pd.concat(found, ignore_index=True)


def _made_from(profile: str, classifier: str, seed: int) -> dict | None:
    """What per-image values were made from, but for what differs between training seeds; None without values."""
    file = paths.per_image(profile, classifier, seed)
    note = file.with_suffix(".json")
    if not (file.is_file() and note.is_file()):
        return None
    return {k: v for k, v in json.loads(note.read_text())["made_from"].items() if k not in OF_A_SEED}


def of_both_parts(
    per_image: pd.DataFrame, profile: str, seed: int = 0, reference: str = "P-TAME", metrics: list[str] | None = None
) -> pd.DataFrame:
    """`verdicts` on the two ranked tables (`tables.two_parts`), each a family of its own.

    The first: against the methods measured on all images. The second: against the others, on the images shared by all.
    """
    metrics = [metric for metric in tables.wanted(metrics) if metric in per_image]  # seeds may have more
    whole, shared = tables.two_parts(per_image)
    found = [verdicts(with_seeds(whole, profile, seed), reference, metrics)]
    if slow := set(shared["method"]) - set(whole["method"]):
        values = with_seeds(shared, profile, seed).merge(shared[["classifier", "image"]].drop_duplicates())
        found.append(verdicts(values[values["method"].isin({reference, *slow})], reference, metrics))
    return pd.concat(found, ignore_index=True)


def verdicts(values: pd.DataFrame, reference: str = "P-TAME", metrics: list[str] | None = None) -> pd.DataFrame:
    """Whether the reference is better or worse than each other method, as far as tests and training seeds agree.

    ``values``: per-image values of one or several training seeds (column ``seed``); methods that are not trained have
    them once. Columns: those of `tables.wins` of the seeds' means, ``images``, ``seeds`` (how many), ``agree`` (the
    mean difference of every seed has the sign of the gain) and ``verdict``. The verdict is better or worse where p
    is below 5 % and the seeds agree; else no difference shown, or, below 100 images, too few images to tell.
    """
    values = values[values["method"] != tables.TRUTH]
    known = [m for m in tables.wanted(metrics) if m in values]
    means = values.groupby(["classifier", "method", "image"], sort=False)[known].mean().reset_index()
    found = tables.wins(means, reference, known)
    count = means.groupby(["classifier", "method"])["image"].nunique()
    found["images"] = [
        min(count[row.classifier, row.method], count[row.classifier, reference]) for row in found.itertuples()
    ]
    signs = _signs(values, reference, known)
    of_row = [signs[row.classifier, row.metric, row.method] for row in found.itertuples()]
    found["seeds"] = [len(of) for of in of_row]
    found["agree"] = [bool((of == np.sign(gain)).all()) for of, gain in zip(of_row, found["gain"], strict=True)]
    shown = (found["p"] < tables.LEVEL) & found["agree"]
    nothing = np.where(found["images"] < FEW, TOO_FEW, NO_DIFFERENCE)
    found["verdict"] = np.where(shown, np.where(found["gain"] > 0, BETTER, WORSE), nothing)
    return found


def _signs(values: pd.DataFrame, reference: str, metrics: list[str]) -> dict[tuple[str, str, str], np.ndarray]:
    """By classifier, metric and method: the sign of the reference's mean gain for each training seed.

    Seed by seed; a method without a seed, such as one that is not trained, has its mean over those that it has.
    """
    found = {}
    for classifier, part in values.groupby("classifier", sort=False):
        of_seed = {key: rows.set_index("image")[metrics] for key, rows in part.groupby(["method", "seed"], sort=False)}
        mean = {m: rows.groupby("image")[metrics].mean() for m, rows in part.groupby("method", sort=False)}
        ours = {seed for method, seed in of_seed if method == reference}
        for method in mean.keys() - {reference}:
            seeds = sorted(ours | {seed for name, seed in of_seed if name == method})
            pairs = [[of_seed.get((name, seed), mean[name]) for name in (reference, method)] for seed in seeds]
            gains = pd.DataFrame([(a - b).mean() for a, b in pairs])
            for metric in metrics:
                sign = 1 if tables.METRICS[metric].higher_is_better else -1
                found[classifier, metric, method] = np.sign(sign * gains[metric].to_numpy())
    return found


def sentences(found: pd.DataFrame, reference: str = "P-TAME") -> list[str]:
    """What `verdicts` says, a sentence for each classifier and method."""
    told = []
    for (classifier, method), rows in found.groupby(["classifier", "method"], sort=False):
        parts = []
        for verdict in (BETTER, WORSE):
            if named := list(rows["metric"][rows["verdict"] == verdict]):
                parts.append(f"{verdict} in {', '.join(named)}")
        for verdict in (NO_DIFFERENCE, TOO_FEW):
            if count := (rows["verdict"] == verdict).sum():
                parts.append(f"{verdict} in {count} of {len(rows)} metrics")
        seeds, images = rows["seeds"].max(), rows["images"].max()
        trained = "one training seed" if seeds == 1 else f"{seeds} training seeds"
        told.append(f"{classifier}: {reference} against {method} ({images} images, {trained}): {'; '.join(parts)}.")
    return told


def counts(found: pd.DataFrame) -> pd.DataFrame:
    """How many cells (classifier and metric) have each verdict, a row per method."""
    table = pd.crosstab(found["method"], found["verdict"]).reindex(found["method"].unique())
    order = [verdict for verdict in (BETTER, WORSE, NO_DIFFERENCE, TOO_FEW) if verdict in table]
    return table[order].rename_axis(index=None, columns=None)
