"""The answers of notebooks 03, 06, 08, 11, 12 and 14: a few sentences from their tables, what is lost first.

README.md has the same sentences, from the tables of the full study.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from ptame_lib.explainers.names import SWAPPED
from ptame_lib.methods.base import CONTROLS, TRUTH

from .tables import LEVEL
from .verdicts import BETTER, WORSE
from .whose_evidence import CHANCE, RIGHT

NAMED = 6  # as many methods have a name in a list, also those with one comparison or two

# the checks of notebook 06
ITSELF = "the classifier itself"
RANDOM = "random up to "  # a module of it
SHUFFLED = "shuffled labels"
SEED = "another seed"  # two trainings on the same classifier
HEAD = "permuted head"  # the class whose logit it is
STAYS = "permuted head, same number"  # the class of the same number, whose maps should differ
UNRELATED = "another image"  # what two maps have in common that show nothing alike


def of_comparison(paired: pd.DataFrame, reference: str = "P-TAME") -> str:
    """Against which methods the reference loses and wins, in how many comparisons.

    ``paired``: `verdicts.verdicts`, with its columns method, classifier, metric and verdict.
    """
    paired = paired[~paired["method"].isin(CONTROLS) | (paired["method"] == SWAPPED)]
    cells = paired.groupby("method", sort=False)["verdict"]
    lost, won = (cells.agg(lambda of, word=word: (of == word).sum()) for word in (WORSE, BETTER))
    most = list(won.index[won > cells.size() / 2])
    told = [
        f"A comparison is one method, classifier and metric. {reference} loses to {_spread(lost, cells.size().max())}.",
        f"It wins more than half of those with {listed(most)}." if most else "It wins more than half with none.",
        f"In {len(paired) - lost.sum() - won.sum()} of all {len(paired)} comparisons no difference is shown, or the "
        "images are too few to tell.",
    ]
    if reference == "P-TAME" and SWAPPED in lost.index and lost[SWAPPED] >= won[SWAPPED]:
        told.append(
            f"The {SWAPPED} does no worse: the scores show that P-TAME finds the evidence, "
            "not that it explains this classifier and no other."
        )
    return " ".join(told)


def of_sanity(likeness: pd.DataFrame, known: pd.DataFrame, reference: str = "P-TAME") -> str:
    """How the reference does in the checks, and the best other method; a sentence each, what is lost first.

    ``likeness``: means over the images, columns check, method, metric and value, in percent; ``known``: the same with
    ``classifier sees`` for the check.
    """
    told = []
    for sees, part in known[known["metric"] == "pointing"].groupby("classifier sees", sort=False):
        own, best, name, control = _beside(part, reference, most=True)
        beside = [f"the best other method, {name}: {best:.0f} %"] * bool(name)
        beside += [f"a control, {control[0]}: {control[1]:.0f} %"] if control and control[1] >= own else []
        said = f"Where the classifier sees {sees} alone, {reference} points there in {own:.0f} % of the images"
        told.append((own < best, said + f" ({'; '.join(beside)})" * bool(beside) + "."))
    # an inverted map is no independent one; tables of earlier runs have no |Spearman|
    spearman = likeness[likeness["metric"] == ("|Spearman|" if "|Spearman|" in set(likeness["metric"]) else "Spearman")]
    randomised = spearman[spearman["check"].str.startswith(RANDOM)]
    last = randomised.groupby("classifier")["check"].transform("last")  # everything up to there is random
    unrelated = spearman[(spearman["check"] == UNRELATED) & (spearman["method"] == reference)]["value"]
    changed = {
        "After training on shuffled labels": spearman[spearman["check"] == SHUFFLED],
        "With random layers": randomised[randomised["check"] == last],
    }
    for where, part in changed.items():
        if len(part):
            own, best, name, _ = _beside(part, reference, most=False)
            said = f"{where}, {reference}'s maps correlate with the old ones by {own:.0f} %"
            told.append(
                (abs(own) > abs(best), said + f" (the best other method, {name}: {best:.0f} %)" * bool(name) + ".")
            )
    anyway = [f"The maps of two different images correlate by {unrelated.mean():.0f} %."] * bool(len(unrelated))
    return " ".join([sentence for _, sentence in sorted(told, key=lambda each: not each[0])] + anyway)


def _beside(part: pd.DataFrame, reference: str, most: bool) -> tuple[float, float, str, tuple[str, float] | None]:
    """The reference's mean over classifiers, the best other method's, its name, and the highest control.

    Best is the highest (``most``) or what is closest to 0; without other methods NaN, and no name.
    """
    values = part.groupby("method", sort=False)["value"].mean()
    others = values.drop([reference, *CONTROLS, TRUTH], errors="ignore")
    best = "" if others.empty else others.idxmax() if most else others.abs().idxmin()
    controls = values[values.index.isin(CONTROLS)]
    highest = (controls.idxmax(), controls.max()) if len(controls) else None
    return values[reference], others.get(best, math.nan), best, highest


def of_masks(paired: pd.DataFrame, specific: dict[str, dict[str, float]], classes: int, reference: str) -> str:
    """In how many comparisons the reference loses, and whether its masks are about their class.

    ``paired``: `verdicts.verdicts`; ``specific``: `metrics.specificity` by method; ``classes``: of the classifier.
    """
    lost = paired[paired["verdict"] == WORSE].groupby("metric", sort=False).size().sort_values(ascending=False)
    where = f" ({', '.join(f'{n} in {metric}' for metric, n in lost.items())})" if len(lost) else ""
    won = (paired["verdict"] == BETTER).sum()
    told = f"{reference} loses {lost.sum()} of {len(paired)} comparisons with other methods{where} and wins {won}."
    if reference not in specific:
        return told
    own = specific[reference]
    left = ", ".join(f"{name} {of['others']:.0f} %" for name, of in specific.items() if name != reference)
    return (
        f"{told} A class in the image has a probability of {own['whole']:.0f} %, and {own['own']:.0f} % where only its "
        f"own mask's part is kept. Where only the part of another class's mask is kept, it has {own['others']:.0f} % "
        f"(chance: {100 / classes:.0f} %)." + f" With other methods' masks it has: {left}." * bool(left)
    )


def of_evidence(shown: pd.DataFrame, swapped: pd.DataFrame) -> str:
    """How often P-TAME and Swap-TAME show what decides for a network, and whether each network needs its own explainer.

    ``shown``: `whose_evidence.tidy`, ``swapped``: `whose_evidence.gaps`; of a single network it is empty.
    """
    right = shown[shown["metric"] == RIGHT].groupby(["network", "method"])["value"].mean().unstack("method")
    means, worst = right.mean(), right.idxmin()
    ours = [m for m in ("P-TAME", "Swap-TAME") if m in right]
    variants = [m for m in right if "+" in m or " on " in m]  # with questions, or on another auxiliary
    others = [m for m in right if m not in (*CONTROLS, *variants) and not m.startswith(("P-TAME", "Swap-TAME"))]
    shows = {
        m: f"in {means[m]:.0f} % of them (worst network, {worst[m].removeprefix('zoo/')}: {right[m].min():.0f} %)"
        for m in ours
    }
    told = [f"Each of {len(right)} small networks decides by one of seven things in the same images."]
    if "P-TAME" in shows:
        told.append(f"P-TAME shows the right one {shows['P-TAME']}.")
    if others:
        best = means[others].idxmax()
        rival = f"The best other published method, {best}, shows it in {means[best]:.0f} %"
        told.append(f"{rival}; chance is {CHANCE:.0f} %.")
    if "Swap-TAME" in shows:
        told.append(f"Swap-TAME, a variant of this study, shows it {shows['Swap-TAME']}.")
    for auxiliary in [m.rpartition(" on ")[2] for m in right if m.startswith("P-TAME on ") and "+" not in m]:
        two = " and ".join(f"{m} in {means[f'{m} on {auxiliary}']:.0f} %" for m in ours)
        told.append(f"On the features of {auxiliary}, which knows no class, {two}.")
    if needs := own_better(swapped):
        pairs, first = count_pairs(swapped), next(m for m in ("P-TAME", "Swap-TAME", *needs) if m in needs)
        won = listed(f"{m}'s in {needs[m]}" for m in ("FastSHAP", "Swap-TAME") if m in needs and m != first)
        told.append(
            f"A network's own explainer should beat one for other evidence in {swapped['metric'].nunique()} metrics: "
            f"{first}'s does in {needs[first]} of {pairs} pairs{', ' * bool(won)}{won}."
        )
    return " ".join(told)


def count_pairs(swapped: pd.DataFrame) -> int:
    """How many pairs of networks with different evidence there are in `whose_evidence.gaps`."""
    return len(swapped[~swapped["alike"]].drop_duplicates(["network", "of"]))


def own_better(swapped: pd.DataFrame) -> dict[str, int]:
    """By method, in how many pairs of networks with different evidence the own explainer is better in every metric.

    It is better where the test is significant and all seeds agree. ``swapped``: `whose_evidence.gaps`.
    """
    shown = swapped.assign(won=_own_wins(swapped))
    won = shown[~shown["alike"]].groupby(["method", "network", "of"])["won"].all()
    return won.groupby("method").sum().to_dict()


def _own_wins(swapped: pd.DataFrame) -> pd.Series:
    """For each row of `whose_evidence.gaps`, whether the own explainer is better, in every seed."""
    return (swapped["p"] < LEVEL) & swapped["agree"] & (swapped["gap"] > 0)


def what_decides(shown: pd.DataFrame) -> pd.Series:
    """The evidence by which each network decides, by its name: that of its rows of `RIGHT` in `whose_evidence.tidy`."""
    return shown[shown["metric"] == RIGHT].drop_duplicates("network").set_index("network")["evidence"]


def of_stickers(shown: pd.DataFrame, swapped: pd.DataFrame) -> str:
    """How often each method shows the sticker and the object where these decide; what P-TAME loses most first.

    ``shown``: `whose_evidence.tidy` of both networks, whose evidence the rows of `RIGHT` name; ``swapped``:
    `whose_evidence.gaps`.
    """
    right = shown[shown["metric"] == RIGHT].groupby(["evidence", "method"])["value"].mean().unstack("method")
    ours = [m for m in right if m.startswith(("P-TAME", "Swap-TAME"))]
    others, controls = [m for m in right if m not in (*CONTROLS, *ours)], [m for m in right if m in CONTROLS]
    (first, *more), told = ours, []
    for evidence, row in right.iterrows():
        shares = [f"{first} shows it in {row[first]:.0f} % of the images", *(f"{m} in {row[m]:.0f} %" for m in more)]
        kinds = {"the best other method": row[others], "a control": row[controls]}
        best = {kind: (of.idxmax(), of.max()) for kind, of in kinds.items() if len(of)}
        rivals = "; ".join(f"{kind}, {name}: {value:.0f} %" for kind, (name, value) in best.items())
        lead = row["P-TAME"] - row[others].max() if others else 0
        told.append((lead, f"Where the {evidence} decides, {listed(shares)}" + f" ({rivals})" * bool(rivals) + "."))
    at = swapped["network"].map(what_decides(shown))
    needs = _own_wins(swapped).groupby([at, swapped["method"]]).sum().unstack("method")
    metrics = swapped["metric"].nunique()
    for evidence, row in needs.iterrows():
        won = [f"in {row[first]} of {metrics} metrics for {first}", *(f"in {row[m]} for {m}" for m in more)]
        own = f"Where the {evidence} decides, a network's own explainer beats the other network's"
        told.append((0, f"{own} {listed(won)}."))
    return " ".join([said for _, said in sorted(told, key=lambda each: each[0])])


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
        against = f"loses {len(lost)} of {len(part)} comparisons with training on the true gradients"
        told.append(f"{way[0].upper() + way[1:]} training {against}{where} and wins {won}.")
    return " ".join([*told, "The others show no difference."])


def _spread(counts: pd.Series, each: int) -> str:
    """Methods by their counts, most first: 'RISE in 14 of 48 comparisons, LIME (2) and T-TAME (2)'.

    Of more than `NAMED` methods, those with a count of one or two are not named.
    """
    counts = counts[counts > 0].sort_values(ascending=False, kind="stable")
    if not len(counts):
        return f"none in {each} comparisons each"
    named = counts[counts > 2] if len(counts) > NAMED and counts.iloc[0] > 2 else counts
    (first, most), *others = named.items()
    told = [f"{first} in {most} of {each} comparisons", *(f"{name} ({n})" for name, n in others)]
    if rest := len(counts) - len(named):
        return f"{', '.join(told)}, and to {rest} {'others' if rest > 1 else 'other'} in one or two"
    return listed(told)


def listed(words: Iterable[str]) -> str:
    """Words as 'a, b and c'; nothing of none."""
    *first, last = list(words) or [""]
    return " and ".join(filter(None, [", ".join(first), last]))
