"""The parts of docs/results.md that hold numbers, each made from tables of ``results/reference``.

`readme.renew` writes them there.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import pandas as pd
import torch

from ptame_lib.datasets.cutouts import scene_classes
from ptame_lib.explainers.names import AUXILIARY_CAM, CHANNEL_MEAN, EXPLAINER, SWAPPED
from ptame_lib.methods.base import BESIDE, CONTROLS, EDGES, GAUSSIAN, TRUTH
from ptame_lib.metrics.specificity import specificity
from ptame_lib.texts import in_markdown

from . import answers, tables
from .answers import listed
from .verdicts import BETTER, WORSE

[MASKS] = EXPLAINER  # the method of which there is one mask per class
COLUMNS = list(tables.CORE)  # of the main table
RIVALS = (  # P-TAME's, of which the metrics are named
    *("P-TAME+5", "Swap-TAME", "iGOS++", "RISE", "RISE 4000", "extremal perturbations", "T-TAME", "FastSHAP"),
    *("L-CAM-Img", "Grad-CAM", *BESIDE),
)

PHOTOGRAPHED = ("pointing", "AP", "precision@truth", "contour", "AD@25", "AD@10")  # shown of photographs, and of RISE
OF_PAIRS = ("own share", "own first")  # shown of those with two objects, by `evaluation.own_shares`
SEGMENTED = ("mean IoU", "mean F1", "boundary F", "object coverage", "background coverage")  # shown of masks

PREDICTED = "predicted rows"
UNSEEN = {  # rows of the tables of unseen classes, by classifier: methods, and what is said of them
    "embedded/vgg": {
        PREDICTED: "",
        "mean of the seen rows": " (control)",
        CHANNEL_MEAN: "",
        "head start, untrained": ": the auxiliary's CAM",
        "head start, mapped rows": ": trained on the other digits",
        "own rows": ": trained on all digits",
    },
    "lite/2": {
        "own rows": "",
        PREDICTED: "",
        "mean of the seen rows": " (control)",
        CHANNEL_MEAN: "",
        "head start, untrained": ": the auxiliary's CAM",
    },
}
AUXILIARIES = {"embedded/vgg": "embedded/auxiliary", "lite/2": "lite/0"}  # of these classifiers
UNSEEN_METRICS = ("AD@25", "deletion", "precision@truth", "pointing", "AP")
SHIPPED = {  # rows of the shipped explainer's table
    "Swap-TAME": ", shipped",
    AUXILIARY_CAM: ": its start, untrained",
    **dict.fromkeys(("Grad-CAM", "Grad-CAM++", "LayerCAM", CHANNEL_MEAN, "LRP", EDGES, GAUSSIAN), ""),
}
JUDGED = ("Swap-TAME+5 averaged", "P-TAME+5 averaged")  # of those that ask a few questions
SHIPPED_METRICS = ("AD@50", "IC@50", "AD@25", "IC@25", "AD@10", "IC@10")

# names of rows in bench.csv
EXPLAIN = "explain one class, ResNet-18 at 224, batch 8"
TRAIN = "explainer's share of a training step, batch 32"
PLAIN = "straightforward"
NETWORKS = {"ResNet-50": "resnet50", "ViT-B-16": "vit_b_16"}
COSTS = ("P-TAME", "Grad-CAM", "integrated gradients, 50 steps", "Ablation-CAM", "Score-CAM", "RISE, 4000 masks")


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
    milliseconds, passes = cost.groupby("method")["ms_per_image"].mean(), passes_of(cost)

    # the rows
    unranked = [name for name in compare.method.unique() if name not in ranks and name != TRUTH]
    rows = [["method", "mean rank", *map(tables.arrowed, COLUMNS), "passes", "ms"]]
    for name in [*ranks.index, *unranked, *([TRUTH] if TRUTH in wide.index else [])]:
        values = [tables.UNKNOWN if pd.isna(wide[m][name]) else f"{wide[m][name]:.1f}" for m in COLUMNS]
        if name in ranks:
            values = [f"**{v}**" if wide[m][name] == best[m] else v for m, v in zip(COLUMNS, values, strict=True)]
        rank = f"{ranks[name]:.1f}" if name in ranks else "–"
        spent = f"{milliseconds[name]:.1f}" if milliseconds[name] >= 0.05 else "0"
        rows.append([row_name(name, images), rank, *values, str(passes[name]), spent])

    # the sentences below
    few = sorted({int(n) for n in images if n < images.max()})
    stars = f"; methods with a star explain {few[0]} of them and are not ranked with the others" if few else ""
    below = "".join(f"{in_markdown(sentence)}\n" for sentence in told)
    return markdown_table(rows) + f"\n{images.max()} held-out images{stars}.\n{below}"


def place(compare: pd.DataFrame, leaders: pd.DataFrame, cost: pd.DataFrame) -> str:
    """P-TAME's place by mean rank, and the methods ahead with their cost."""
    order, passes = list(tables.ranks(compare, leaders).index), passes_of(cost)
    asked = {name: f"{_in_words(passes[name])} per image" for name in order}
    ahead = [f"{in_markdown(name)} ({asked[name]})" for name in order[: order.index("P-TAME")]]
    behind = f", behind {listed(ahead)}" if ahead else ""
    told = "By mean rank over families of metrics (a summary, not a test), P-TAME is number"
    return f"\n{told} {len(ahead) + 1} of {len(order)}{behind}.\n"


def _in_words(passes: int) -> str:
    return f"{passes} {'pass' if passes == 1 else 'passes'}"


def questions(compare: pd.DataFrame, leaders: pd.DataFrame, cost: pd.DataFrame, most: int = 12) -> str:
    """The ``most`` first methods by mean rank, with that in each family of metrics and their passes.

    Below stand the best one, and the places of the two that docs/protocol.md says are judged.
    """
    ranks, passes = tables.ranks(compare, leaders), passes_of(cost)
    order, families = list(ranks.index), list(dict.fromkeys(map(tables.family, tables.wanted(None))))
    rows = [["method", "mean rank", *families, "passes"]]
    for name, row in ranks.head(most).iterrows():
        rows.append([in_markdown(name), *(f"{row[key]:.1f}" for key in ("mean rank", *families)), str(passes[name])])
    others = [name for name in JUDGED if name != order[0]]
    places = [f"{name} is number {order.index(name) + 1} with {_in_words(passes[name])}" for name in others]
    best = f"{in_markdown(order[0])}, with {_in_words(passes[order[0]])}"
    first = f"The best mean rank of {len(order)} methods has {best}"
    return markdown_table(rows) + f"\n{wrapped(f'{first}; {listed(places)} (a summary, not a test).')}\n"


def over_seeds(seeds: pd.DataFrame) -> str:
    """The trained methods: means over training seeds and classifiers, and the spread of such a mean."""
    shown = seeds[seeds.metric.isin(COLUMNS)]
    metrics = list(dict.fromkeys(shown["metric"]))
    rows = [["mean ± standard deviation", "seeds", *metrics]]
    for method, part in shown.groupby("method", sort=False):
        cells = part.groupby("metric")
        means = cells["value"].mean()
        deviations = cells["sd"].apply(lambda sd: (sd**2).sum() ** 0.5 / len(sd))  # of a mean over the classifiers
        spread = [f"{means[m]:.1f} ± {deviations[m]:.1f}" for m in metrics]
        rows.append([in_markdown(method), str(int(part["seeds"].min())), *spread])
    return markdown_table(rows)


def pairs(paired: pd.DataFrame, subject: str = "P-TAME") -> str:
    """In how many cells (classifier, metric) the subject is better or worse than each method, by docs/protocol.md.

    The methods that it loses to most come first.
    """
    lost = (paired["verdict"] == WORSE).groupby(paired["method"]).sum().sort_values(ascending=False, kind="stable")
    truth = paired[[tables.family(metric) == "truth" for metric in paired["metric"]]]
    rows, groups = [[f"{subject} against"]], {"all metrics": paired, "truth alone": truth}
    for name, part in groups.items():
        cells = len(part.drop_duplicates(["classifier", "metric"]))
        rows[0] += [f"{name} ({cells} cells): better", "worse", "not shown"]
    for rival in lost.index:
        row = [in_markdown(rival)]
        for part in groups.values():
            verdict = part[part["method"] == rival]["verdict"]
            shown = [(verdict == each).sum() for each in (BETTER, WORSE)]
            row += [str(count) for count in (*shown, len(verdict) - sum(shown))]
        rows.append(row)
    return markdown_table(rows)


def in_cells(paired: pd.DataFrame, rival: str) -> str:
    """In which cells, and by how many points at most, a rival is better and worse than P-TAME; P-TAME's losses first.

    ``paired``: with the gain of P-TAME, in points.
    """
    of, told = paired[paired["method"] == rival], []
    truth, every = of["metric"].map(tables.family) == "truth", of["classifier"].nunique()
    for verdict, start in {WORSE: f"{rival} is better than P-TAME", BETTER: "It is worse"}.items():
        shown, alike = of[of["verdict"] == verdict], {}  # metrics by the classifiers for which they differ
        for metric, part in shown.groupby("metric", sort=False):
            alike.setdefault(tuple(part["classifier"].str.rpartition("/")[2]), []).append(metric)
        where = [
            f"{listed(metrics)} ({f'all {every}' if len(classifiers) == every else listed(classifiers)})"
            for classifiers, metrics in sorted(alike.items(), key=lambda each: -len(each[0]))
        ]
        which = f", by at most {shown['gain'].abs().max():.1f} points: {'; '.join(where)}" if where else ""
        told.append(f"{start} in {len(shown)} of {len(of)} cells{which}.")
    better, worse = (int((of["verdict"][truth] == verdict).sum()) for verdict in (WORSE, BETTER))
    told.append(f"Of the {truth.sum()} cells of the truth alone, it is better in {better} and worse in {worse}.")
    return f"\n{wrapped(' '.join(told))}\n"


def more_masks(shared: pd.DataFrame, cost: pd.DataFrame) -> str:
    """What RISE's means over the classifiers are with more masks, on images that both explain; no test was made."""
    of = shared[shared["method"].isin(("RISE", "RISE 4000"))]
    means, passes = of.groupby(["metric", "method"])["value"].mean(), passes_of(cost)
    moved = [f"{m} from {means[m, 'RISE']:.1f} to {means[m, 'RISE 4000']:.1f}" for m in PHOTOGRAPHED]
    dear = passes["RISE 4000"] / passes["RISE"]
    told = (
        f"On the {of['n'].max()} images that both explain, {passes['RISE 4000']} masks instead of {passes['RISE']} "
        f"move {listed(moved)}; that is {dear:.0f} times as dear. No test was made of this pair."
    )
    return f"\n{wrapped(told)}\n"


def on_cutouts(
    compare: pd.DataFrame,
    seeds: pd.DataFrame,
    own_share: pd.DataFrame,
    paired: pd.DataFrame,
    paired_swaptame: pd.DataFrame,
    paired_fastshap: pd.DataFrame,
) -> str:
    """The comparison on photographs cut out: three answers, a table by images with one object and with two, and tests.

    Trained methods: means over their seeds. Methods that explain only one of the classifiers, or fewer images, have a
    star. ``paired`` is about P-TAME, ``paired_swaptame`` about Swap-TAME, ``paired_fastshap`` about FastSHAP.
    """
    told = answers.of_comparison(paired_swaptame, "Swap-TAME")
    for name, of in {"P-TAME": paired, "FastSHAP": paired_fastshap}.items():
        told += " " + answers.of_comparison(of, name).partition(". ")[2]  # only once what a comparison is
    keys = ["classifier", "method", "metric"]
    values = compare.set_index(keys)["value"]
    values.update(seeds.set_index(keys)["value"])
    kind_of = {name: name.partition(", ")[2] for name in set(compare["classifier"])}  # of "lite/2, singles"
    counts = compare.groupby("method")["n"].min()
    networks = compare.groupby("method")["classifier"].nunique()

    # a row for each method, those with the largest average precision first
    means = values.groupby([values.index.get_level_values("classifier").map(kind_of), "method", "metric"]).mean()
    apart = own_share.groupby(["metric", "method"])["value"].mean()
    order = means.xs("AP", level="metric").groupby("method").mean().sort_values(ascending=False).index
    rows = [["method", *map(tables.arrowed, PHOTOGRAPHED), *(f"{name} ↑" for name in OF_PAIRS)]]
    for name in order:
        starred = name in networks and (networks[name] < networks.max() or counts[name] < counts["P-TAME"])
        cells = [" / ".join(f"{means[kind, name, m]:.1f}" for kind in ("singles", "pairs")) for m in PHOTOGRAPHED]
        shares = [f"{apart[of, name]:.1f}" if (of, name) in apart else tables.UNKNOWN for of in OF_PAIRS]
        rows.append([in_markdown(name) + ("*" if starred else ""), *cells, *shares])
    below = f"Trained methods: means over {seeds['seeds'].min()} trainings. {first_training(compare, PHOTOGRAPHED)}"
    tested = pairs(paired_swaptame, "Swap-TAME")
    return f"\n{wrapped(in_markdown(told))}\n{markdown_table(rows)}\n{wrapped(in_markdown(below))}\n{tested}\n"


def first_training(compare: pd.DataFrame, metrics: Sequence[str]) -> str:
    """The control that was trained once beside the P-TAMEs of one training, by means over all images: like for like.

    ``compare``: of training seed 0; empty without the control.
    """
    wide = compare[compare.metric.isin(metrics)].groupby(["method", "metric"])["value"].mean().unstack()
    if not {"P-TAME", SWAPPED} <= set(wide.index):
        return ""
    own, other = (wide.loc[name] for name in ("P-TAME", SWAPPED))
    values = [f"{metric.replace(' confidence', '')} {own[metric]:.1f} ({other[metric]:.1f})" for metric in metrics]
    alone = f"P-TAME's first training alone has (in brackets, that control) {listed(values)}"
    return f"{SWAPPED} was trained once, and the tests compare it with all trainings. {alone}."


def masks_on_cutouts(
    segmentation: pd.DataFrame, segmentation_paired: pd.DataFrame, class_confusion: pd.DataFrame
) -> str:
    """One mask per class on photographs: the answer, and a table of the objects' pixels and of the class-specific test.

    Baselines are left out; the best mean IoU comes first.
    """
    means, classes = specific(class_confusion), len(scene_classes())
    told = answers.of_masks(segmentation_paired, means, classes, MASKS)
    wide = segmentation.pivot(index="method", columns="metric", values="value").sort_values("mean IoU", ascending=False)
    rows = [["method", *map(tables.arrowed, SEGMENTED), "own mask's share of the whole ↑", "other classes' masks"]]
    for name in [name for name in wide.index if not name.startswith("all ")]:
        of = means.get(name)
        tested = [f"{of['kept']:.0f}", f"{of['others']:.1f}"] if of else [tables.UNKNOWN] * 2
        rows.append([in_markdown(name), *(f"{wide[m][name]:.1f}" for m in SEGMENTED), *tested])
    return f"\n{wrapped(in_markdown(told))}\n{markdown_table(rows)}\n"


def sanity_on_cutouts(sanity: pd.DataFrame, sanity_known: pd.DataFrame) -> str:
    """Notebook 06 on photographs: the answer, and whether P-TAME's maps follow a permuted head."""
    of = sanity[(sanity["method"] == "P-TAME") & (sanity["metric"] == "Spearman")].groupby("check")["value"].mean()
    told = (
        f"{answers.of_sanity(sanity, sanity_known)} With a permuted head, the maps of P-TAME trained again correlate "
        f"by {of[answers.HEAD]:.0f} % with the old ones of the class whose logit a class has now, and by "
        f"{of[answers.STAYS]:.0f} % with those of the class of the same number."
    )
    return f"\n{wrapped(in_markdown(told))}\n"


def rankings(paired: pd.DataFrame) -> str:
    """A sentence for each rival: in which metrics P-TAME is worse or better for every classifier; losses first."""
    lines = []
    for rival in [name for name in RIVALS if name in set(paired["method"])]:
        part = paired[paired["method"] == rival]
        verdicts = part.groupby("metric", sort=False)["verdict"].agg(set)
        told = []
        for verdict in (WORSE, BETTER):
            if named := [metric for metric, found in verdicts.items() if found == {verdict}]:
                told.append(f"{verdict} for every classifier in {listed(named)}")
        mixed = part[~part["metric"].isin([m for m, found in verdicts.items() if found in ({WORSE}, {BETTER})])]
        if len(mixed):
            counts = [f"{verdict} {count}" for verdict, count in mixed["verdict"].value_counts().items()]
            told.append(f"in {'the other ' if told else 'all '}{len(mixed)} cells: {', '.join(counts)}")
        lines.append(f"- Against {rival}: {'; '.join(told)}.")
    return "\n" + "\n".join(wrapped(line, "  ") for line in lines) + "\n"


def masks(confusion: pd.DataFrame) -> str:
    """Whether masks are about their own class."""
    classes, means = confusion.image_class.nunique(), specific(confusion)
    ours, theirs = means[MASKS], means["P-TAME"]
    return (
        f"\nA class in the image keeps a probability of {ours['own']:.0f} % under the mask of {MASKS} for it"
        f" (whole image: {ours['whole']:.0f} %), and {ours['others']:.1f} %\nunder its masks for other classes"
        f" (chance is {100 / classes:.0f} %). P-TAME's maps for other classes, trained for decisions,"
        f" leave {theirs['others']:.0f} %.\n"
    )


def black_box(gaps: pd.DataFrame, queries: pd.DataFrame) -> str:
    """What training on answers alone loses against training on gradients: points, on the worst classifier for each."""
    worst = gaps.groupby(["method", "metric"])["gain"].max().unstack()
    asked = queries.groupby("method")["queries_per_image"].max()
    metrics = [metric for metric in COLUMNS if metric in worst]
    rows = [["points lost on the worst classifier", "answers per training image", *metrics]]
    for way in worst.index:
        lost = [f"{worst[metric][way].round(1) + 0:.1f}" for metric in metrics]  # no -0.0
        rows.append([in_markdown(way), f"{asked[way]:.0f}", *lost])
    return markdown_table(rows)


def photographs(paired: pd.DataFrame) -> str:
    """On real photographs, P-TAME against Grad-CAM and against Grad-CAM's maps made wider; no lead first."""
    of = paired[paired["classifier"] == "1000 classes"].set_index("metric")
    plain, wider = (of[of["method"] == name] for name in ("Grad-CAM", "Grad-CAM, square root"))
    shown = plain["holm"] < tables.LEVEL
    level = f"Against Grad-CAM, no difference is shown in {listed(list(plain.index[~shown]))}."
    signs = {WORSE: plain["gain"] < 0, BETTER: plain["gain"] > 0}
    leads = {word: plain["gain"][shown & sign].abs().items() for word, sign in signs.items()}
    named = {word: [f"{metric} (by {gain:.1f} points)" for metric, gain in lead] for word, lead in leads.items()}
    told = [f"P-TAME is {word} in {listed(of_word)}." for word, of_word in named.items() if of_word]
    alike = [metric for metric in plain.index[shown] if metric in wider.index and wider["p"][metric] >= tables.LEVEL]
    if alike:
        root = "Against the square root of Grad-CAM's maps, which only makes them wider"
        told.append(f"{root}, no difference is shown in {listed(alike)}.")
    return "\n" + wrapped(" ".join([level, *told])) + "\n"


def unseen(table: pd.DataFrame, classifier: str) -> str:
    """Explanations of classes without a training image: a table, and what predicted rows lose and win.

    ``table``: `tables.tidy`, with gain and p of the predicted rows against each method.
    """
    of = table[table["classifier"] == classifier]
    against = of[of["method"] != PREDICTED]
    shown = against["p"] < tables.LEVEL
    verdict = against["gain"].gt(0).map({True: BETTER, False: WORSE}).where(shown, "")
    told = compared(against.assign(verdict=verdict), "The explainer with predicted rows")
    return f"{_means(of, UNSEEN[classifier], UNSEEN_METRICS)}\n{wrapped(told)}\n"


def heads(table: pd.DataFrame) -> str:
    """How well a linear map takes each classifier's head to its auxiliary's, for classes left out."""
    rows = [["classifier, auxiliary", "classes", "deviation from the mean row that is explained"]]
    rows[0] += ["own row is the nearest", "chance"]
    for row in table.itertuples():
        shares = (f"{share:.1f}".removesuffix(".0") + " %" for share in (row.explained, row.nearest, row.chance))
        rows.append([f"{row.classifier}, {AUXILIARIES[row.classifier]}", str(row.classes), *shares])
    return markdown_table(rows)


def shipped(compare: pd.DataFrame, paired: pd.DataFrame) -> str:
    """The shipped explainer on photographs as they are: a table, and what it loses and wins."""
    told = f"{compared(paired, 'Swap-TAME')} The tests of the {len(paired)} comparisons are one family."
    return f"{_means(compare, SHIPPED, SHIPPED_METRICS)}\n{wrapped(told)}\n"


def _means(table: pd.DataFrame, named: dict[str, str], metrics: tuple[str, ...]) -> str:
    """A row for each method that is named, with what is said of it, and a column for each metric."""
    wide = table.pivot(index="method", columns="metric", values="value")
    rows = [["method", *map(tables.arrowed, metrics)]]
    for name, said in named.items():
        control = " (control)" if name in CONTROLS else ""
        rows.append([in_markdown(name) + said + control, *(f"{wide[metric][name]:.1f}" for metric in metrics)])
    return markdown_table(rows)


def compared(paired: pd.DataFrame, subject: str) -> str:
    """Than which methods the subject is worse and better, and in which metrics; losses first, with their largest p.

    ``paired``: columns method, metric, p and verdict.
    """
    every, told = paired["metric"].nunique(), []
    for word in (WORSE, BETTER):
        shown, alike = paired[paired["verdict"] == word], {}  # methods by the metrics in which they differ
        named = shown.groupby("method", sort=False)["metric"].agg(list)
        for method, metrics in sorted(named.items(), key=lambda each: -len(each[1])):
            where = f"all {every} metrics" if len(metrics) == every else listed(metrics)
            alike.setdefault(where, []).append(f"*{in_markdown(method)}*")
        if alike:
            than = "; ".join(f"than {listed(methods)} in {where}" for where, methods in alike.items())
            most = shown["p"].max()
            p = f"p = {most:.3f}" if len(shown) == 1 else f"p at most {math.ceil(1000 * most) / 1000:.3f}"
            told.append(f"{'It' if told else subject} is {word} {than}{f' ({p})' * (word == WORSE)}.")
    differ = set(paired["method"][paired["verdict"].isin((WORSE, BETTER))])
    none = [f"*{in_markdown(name)}*" for name in dict.fromkeys(paired["method"]) if name not in differ]
    told.append(f"No other difference is shown{f', and none at all against {listed(none)}' if none else ''}.")
    return " ".join(told)


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
    return markdown_table(rows) + markdown_table(passes)


def pays(bench: pd.DataFrame) -> str:
    """After how many explanations training for one epoch of ImageNet has paid for itself."""
    row = "break-even, {}: training on 1281167 images, in explanations by {}: images / training images"
    told = []
    for shown, name in NETWORKS.items():
        rise, score = (round(bench["value"][row.format(name, method)], -1) for method in ("RISE", "Score-CAM"))
        told.append(f"{rise:.0f} explanations by RISE or {score:.0f} by Score-CAM for {shown}")
    start = "On this machine, training P-TAME for one epoch of ImageNet pays for itself after about"
    return f"\n{start}\n{' and '.join(told)}.\n"


def row_name(name: str, images: pd.Series) -> str:
    """A method in a table: controls are called so, those measured on fewer ``images`` than others have a star."""
    control = " (control)" if name in (*CONTROLS, TRUTH) else ""
    return in_markdown(name) + control + "*" * int(images[name] < images.max())


def specific(confusion: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What masks of the own and of other classes leave, by method."""
    classes = confusion.image_class.nunique()
    values = {name: part.probability.to_numpy(copy=True) for name, part in confusion.groupby("method", sort=False)}
    return {name: specificity(torch.from_numpy(part).view(-1, 1 + classes)) for name, part in values.items()}


def passes_of(cost: pd.DataFrame) -> pd.Series:
    """Passes through the classifier per image, by method."""
    return (cost.forwards + cost.backwards).groupby(cost.method).max()


def _times(ratio: float) -> str:
    return f"{ratio:.{2 if ratio < 2 else 1 if ratio < 20 else 0}f}"


def markdown_table(rows: list[list[str]]) -> str:
    """A Markdown table of rows of cells, the head first."""
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(["\n" + head, f"|{'---|' * len(rows[0])}", *body]) + "\n"


def wrapped(text: str, indent: str = "") -> str:
    """Text in lines of at most 120, later ones with an ``indent``; a name with a hyphen stays whole."""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_on_hyphens=False)
