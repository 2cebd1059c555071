"""The README's figures, made from the committed tables in ``results/reference``, so that none is typed.

README.md has them between comments, ``<!-- main table -->`` and ``<!-- end of main table -->``; `fill` writes what `parts` makes there.
``python -m ptame_study readme --profile P`` first takes the tables of a finished profile into the reference.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import torch

from ptame_lib import files
from ptame_lib.methods.base import CONTROLS, TRUTH
from ptame_lib.metrics.specificity import specificity

from . import paths, tables

COLUMNS = [metric for metric in tables.CORE if not metric.endswith("50")]  # of the main table


CHOSEN = [
    metric for metric in tables.CORE if not metric.endswith("confidence")
]  # AD and IC at three sizes, pointing, IoU


RIVALS = ("iGOS++", "RISE", "extremal perturbations", "T-TAME", "L-CAM-Img", "Grad-CAM")  # of the paired table


REFERENCE = "reference"


EXPLAIN = "explain one class, ResNet-18 at 224, batch 8"  # names of the bench's rows


TRAIN = "explainer's share of a training step, batch 32"


COSTS = {
    "P-TAME": "P-TAME",
    "Grad-CAM": "Grad-CAM",
    "integrated gradients, 50 steps": "integrated gradients, 50 steps",
    "Ablation-CAM": "Ablation-CAM",
    "Score-CAM": "Score-CAM",
    "RISE, 4000 masks": "RISE, 4000 masks (measured on 200)",
}


def renew(profile: str) -> list[Path]:
    """`take` a finished profile's tables (the reference itself has nothing to take) and `fill` README.md; returns the files written."""
    file = files.root() / "README.md"
    taken = [] if profile == REFERENCE else take(profile)
    with files.whole(file) as unfinished:
        unfinished.write_text(fill(file.read_text(), parts(paths.results(REFERENCE))))
    return [*taken, file]


def take(profile: str) -> list[Path]:
    """Take the tables, and the main figure, of a finished profile into the reference; returns what was taken.

    Raises ValueError when the profile has none of them.
    """
    pairs = [(paths.results(profile) / old.name, old) for old in sorted(paths.results(REFERENCE).glob("*.csv"))]
    pairs += [(paths.figures(profile) / "methods-embedded-resnet.png", paths.figures(REFERENCE) / "methods.png")]
    found = [(new, old) for new, old in pairs if new.is_file()]
    if not found:
        raise ValueError(
            f"profile {profile} has no tables in {files.show(paths.results(profile))}: run `make reproduce PROFILE={profile}` first"
        )
    for new, old in found:
        with files.whole(old) as unfinished:
            shutil.copyfile(new, unfinished)
    return [old for _, old in found]


def fill(text: str, made: dict[str, str]) -> str:
    """``text`` with every part between its comments replaced by what was made. Raises ValueError for a part that ``text`` lacks."""
    for name, part in made.items():
        text, places = re.subn(
            rf"(<!-- {name} -->).*?(<!-- end of {name} -->)",
            lambda m, new=part: m[1] + new + m[2],
            text,
            flags=re.DOTALL,
        )
        if not places:
            raise ValueError(
                f"README.md has no place for {name!r}: write <!-- {name} --><!-- end of {name} --> where it should be"
            )
    return text


def parts(folder: Path) -> dict[str, str]:
    """Every generated part of the README by name, from the tables in ``folder``."""
    compare, leaders, paired, cost = (
        pd.read_csv(folder / f"{name}.csv") for name in ("compare", "leaders", "paired", "cost")
    )
    confusion = pd.read_csv(folder / "class_confusion.csv", dtype={"image_class": str, "mask_class": str})
    bench = pd.read_csv(folder / "bench.csv").set_index("name")
    return {
        "scope": scope(compare),
        "main table": comparison_section(compare, leaders, cost),
        "place": place(compare, leaders, cost),
        "paired": pairs(paired),
        "masks": masks(confusion),
        "black box": black_box(
            pd.read_csv(folder / "black_box_gaps.csv"), pd.read_csv(folder / "black_box_queries.csv")
        ),
        "imputation": imputation(bench),
        "cost": costs(bench),
        "pays": pays(bench),
    }


def scope(compare: pd.DataFrame) -> str:
    """How much is compared: numbers of methods, controls and metrics; methods for some of the classifiers alone do not count."""
    methods = set(tables.everywhere(compare))
    controls = methods & {*CONTROLS, TRUTH}
    return f"{len(methods - controls) - 1} other methods and {len(controls)} controls by {len(set(tables.MAIN) & set(compare.metric))} metrics"


def comparison_section(compare: pd.DataFrame, leaders: pd.DataFrame, cost: pd.DataFrame) -> str:
    """Means over the classifiers, one row per method, the best mean rank first, then the controls; the best of a column is bold. Methods
    for some of the classifiers alone have no such means, but a sentence below."""
    ranks, told = tables.ranks(compare, leaders)["mean rank"], tables.partly(compare, leaders)
    compare = compare[compare.method.isin(tables.everywhere(compare))]
    wide = (
        compare[compare.metric.isin(COLUMNS)].groupby(["method", "metric"])["value"].mean().unstack()[COLUMNS].round(1)
    )
    images = compare[compare.metric == COLUMNS[0]].groupby("method")["n"].min()
    milliseconds, passes = cost.groupby("method")["ms_per_image"].mean(), _passes(cost)
    rising = {metric: tables.METRICS[metric].higher_is_better for metric in COLUMNS}
    rated = wide.drop(index=TRUTH, errors="ignore")
    best = {metric: rated[metric].max() if up else rated[metric].min() for metric, up in rising.items()}
    last = [name for name in ("edges", "centred Gaussian", "random", TRUTH) if name in wide.index]
    rows = [["method", "mean rank", *(f"{m} {'↑' if up else '↓'}" for m, up in rising.items()), "passes", "ms"]]
    for name in [*(m for m in ranks.index if m not in last), *last]:
        values = [
            f"**{wide[m][name]:.1f}**" if name != TRUTH and wide[m][name] == best[m] else f"{wide[m][name]:.1f}"
            for m in COLUMNS
        ]
        rank = f"{ranks[name]:.1f}" if name in ranks else "–"
        spent = f"{milliseconds[name]:.1f}" if milliseconds[name] >= 0.05 else "0"
        rows.append([name + "*" * int(images[name] < images.max()), rank, *values, str(passes[name]), spent])
    few = sorted({int(n) for n in images if n < images.max()})
    note = f"\n{images.max()} held-out images" + (
        f"; methods with a star explain {few[0]} of them.\n" if few else ".\n"
    )
    return _table(rows) + note + "".join(f"{sentence}\n" for sentence in told)


def place(compare: pd.DataFrame, leaders: pd.DataFrame, cost: pd.DataFrame) -> str:
    """P-TAME's place by mean rank, and who is ahead at what cost."""
    order, passes = list(tables.ranks(compare, leaders).index), _passes(cost)
    ahead = [f"{name} ({passes[name]} passes per image)" for name in order[: order.index("P-TAME")]]
    behind = f", behind {_listed(ahead)}" if ahead else ""
    return f"\nBy mean rank over all metrics, P-TAME has place {len(ahead) + 1} of {len(order)}{behind}.\n"


def pairs(paired: pd.DataFrame) -> str:
    """P-TAME against its rivals: in how many cells of classifier and metric it is better or worse, and significantly so."""
    groups = {"all metrics": paired, "AD, IC, pointing, IoU": paired[paired.metric.isin(CHOSEN)]}
    head = ["P-TAME against"]
    for name, part in groups.items():
        cells = len(part.drop_duplicates(["classifier", "metric"]))
        head += [f"{name} ({cells} cells): better (significantly)", "worse (significantly)"]
    rows = [head]
    for rival in [name for name in RIVALS if name in set(paired.method)]:
        row = [rival]
        for part in groups.values():
            part = part[part.method == rival]
            row += [
                f"{wins.sum()} ({(wins & (part.p < tables.LEVEL)).sum()})" for wins in (part.gain > 0, part.gain < 0)
            ]
        rows.append(row)
    return _table(rows)


def masks(confusion: pd.DataFrame) -> str:
    """Whether masks are about their own class."""
    classes = confusion.image_class.nunique()
    values = {name: part.probability.to_numpy(copy=True) for name, part in confusion.groupby("method")}
    means = {name: specificity(torch.from_numpy(part).view(-1, 1 + classes)) for name, part in values.items()}
    ours, theirs = means["Explainer"], means["P-TAME"]
    return (
        f"\nOf classes that are there the Explainer's masks keep a probability of {ours['own']:.0f} % (whole image: {ours['whole']:.0f} %);"
        f" those of other classes\nleave {ours['others']:.1f} % (chance is {100 / classes:.0f} %), where P-TAME's maps, trained for decisions,"
        f" leave {theirs['others']:.0f} %.\n"
    )


def black_box(gaps: pd.DataFrame, queries: pd.DataFrame) -> str:
    """What is lost, at most over the classifiers, where a classifier only answers."""
    worst = gaps.groupby(["method", "metric"])["gain"].max().unstack()
    asked = queries.groupby("method")["queries_per_image"].max()
    told = {}
    for way in ("antithetic", "surrogate"):
        lost = _listed(
            [f"{worst[metric][way]:.1f} points of {metric}" for metric in ("AD100", "AD15", "pointing", "IoU")]
        )
        told[way] = f"{lost} ({asked[way]:.0f} answers per training image)"
    return (
        f"\nAgainst training through the true gradients it lost, on the worst of the three embedded classifiers,\n{told['antithetic']};\n"
        f"a learned imitation of the classifier, the other way offered, lost\n{told['surrogate']}.\n"
    )


def imputation(bench: pd.DataFrame) -> str:
    """How many times as fast ROAD's linear imputation is as the package's."""
    ratios = 1 / bench[bench.index.str.startswith("impute ")]["ratio"]
    return f"{ratios.min():.0f} to {ratios.max():.0f}"


def costs(bench: pd.DataFrame) -> str:
    """The tables of what it costs."""
    ratio = bench["ratio"]
    peak = [bench.loc[f"{what}: peak memory, ours / straightforward, MB"] for what in ("explain, batch 8", TRAIN)]
    explain = [
        ratio[f"{EXPLAIN}: {way}, ms"]
        for way in ("ours / auxiliary's features alone", "straightforward / features alone")
    ]
    train = [ratio[f"{TRAIN}: {way}, ms"] for way in ("ours / features alone", "straightforward / features alone")]
    rows = [
        ["ResNet-18 auxiliary, 224 pixels, 1000 classes", "this library", "concatenate all levels, fuse all classes"],
        [
            "explain one class per image (batch 8), against the auxiliary's features alone",
            *(f"{_times(r)} x" for r in explain),
        ],
        [
            "the explainer's share of a training step (batch 32), against the features alone",
            *(f"{_times(r)} x" for r in train),
        ],
        [
            "memory: explain, train",
            *(", ".join(f"{row[column]:.0f} MB" for row in peak) for column in ("value", "reference")),
        ],
    ]
    passes = [["one explanation, in forward passes of the classifier (measured time)", *COSTS]]
    for shown, name in (("ResNet-50", "resnet50"), ("ViT-B-16", "vit_b_16")):
        found = {key: ratio[ratio.index.str.startswith(f"one explanation, {name}: {key} / ")] for key in COSTS.values()}
        passes.append([shown, *(_times(float(value.iloc[0])) for value in found.values())])
    return _table(rows) + _table(passes)


def pays(bench: pd.DataFrame) -> str:
    """After how many explanations training for one epoch of ImageNet has paid for itself."""
    start = "break-even, {}: training on 1281167 images, in explanations by {}: images / training images"
    told = []
    for shown, name in (("ResNet-50", "resnet50"), ("ViT-B-16", "vit_b_16")):
        rise, score = (round(bench["value"][start.format(name, way)], -1) for way in ("RISE", "Score-CAM"))
        told.append(f"{rise:.0f} explanations by RISE or {score:.0f} by Score-CAM for {shown}")
    return f"\nOn this machine, training P-TAME for one epoch of ImageNet has paid for itself after about\n{' and '.join(told)}.\n"


def _passes(cost: pd.DataFrame) -> pd.Series:
    return (cost.forwards + cost.backwards).groupby(cost.method).max()


def _times(ratio: float) -> str:
    return f"{ratio:.{2 if ratio < 2 else 1 if ratio < 20 else 0}f}"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _table(rows: list[list[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(["\n" + head, f"|{'---|' * len(rows[0])}", *body]) + "\n"
