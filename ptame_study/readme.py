"""The parts of README.md and of pages in docs/ that hold numbers, made from the tables in ``results/reference``.

The pages have them between comments, ``<!-- main table -->`` and ``<!-- end of main table -->``; `parts` makes them and
`fill` writes them there. ``python -m ptame_study readme --profile P`` first takes the tables of a finished profile.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd

from ptame_lib import files
from ptame_lib.explainers.names import CHANNEL_MEAN, SWAPPED
from ptame_lib.files import make_folder
from ptame_lib.methods import AS_PUBLISHED
from ptame_lib.methods.base import ASKING, BESIDE, CONTROLS, TRUTH
from ptame_lib.texts import in_markdown

from . import answers, evidence_page, paths, results_page, tables
from .profiles import FULL
from .verdicts import BETTER, WORSE

REFERENCE = "reference"
SEEDS = "seeds.csv"
APART = {  # profiles whose tables are kept in folders of their own: the parts of a page made of them, and which tables
    "real-full": {
        "real": ["compare", "seeds", "own_share", "paired", "paired_swaptame", "paired_fastshap"],
        "real masks": ["segmentation", "segmentation_paired", "class_confusion"],
        "real sanity": ["sanity", "sanity_known"],
        "sticker": ["sticker", "sticker_swap"],
    },
    "questions": {"questions": ["compare", "leaders", "cost"], "areas": ["whose_evidence"]},
    "realdata-lite": {"shipped": ["compare", "paired"]},
}
SHIPS = (FULL, "real-full")  # profiles whose explainers come with this package
EVIDENCE = ["right evidence", "areas", "sticker"]
RESULTS = ["main table", "place", "seeds", "paired", "rankings"]
RESULTS += [part for parts in APART.values() for part in parts if part not in EVIDENCE]
RESULTS += ["its loss", "its classifier", "its questions", "more masks"]
RESULTS += ["masks", "black box", "unseen digits", "heads", "unseen photographs", "photographs"]
RESULTS += ["cost", "pays", "imputation"]
PAGES = {  # the generated parts of each page
    "README.md": ["scope", "answers", "results"],
    "docs/results.md": RESULTS,
    "docs/whose_evidence.md": EVIDENCE,
}
FIGURES = {  # of a profile: its name here
    "methods-embedded-resnet": "methods",
    "methods-embedded-resnet-2": "methods-2",
    "whose-evidence": "whose-evidence",
}
SHOWN = (  # in the README's table
    *("P-TAME+5", "Swap-TAME", "iGOS++", "RISE", "T-TAME", "FastSHAP", "L-CAM-Img", "Grad-CAM"),
    *(CHANNEL_MEAN, SWAPPED),
)
SUMMARY = ("AD@25", "IC@25", "MoRF confidence", "precision@truth")  # metrics of the README's table


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
    """Copy a finished profile's tables, `FIGURES` and explainers into the repository; returns the written files.

    Explainers are taken from profiles that train as the full study does, in place of those that are shipped already.
    Raises ValueError if the profile has none of all these.
    """
    own, kept = paths.results(profile), paths.results(REFERENCE)
    if profile in APART:
        apart = make_folder(kept / profile)
        pairs = [(own / f"{name}.csv", apart / f"{name}.csv") for names in APART[profile].values() for name in names]
    else:
        pairs = [(own / old.name, old) for old in sorted({*kept.glob("*.csv"), kept / SEEDS})]
        for shown, name in FIGURES.items():
            pairs.append((paths.figures(profile) / f"{shown}.png", paths.figures(REFERENCE) / f"{name}.png"))
    if profile in SHIPS:
        pairs += [(own / old.name, old) for old in sorted(paths.shipped_explainers().glob("*.safetensors"))]
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
    names = ("compare", "compare_shared", "leaders", "paired", "cost", "black_box_gaps", "black_box_queries")
    compare, shared, leaders, paired, cost, gaps, queries = (pd.read_csv(folder / f"{name}.csv") for name in names)
    cascade, known, segmented = (
        pd.read_csv(folder / f"{n}.csv") for n in ("sanity", "sanity_known", "segmentation_paired")
    )
    confusion = pd.read_csv(folder / "class_confusion.csv", dtype={"image_class": str, "mask_class": str})
    evidence = pd.read_csv(folder / "whose_evidence.csv"), pd.read_csv(folder / "whose_swap.csv")
    bench = pd.read_csv(folder / "bench.csv").set_index("name")
    apart = {
        part: {name: pd.read_csv(folder / profile / f"{name}.csv") for name in names}
        for profile, parts in APART.items()
        for part, names in parts.items()
    }
    seeds, unseen, heads = (pd.read_csv(folder / name) for name in (SEEDS, "unseen.csv", "unseen_heads.csv"))
    return {
        "scope": scope(compare),
        "answers": answered(paired, (cascade, known), (segmented, confusion), gaps, evidence),
        "results": summary(compare, paired, cost, seeds),
        "main table": results_page.comparison_section(compare, leaders, cost),
        "place": results_page.place(compare, leaders, cost),
        "seeds": results_page.over_seeds(seeds),
        "paired": results_page.pairs(paired),
        "rankings": results_page.rankings(paired),
        "its loss": results_page.in_cells(paired, "FastSHAP"),
        "its classifier": results_page.in_cells(paired, "Swap-TAME"),
        "its questions": results_page.in_cells(paired, "P-TAME+5"),
        "questions": results_page.questions(**apart["questions"]),
        "more masks": results_page.more_masks(shared, cost),
        "real": results_page.on_cutouts(**apart["real"]),
        "real masks": results_page.masks_on_cutouts(**apart["real masks"]),
        "real sanity": results_page.sanity_on_cutouts(**apart["real sanity"]),
        "masks": results_page.masks(confusion),
        "black box": results_page.black_box(gaps, queries),
        "photographs": results_page.photographs(pd.read_csv(folder / "realdata_paired.csv")),
        "unseen digits": results_page.unseen(unseen, "embedded/vgg"),
        "unseen photographs": results_page.unseen(unseen, "lite/2"),
        "heads": results_page.heads(heads),
        "shipped": results_page.shipped(**apart["shipped"]),
        "right evidence": evidence_page.evidence(*evidence),
        "areas": evidence_page.with_questions(**apart["areas"]),
        "sticker": evidence_page.sticker_network(**apart["sticker"]),
        "imputation": results_page.imputation(bench),
        "cost": results_page.costs(bench),
        "pays": results_page.pays(bench),
    }


def scope(compare: pd.DataFrame) -> str:
    """Numbers of methods, controls and metrics."""
    methods = set(compare["method"]) - {*ASKING, *AS_PUBLISHED}  # which are counted once
    controls = methods & {*CONTROLS, TRUTH}
    some = len(methods.difference(tables.everywhere(compare)))
    rare = f" ({some} of them for some classifiers only)" if some else ""
    metrics = set(tables.MAIN) & set(compare.metric)
    return f"{len(methods - controls) - 1} other methods{rare} and {len(controls)} controls by {len(metrics)} metrics"


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
            segmented, results_page.specific(confusion), confusion.image_class.nunique(), results_page.MASKS
        ),
        "Without gradients? 11_black_box": answers.of_black_box(gaps),
    }
    lines = []
    for asked, text in told.items():
        question, notebook = asked.rsplit(" ", 1)
        lines.append(f"- **{question}** {in_markdown(text)} ([notebook {notebook[:2]}](notebooks/{notebook}.ipynb))")
    return "\n" + "\n".join(results_page.wrapped(line, "  ") for line in lines) + "\n"


def summary(compare: pd.DataFrame, paired: pd.DataFrame, cost: pd.DataFrame, seeds: pd.DataFrame) -> str:
    """P-TAME and those `SHOWN`: means over the classifiers, and in how many cells P-TAME wins; most losses first.

    Values of trained methods are means over the ``seeds`` of their training; the control that was trained once is also
    told beside the first training (`results_page.first_training`).
    """
    first = results_page.first_training(compare, SUMMARY)
    compare = compare.merge(seeds, on=["classifier", "method", "metric"], how="left", suffixes=("", "_seeds"))
    compare["value"] = compare["value_seeds"].fillna(compare["value"])
    wide = compare[compare.metric.isin(SUMMARY)].groupby(["method", "metric"])["value"].mean().unstack().round(1)
    images = compare[compare.metric == SUMMARY[0]].groupby("method")["n"].min()
    milliseconds, passes = cost.groupby("method")["ms_per_image"].mean(), results_page.passes_of(cost)
    counts = {name: part["verdict"].value_counts() for name, part in paired.groupby("method")}

    def lead(name: str) -> int:
        return counts[name].get(BETTER, 0) - counts[name].get(WORSE, 0)

    rivals = [name for name in SHOWN if name in counts and name in wide.index]
    rivals.sort(key=lambda name: (name in BESIDE, lead(name)))
    arrows = [tables.arrowed(metric).replace(" confidence", "") for metric in SUMMARY]
    rows = [["method", "passes", "ms", *arrows, "P-TAME loses", "wins", "neither"]]
    for name in ["P-TAME", *rivals]:
        values = [f"{wide[metric][name]:.1f}" for metric in SUMMARY]
        found = [counts[name].get(word, 0) for word in (WORSE, BETTER)] if name in counts else []
        cells = [str(n) for n in (*found, counts[name].sum() - sum(found))] if name in counts else ["–"] * 3
        spent = f"{milliseconds[name]:.1f}" if milliseconds[name] >= 0.05 else "0"
        rows.append([results_page.row_name(name, images), str(passes[name]), spent, *values, *cells])
    few = sorted({int(images[name]) for name in rivals if images[name] < images.max()})
    stars = f"; methods with a star explain {few[0]} of them, so their values compare with no others" if few else ""
    below = [
        f"{images.max()} held-out images{stars}.",
        "Passes (runs of a network, forwards or backwards) and milliseconds are per image.",
    ]
    below += ["Trained methods: means over five training seeds.", *([first] if SWAPPED in rivals else [])]
    return results_page.markdown_table(rows) + "\n" + " ".join(below) + "\n"
