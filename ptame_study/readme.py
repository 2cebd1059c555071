"""The parts of README.md and docs/results.md that hold numbers, made from the tables in ``results/reference``.

The pages have them between comments, ``<!-- main table -->`` and ``<!-- end of main table -->``; `parts` makes them and
`fill` writes them there. ``python -m ptame_study readme --profile P`` first takes the tables of a finished profile.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

import pandas as pd
import torch

from ptame_lib import files
from ptame_lib.explainers.names import EXPLAINER
from ptame_lib.methods.base import BESIDE, CONTROLS, TRUTH
from ptame_lib.metrics.specificity import specificity
from ptame_lib.texts import in_markdown

from . import answers, paths, tables
from .verdicts import BETTER, WORSE

REFERENCE = "reference"
[MASKS] = EXPLAINER  # the method of which there is one mask per class
SEEDS = "seeds.csv"  # only of profiles with several
COLUMNS = list(tables.CORE)  # of the main table
RIVALS = ("iGOS++", "RISE", "extremal perturbations", "T-TAME", "L-CAM-Img", "Grad-CAM", *BESIDE)  # P-TAME's

RESULTS = ["main table", "place", "seeds", "paired", "rankings"]
RESULTS += ["masks", "black box", "photographs", "cost", "pays", "imputation"]
PAGES = {"README.md": ["scope", "answers", "results"], "docs/results.md": RESULTS}  # the generated parts of each page
FIGURES = {"methods-embedded-resnet": "methods", "whose-evidence": "whose-evidence"}  # of a profile: its name here
SUMMARY = ("AD@25", "IC@25", "MoRF confidence", "precision@truth")  # metrics of the README's table

# names of rows in bench.csv
EXPLAIN = "explain one class, ResNet-18 at 224, batch 8"
TRAIN = "explainer's share of a training step, batch 32"
PLAIN = "straightforward"
NETWORKS = {"ResNet-50": "resnet50", "ViT-B-16": "vit_b_16"}
COSTS = ("P-TAME", "Grad-CAM", "integrated gradients, 50 steps", "Ablation-CAM", "Score-CAM", "RISE, 4000 masks")


def renew(profile: str) -> list[Path]:
    """`take` a finished profile's tables and `fill` the `PAGES` with them; returns the written files."""
    taken = [] if profile == REFERENCE else take(profile)
    made = parts(paths.results(REFERENCE))
    pages = {files.root() / page: page for page in PAGES}
    for file, page in pages.items():
        text = fill(file.read_text(), {name: made[name] for name in PAGES[page]}, page)
        with files.whole(file) as unfinished:
            unfinished.write_text(text)
    return [*taken, *pages]


def take(profile: str) -> list[Path]:
    """Copy a finished profile's tables and `FIGURES` into the reference; returns the written files.

    Raises ValueError if the profile has none of them.
    """
    olds = {*paths.results(REFERENCE).glob("*.csv"), paths.results(REFERENCE) / SEEDS}
    pairs = [(paths.results(profile) / old.name, old) for old in sorted(olds)]
    for shown, kept in FIGURES.items():
        pairs.append((paths.figures(profile) / f"{shown}.png", paths.figures(REFERENCE) / f"{kept}.png"))
    found = [(new, old) for new, old in pairs if new.is_file()]
    if not found:
        folder = files.show(paths.results(profile))
        raise ValueError(f"profile {profile} has no tables in {folder}: run `make reproduce PROFILE={profile}` first")
    for new, old in found:
        with files.whole(old) as unfinished:
            shutil.copyfile(new, unfinished)
    return [old for _, old in found]


def fill(text: str, made: dict[str, str], page: str = "README.md") -> str:
    """The ``page``'s ``text`` with the ``made`` parts between its comments; ValueError for a part without a place."""
    for name, part in made.items():
        comments = re.compile(rf"(<!-- {name} -->).*?(<!-- end of {name} -->)", re.DOTALL)
        text, places = comments.subn(lambda m, new=part: m[1] + new + m[2], text)
        if not places:
            raise ValueError(
                f"{page} has no place for {name!r}: write <!-- {name} --><!-- end of {name} --> where it should be"
            )
    return text


def parts(folder: Path) -> dict[str, str]:
    """Every generated part of the `PAGES` by name, from the tables in ``folder``."""
    names = ("compare", "leaders", "paired", "cost", "black_box_gaps", "black_box_queries")
    compare, leaders, paired, cost, gaps, queries = (pd.read_csv(folder / f"{name}.csv") for name in names)
    cascade, known, segmented = (
        pd.read_csv(folder / f"{n}.csv") for n in ("sanity", "sanity_known", "segmentation_paired")
    )
    confusion = pd.read_csv(folder / "class_confusion.csv", dtype={"image_class": str, "mask_class": str})
    evidence = pd.read_csv(folder / "whose_evidence.csv"), pd.read_csv(folder / "whose_swap.csv")
    bench = pd.read_csv(folder / "bench.csv").set_index("name")
    return {
        "scope": scope(compare),
        "answers": answered(paired, (cascade, known), (segmented, confusion), gaps, evidence),
        "results": summary(compare, paired, cost),
        "main table": comparison_section(compare, leaders, cost),
        "place": place(compare, leaders, cost),
        "seeds": over_seeds(pd.read_csv(folder / SEEDS)) if (folder / SEEDS).is_file() else "",
        "paired": pairs(paired),
        "rankings": rankings(paired),
        "masks": masks(confusion),
        "black box": black_box(gaps, queries),
        "photographs": photographs(pd.read_csv(folder / "realdata_paired.csv")),
        "imputation": imputation(bench),
        "cost": costs(bench),
        "pays": pays(bench),
    }


def scope(compare: pd.DataFrame) -> str:
    """Numbers of methods, controls and metrics; without methods that explain only some classifiers."""
    methods = set(tables.everywhere(compare))
    controls = methods & {*CONTROLS, TRUTH}
    metrics = set(tables.MAIN) & set(compare.metric)
    return f"{len(methods - controls) - 1} other methods and {len(controls)} controls by {len(metrics)} metrics"


def answered(
    paired: pd.DataFrame,
    sanity: tuple[pd.DataFrame, pd.DataFrame],
    masks: tuple[pd.DataFrame, pd.DataFrame],
    gaps: pd.DataFrame,
    evidence: tuple[pd.DataFrame, pd.DataFrame],
) -> str:
    """The answers of notebooks 03, 06, 08, 11 and 12, one a line."""
    segmented, confusion = masks
    told = {
        "Is it better than other methods? 03_compare": answers.of_comparison(paired),
        "Does it follow the classifier? 06_sanity": answers.of_sanity(*sanity),
        "Does it show what decides, where several things could? 12_whose_evidence": answers.of_evidence(*evidence),
        "Is each mask about its class? 08_explainer_compare": answers.of_masks(
            segmented, _specific(confusion), confusion.image_class.nunique(), MASKS
        ),
        "Without gradients? 11_black_box": answers.of_black_box(gaps),
    }
    lines = []
    for asked, text in told.items():
        question, notebook = asked.rsplit(" ", 1)
        lines.append(f"- **{question}** {in_markdown(text)} ([notebook {notebook[:2]}](notebooks/{notebook}.ipynb))")
    return "\n" + "\n".join(textwrap.fill(line, 120, subsequent_indent="  ") for line in lines) + "\n"


def summary(compare: pd.DataFrame, paired: pd.DataFrame, cost: pd.DataFrame) -> str:
    """P-TAME and its `RIVALS`: means over the classifiers, and in how many cells P-TAME wins; most losses first."""
    wide = compare[compare.metric.isin(SUMMARY)].groupby(["method", "metric"])["value"].mean().unstack().round(1)
    images = compare[compare.metric == SUMMARY[0]].groupby("method")["n"].min()
    milliseconds, passes = cost.groupby("method")["ms_per_image"].mean(), _passes(cost)
    counts = {name: part["verdict"].value_counts() for name, part in paired.groupby("method")}

    def lead(name: str) -> int:
        return counts[name].get(BETTER, 0) - counts[name].get(WORSE, 0)

    rivals = [name for name in RIVALS if name in counts and name in wide.index]
    rivals.sort(key=lambda name: (name in BESIDE, lead(name)))
    arrows = [f"{m.removesuffix(' confidence')} {'↑' if tables.METRICS[m].higher_is_better else '↓'}" for m in SUMMARY]
    rows = [["method", "passes", "ms", *arrows, "P-TAME loses", "wins", "neither"]]
    for name in ["P-TAME", *rivals]:
        values = [f"{wide[metric][name]:.1f}" for metric in SUMMARY]
        found = [counts[name].get(word, 0) for word in (WORSE, BETTER)] if name in counts else []
        told = [str(n) for n in (*found, counts[name].sum() - sum(found))] if name in counts else ["–"] * 3
        spent = f"{milliseconds[name]:.1f}" if milliseconds[name] >= 0.05 else "0"
        rows.append([_row_name(name, images), str(passes[name]), spent, *values, *told])
    few = sorted({int(images[name]) for name in rivals if images[name] < images.max()})
    stars = f"; methods with a star explain {few[0]} of them, so their values compare with no others" if few else ""
    return _table(rows) + f"\n{images.max()} held-out images{stars}. Passes and milliseconds are per image.\n"


def comparison_section(compare: pd.DataFrame, leaders: pd.DataFrame, cost: pd.DataFrame) -> str:
    """Means over the classifiers, one row per method: the best mean rank first, controls in their rank's place.

    Best values are bold. Methods measured on fewer images than others have a star and neither rank nor bold values;
    those that explain only some classifiers have a sentence below instead of a row.
    """
    ranks, told = tables.ranks(compare, leaders)["mean rank"], tables.partly(compare, leaders)

    # means over the classifiers, and each column's best (the truth does not compete)
    compare = compare[compare.method.isin(tables.everywhere(compare))]
    shown = compare[compare.metric.isin(COLUMNS)]
    wide = shown.groupby(["method", "metric"])["value"].mean().unstack()[COLUMNS].round(1)
    rising = {metric: tables.METRICS[metric].higher_is_better for metric in COLUMNS}
    rated = wide.loc[ranks.index]
    best = {metric: rated[metric].max() if up else rated[metric].min() for metric, up in rising.items()}
    images = compare[compare.metric == COLUMNS[0]].groupby("method")["n"].min()
    milliseconds, passes = cost.groupby("method")["ms_per_image"].mean(), _passes(cost)

    # the rows
    unranked = [name for name in compare.method.unique() if name not in ranks and name != TRUTH]
    rows = [["method", "mean rank", *(f"{m} {'↑' if up else '↓'}" for m, up in rising.items()), "passes", "ms"]]
    for name in [*ranks.index, *unranked, *([TRUTH] if TRUTH in wide.index else [])]:
        values = [tables.UNKNOWN if pd.isna(wide[m][name]) else f"{wide[m][name]:.1f}" for m in COLUMNS]
        if name in ranks:
            values = [f"**{v}**" if wide[m][name] == best[m] else v for m, v in zip(COLUMNS, values, strict=True)]
        rank = f"{ranks[name]:.1f}" if name in ranks else "–"
        spent = f"{milliseconds[name]:.1f}" if milliseconds[name] >= 0.05 else "0"
        rows.append([_row_name(name, images), rank, *values, str(passes[name]), spent])

    # the sentences below
    few = sorted({int(n) for n in images if n < images.max()})
    stars = f"; methods with a star explain {few[0]} of them and are not ranked with the others" if few else ""
    below = "".join(f"{in_markdown(sentence)}\n" for sentence in told)
    return _table(rows) + f"\n{images.max()} held-out images{stars}.\n{below}"


def _row_name(name: str, images: pd.Series) -> str:
    """A method in a table: controls are called so, those measured on fewer ``images`` than others have a star."""
    control = " (control)" if name in (*CONTROLS, TRUTH) else ""
    return in_markdown(name) + control + "*" * int(images[name] < images.max())


def place(compare: pd.DataFrame, leaders: pd.DataFrame, cost: pd.DataFrame) -> str:
    """P-TAME's place by mean rank, and the methods ahead with their cost."""
    order, passes = list(tables.ranks(compare, leaders).index), _passes(cost)
    asked = {name: f"{passes[name]} {'pass' if passes[name] == 1 else 'passes'} per image" for name in order}
    ahead = [f"{in_markdown(name)} ({asked[name]})" for name in order[: order.index("P-TAME")]]
    behind = f", behind {_listed(ahead)}" if ahead else ""
    told = "By mean rank over families of metrics (a summary, not a test), P-TAME is number"
    return f"\n{told} {len(ahead) + 1} of {len(order)}{behind}.\n"


def over_seeds(seeds: pd.DataFrame) -> str:
    """P-TAME trained with several seeds: means over seeds and classifiers, and how far such a mean is from another."""
    shown = seeds[(seeds.method == "P-TAME") & seeds.metric.isin(COLUMNS)]
    cells = shown.groupby("metric", sort=False)
    deviations = cells["sd"].apply(lambda sd: (sd**2).sum() ** 0.5 / len(sd))  # of a mean over the classifiers
    told = [f"{metric} {value:.1f} ± {deviations[metric]:.1f}" for metric, value in cells["value"].mean().items()]
    count = int(shown["seeds"].min())
    return f"\nOver {count} seeds of the training, P-TAME has {_listed(told)} (mean ± standard deviation).\n"


def pairs(paired: pd.DataFrame) -> str:
    """In how many cells (classifier, metric) P-TAME is better or worse than each rival, by docs/protocol.md."""
    truth = paired[[tables.family(metric) == "truth" for metric in paired["metric"]]]
    rows, groups = [["P-TAME against"]], {"all metrics": paired, "truth alone": truth}
    for name, part in groups.items():
        cells = len(part.drop_duplicates(["classifier", "metric"]))
        rows[0] += [f"{name} ({cells} cells): better", "worse", "not shown"]
    for rival in [name for name in RIVALS if name in set(paired["method"])]:
        row = [rival]
        for part in groups.values():
            verdict = part[part["method"] == rival]["verdict"]
            shown = [(verdict == each).sum() for each in (BETTER, WORSE)]
            row += [str(count) for count in (*shown, len(verdict) - sum(shown))]
        rows.append(row)
    return _table(rows)


def rankings(paired: pd.DataFrame) -> str:
    """A sentence for each rival: in which metrics P-TAME is worse or better for every classifier; losses first."""
    lines = []
    for rival in [name for name in RIVALS if name in set(paired["method"])]:
        part = paired[paired["method"] == rival]
        verdicts = part.groupby("metric", sort=False)["verdict"].agg(set)
        told = []
        for verdict in (WORSE, BETTER):
            if named := [metric for metric, found in verdicts.items() if found == {verdict}]:
                told.append(f"{verdict} for every classifier in {_listed(named)}")
        mixed = part[~part["metric"].isin([m for m, found in verdicts.items() if found in ({WORSE}, {BETTER})])]
        if len(mixed):
            counts = [f"{verdict} {count}" for verdict, count in mixed["verdict"].value_counts().items()]
            told.append(f"in {'the other ' if told else 'all '}{len(mixed)} cells: {', '.join(counts)}")
        lines.append(f"- Against {rival}: {'; '.join(told)}.")
    return "\n" + "\n".join(textwrap.fill(line, 120, subsequent_indent="  ") for line in lines) + "\n"


def masks(confusion: pd.DataFrame) -> str:
    """Whether masks are about their own class."""
    classes, means = confusion.image_class.nunique(), _specific(confusion)
    ours, theirs = means[MASKS], means["P-TAME"]
    return (
        f"\nA class in the image keeps a probability of {ours['own']:.0f} % under the mask of {MASKS} for it"
        f" (whole image: {ours['whole']:.0f} %), and {ours['others']:.1f} %\nunder its masks for other classes"
        f" (chance is {100 / classes:.0f} %). P-TAME's maps for other classes, trained for decisions,"
        f" leave {theirs['others']:.0f} %.\n"
    )


def black_box(gaps: pd.DataFrame, queries: pd.DataFrame) -> str:
    """What training on answers alone costs, on the worst classifier."""
    worst = gaps.groupby(["method", "metric"])["gain"].max().unstack()
    asked = queries.groupby("method")["queries_per_image"].max()
    told = {}
    for way in ("antithetic", "surrogate"):
        lost = [f"{worst[metric][way]:.1f} points of {metric}" for metric in ("AD100", "AD15", "pointing", "IoU")]
        told[way] = f"{_listed(lost)} ({asked[way]:.0f} answers per training image)"
    return (
        "\nCompared with training through the true gradients, this loses, on the worst of the three embedded"
        " classifiers,\n"
        f"{told['antithetic']};\n"
        f"the other method on offer, a learned imitation of the classifier, loses\n{told['surrogate']}.\n"
    )


def photographs(paired: pd.DataFrame) -> str:
    """On real photographs, P-TAME against Grad-CAM and against Grad-CAM's maps made wider; no lead first."""
    of = paired[paired["classifier"] == "1000 classes"].set_index("metric")
    plain, wider = (of[of["method"] == name] for name in ("Grad-CAM", "Grad-CAM, square root"))
    shown = plain["holm"] < tables.LEVEL
    level = f"Against Grad-CAM, no difference is shown in {_listed(list(plain.index[~shown]))}."
    signs = {WORSE: plain["gain"] < 0, BETTER: plain["gain"] > 0}
    leads = {word: plain["gain"][shown & sign].abs().items() for word, sign in signs.items()}
    named = {word: [f"{metric} (by {gain:.1f} points)" for metric, gain in lead] for word, lead in leads.items()}
    told = [f"P-TAME is {word} in {_listed(of_word)}." for word, of_word in named.items() if of_word]
    alike = [metric for metric in plain.index[shown] if metric in wider.index and wider["p"][metric] >= tables.LEVEL]
    if alike:
        root = "Against the square root of Grad-CAM's maps, which only makes them wider"
        told.append(f"{root}, no difference is shown in {_listed(alike)}.")
    return "\n" + textwrap.fill(" ".join([level, *told]), 120) + "\n"


def imputation(bench: pd.DataFrame) -> str:
    """How many times as fast ROAD's linear imputation is as the package's."""
    ratios = 1 / bench[bench.index.str.startswith("impute ")]["ratio"]
    return f"{ratios.min():.0f} to {ratios.max():.0f}"


def costs(bench: pd.DataFrame) -> str:
    """The tables of costs: against the straightforward computation, and methods side by side."""
    ratio = bench["ratio"]

    # this library and the straightforward computation, against the features alone
    explain = [ratio[f"{EXPLAIN}: {w}, ms"] for w in ("ours / auxiliary's features alone", f"{PLAIN} / features alone")]
    train = [ratio[f"{TRAIN}: {way} / features alone, ms"] for way in ("ours", PLAIN)]
    peaks = [bench.loc[f"{what}: peak memory, ours / {PLAIN}, MB"] for what in ("explain, batch 8", TRAIN)]
    memory = [", ".join(f"{row[column]:.0f} MB" for row in peaks) for column in ("value", "reference")]
    explained = "explain one class per image (batch 8), against the auxiliary's features alone"
    trained = "the explainer's share of a training step (batch 32), against the features alone"
    rows = [
        ["ResNet-18 auxiliary, 224 pixels, 1000 classes", "this library", "concatenate all levels, fuse all classes"],
        [explained, *(f"{_times(r)} x" for r in explain)],
        [trained, *(f"{_times(r)} x" for r in train)],
        ["memory: explain, train", *memory],
    ]

    # one explanation by each method, in passes of the classifier
    passes = [["one explanation, in forward passes of the classifier (measured time)", *COSTS]]
    for shown, name in NETWORKS.items():
        patterns = [rf"one explanation, {name}: {method}( \(.*\))? / " for method in COSTS]
        passes.append([shown, *(_times(float(ratio[ratio.index.str.match(p)].iloc[0])) for p in patterns)])
    return _table(rows) + _table(passes)


def pays(bench: pd.DataFrame) -> str:
    """After how many explanations training for one epoch of ImageNet has paid for itself."""
    row = "break-even, {}: training on 1281167 images, in explanations by {}: images / training images"
    told = []
    for shown, name in NETWORKS.items():
        rise, score = (round(bench["value"][row.format(name, method)], -1) for method in ("RISE", "Score-CAM"))
        told.append(f"{rise:.0f} explanations by RISE or {score:.0f} by Score-CAM for {shown}")
    start = "On this machine, training P-TAME for one epoch of ImageNet pays for itself after about"
    return f"\n{start}\n{' and '.join(told)}.\n"


def _specific(confusion: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What masks of the own and of other classes leave, by method."""
    classes = confusion.image_class.nunique()
    values = {name: part.probability.to_numpy(copy=True) for name, part in confusion.groupby("method", sort=False)}
    return {name: specificity(torch.from_numpy(part).view(-1, 1 + classes)) for name, part in values.items()}


def _passes(cost: pd.DataFrame) -> pd.Series:
    return (cost.forwards + cost.backwards).groupby(cost.method).max()


def _times(ratio: float) -> str:
    return f"{ratio:.{2 if ratio < 2 else 1 if ratio < 20 else 0}f}"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _table(rows: list[list[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(["\n" + head, f"|{'---|' * len(rows[0])}", *body]) + "\n"
