"""The answers of notebooks 03, 06, 08, 11 and 12: a few sentences from their tables, what is lost first.

README.md has the same sentences, from the tables of the full study.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ptame_lib.explainers.names import SWAPPED
from ptame_lib.methods.base import CONTROLS, TRUTH

from .tables import LEVEL
from .verdicts import BETTER, WORSE
from .whose_evidence import CHANCE, RIGHT

SEED = "another seed"  # the row of `of_sanity` that holds two trainings on the same classifier
ITSELF = "the classifier itself"
RANDOM = "with its layers random up to "


def of_comparison(paired: pd.DataFrame, reference: str = "P-TAME") -> str:
    """Against which methods the reference loses and wins, in how many comparisons.

    ``paired``: `verdicts.verdicts`, with its columns method, classifier, metric and verdict.
    """
    paired = paired[~paired["method"].isin(CONTROLS) | (paired["method"] == SWAPPED)]
    cells = paired.groupby("method", sort=False)["verdict"]
    lost, won = (cells.agg(lambda of, word=word: (of == word).sum()) for word in (WORSE, BETTER))
    most = list(won.index[won > cells.size() / 2])
    each = f"Of {cells.size().max()} comparisons with each other method (one classifier, one metric)"
    told = [
        f"{each}, {reference} loses {_spread(lost)}.",
        f"It wins more than half of those with {_listed(most)}." if most else "It wins more than half with none.",
        f"In {len(paired) - lost.sum() - won.sum()} of all {len(paired)}, no difference is shown, or there are too few "
        "images to tell.",
    ]
    if reference == "P-TAME" and SWAPPED in lost.index and lost[SWAPPED] >= won[SWAPPED]:
        told.append(
            f"The {SWAPPED} does no worse: the scores show that P-TAME finds the evidence, "
            "not that it explains this classifier and no other."
        )
    return " ".join(told)


def of_sanity(cascade: pd.DataFrame, known: pd.DataFrame, reference: str = "P-TAME") -> str:
    """In which checks another method is better than the reference, then in which none is.

    ``cascade``: columns check, method and Spearman, in percent; ``known``: columns classifier sees, method, metric
    and %.
    """
    found = {}  # where: whether another method is better, and the numbers
    for sees, part in known[known["metric"] == "pointing"].groupby("classifier sees", sort=False):
        found[f"where it sees {sees} alone"] = _against(part.set_index("method")["%"], reference, "maxima there")
    for check, part in cascade.groupby("check", sort=False):
        if check not in (ITSELF, SEED):
            changed = f"with {check}" if check.endswith("labels") else RANDOM + check.removeprefix("random up to ")
            found[changed] = _against(part.set_index("method")["Spearman"], reference, "maps like before")
    lost = [f"{where} ({numbers})" for where, (behind, numbers) in found.items() if behind]
    held = [where for where, (behind, _) in found.items() if not behind]
    layers = [where.removeprefix(RANDOM) for where in held if where.startswith(RANDOM)]
    held = [where for where in held if not where.startswith(RANDOM)] + [RANDOM + _listed(layers)] * bool(layers)
    told = [f"When the classifier is changed, other methods do better {_listed(lost)}."] if lost else []
    return " ".join([*told, f"None does better than {reference} {_listed(held)}."] if held else told)


def _against(values: pd.Series, reference: str, what: str) -> tuple[bool, str]:
    """Whether a method that is no control is better than the reference, and ``what`` they have, in percent.

    Maxima should be many, and maps like before few.
    """
    rising = what == "maxima there"
    own, others = values[reference], values.drop([reference, *CONTROLS, TRUTH], errors="ignore")
    best = others.max() if rising else others.min()
    names = others.index[others == best]
    told = f"{what}: {reference} {own:.0f} %, {names[0] if len(names) == 1 else f'{len(names)} methods'} {best:.0f} %"
    controls = values[values.index.isin(CONTROLS)]
    if rising and len(controls) and controls.max() >= own:
        told += f", {controls.idxmax()}, a control, {controls.max():.0f} %"
    return bool(best > own if rising else best < own), told


def of_masks(paired: pd.DataFrame, specific: dict[str, dict[str, float]], classes: int, reference: str) -> str:
    """Which measures of its masks the reference loses to which method, and whether masks are about their class.

    ``paired``: `verdicts.verdicts`; ``specific``: `metrics.specificity` by method; ``classes``: of the classifier.
    """
    lost = paired[paired["verdict"] == WORSE].groupby("metric", sort=False)["method"].agg(list)
    losses = [f"in {metric} to {_listed(methods)}" for metric, methods in lost.items()] or ["no comparison"]
    won = f"it wins {(paired['verdict'] == BETTER).sum()} of {len(paired)} comparisons"
    told = f"{reference} loses {_listed(losses)}; {won}."
    if reference not in specific:
        return told
    own = specific[reference]
    left = [f"{means['others']:.0f} % with {name}" for name, means in specific.items()]
    return (
        f"{told} A class in the image has a probability of {own['whole']:.0f} %, and {own['own']:.0f} % on what "
        f"its mask by {reference} keeps. On what masks of other classes keep, it has {_listed(left)} "
        f"(chance: {100 / classes:.0f} %)."
    )


def of_evidence(shown: pd.DataFrame, swapped: pd.DataFrame) -> str:
    """How often P-TAME and Swap-TAME show what decides for a network, and whether each network needs its own explainer.

    ``shown``: `whose_evidence.tidy`, ``swapped``: `whose_evidence.gaps`.
    """
    right = shown[shown["metric"] == RIGHT].groupby(["network", "method"])["value"].mean().unstack("method")
    means, worst = right.mean(), right.idxmin()
    others = [m for m in right if m not in CONTROLS and not m.startswith(("P-TAME", "Swap-TAME"))]
    best = means[others].idxmax()
    own, ours = (
        f"in {means[m]:.0f} % of the images ({worst[m].removeprefix('zoo/')}: {right[m].min():.0f} %)"
        for m in ("P-TAME", "Swap-TAME")
    )
    rows = swapped[~swapped["alike"] & (swapped["metric"] == "AD@25")]
    needs = ((rows["p"] < LEVEL) & rows["agree"] & (rows["gap"] > 0)).groupby(rows["method"]).sum()
    return (
        f"Each of {len(right)} small networks decides by one of seven things in the same images. "
        f"P-TAME shows the right one {own}, Swap-TAME, a variant of this study, {ours}. "
        f"{best[0].upper() + best[1:]} reaches {means[best]:.0f} %, chance {CHANCE:.0f} %. "
        f"There are {(rows['method'] == 'P-TAME').sum()} pairs of networks that decide by different things. "
        f"A network's own P-TAME is better than the other's in {needs['P-TAME']} of them, its own Swap-TAME in "
        f"{needs['Swap-TAME']}."
    )


def of_black_box(gaps: pd.DataFrame) -> str:
    """In how many comparisons each way without gradients is worse than training on them, and in what the most.

    ``gaps``: `tables.wins` of the gradients, with its columns method, metric, gain and p.
    """
    told = []
    for way, part in gaps.groupby("method", sort=False):
        shown = part[part["p"] < LEVEL]
        lost, won = shown[shown["gain"] > 0], (shown["gain"] < 0).sum()
        most = lost.loc[lost["gain"].idxmax()] if len(lost) else None
        where = "" if most is None else f" (at most {most['gain']:.0f} points, of {most['metric']})"
        told.append(f"{way} training loses {len(lost)} of {len(part)} comparisons{where} and wins {won}")
    return f"Against training on the true gradients, {_listed(told)}. What is left shows no difference."


def _spread(counts: pd.Series) -> str:
    """Methods by their counts, most first: '14 to RISE, 2 to LIME and T-TAME'; 'none' for zeros alone."""
    counts = counts[counts > 0].sort_values(ascending=False, kind="stable")
    groups = [f"{n} to {_listed(counts.index[counts == n])}" for n in dict.fromkeys(counts)]
    return ", ".join(groups) or "none"


def _listed(words: Iterable[str]) -> str:
    """Words as 'a, b and c'; nothing of none."""
    *first, last = list(words) or [""]
    return " and ".join(filter(None, [", ".join(first), last]))
