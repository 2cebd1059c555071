"""The numbers of README.md and of pages in docs/ are those of the committed tables."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from refusals import HOSTILE

import ptame_lib
from ptame_lib.explainers.names import SWAPPED
from ptame_lib.texts import in_markdown
from ptame_study import answers, evidence_page, paths, readme, results_page
from ptame_study.__main__ import main
from ptame_study.tables import UNKNOWN, leaders, tidy, wins

ROOT = Path(ptame_lib.__file__).parent.parent
FOLDER = ROOT / "results" / "reference"
PLACE = "By mean rank over families of metrics (a summary, not a test), P-TAME is number"


@pytest.fixture(scope="module")
def made():
    return readme.parts(FOLDER)


def test_a_sticker_network_has_a_row_for_each_method_with_what_decides_alone():
    rows = [
        (network, method, evidence, metric, value + 10 * (evidence == "rest"), n)
        for network, own in {"sticker network": "sticker", "untouched": "object"}.items()
        for method, value, n in (("P-TAME", 40.0, 66), ("RISE", 80.0, 10))
        for metric in ("right evidence", "AP", "precision@truth")
        for evidence in ([own] if metric == "right evidence" else [own, "rest"])
    ]
    shown = pd.DataFrame(rows, columns=["network", "method", "evidence", "metric", "value", "n"])
    gap = {"metric": ["AP"], "gap": [5.0], "p": [0.01], "agree": [True], "method": ["P-TAME"]}
    page = evidence_page.sticker_network(shown, pd.DataFrame({"network": ["untouched"], **gap}))
    assert "Where the object decides, P-TAME shows it in 40 % of the images (the best other method, RISE: 80 %)." in (
        " ".join(page.split())
    )
    lines = [line for line in page.splitlines() if line.startswith(("| P", "| R"))]
    assert lines == ["| RISE* |" + " 80.0 |" * 6, "| P-TAME |" + " 40.0 |" * 6]


def test_the_pages_are_what_the_tables_give(made):
    for page, names in readme.PAGES.items():
        text = (ROOT / page).read_text()
        own = {name: made[name] for name in names}
        assert readme.fill(text, own) == text, "run `python -m ptame_study readme --profile reference`"
        assert sorted(re.findall("<!-- end of (.*?) -->", text)) == sorted(own)
    assert sorted(name for names in readme.PAGES.values() for name in names) == sorted(made)


def test_the_readme_is_short_and_shows_a_picture_and_a_command_first(made):
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 250
    first = lines[: lines.index("## Set up and reproduce")]
    assert len(first) < 45
    assert sum(line.startswith("![") for line in lines) == sum(line.startswith("![") for line in first) == 1
    assert "ptame explain photo.jpg" in first
    assert sum(line.startswith("| ") for line in made["results"].splitlines()) == 1 + 11  # a head, eleven methods


@pytest.mark.parametrize("page", readme.PAGES)
def test_every_picture_and_file_a_page_links_to_is_there(page):
    text = (ROOT / page).read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]*)\)", text) if not link.startswith("http")]
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []
    alts = re.findall(r"!\[([^\]]*)\]\([./]*figures/reference/[\w-]+\.png\)", text)
    assert alts
    assert min(map(len, alts)) > 40


def test_the_readme_links_to_every_notebook():
    links = re.findall(r"\]\(([^)]*)\)", (ROOT / "README.md").read_text())
    notebooks = {path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks - set(links) == set()


def by_hand():
    """Two images: P-TAME loses 10 and 20 points, RISE 20 and 40, the truth nothing; P-TAME's AP is 40 and 60."""
    values = {
        "P-TAME": ([10, 20], [40, 60]),
        "RISE": ([20, 40], [10, 20]),
        "random": ([80, 90], [5, 5]),
        "ground truth": ([0, 0], [100, 100]),
    }
    frames = [
        pd.DataFrame({"classifier": "net", "method": m, "image": [0, 1], "deletion": ad, "AP": iou})
        for m, (ad, iou) in values.items()
    ]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def tables():
    images = by_hand()
    cost = pd.DataFrame(
        {"classifier": "net", "method": images.method.unique(), "forwards": [1, 500, 0, 0], "backwards": 0}
    )
    return images, tidy(images), leaders(images), cost.assign(ms_per_image=[0.4, 376.88, 0.004, 0.0])


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_in_the_readme(name, monkeypatch):
    """A method that leads, and one that explains one classifier alone: only their names differ from usual ones."""
    monkeypatch.setattr(results_page, "COLUMNS", ["deletion", "AP"])

    def told(leader, classifier, alone):
        images = by_hand().replace({"P-TAME": "RISE", "RISE": "P-TAME"}).replace({"RISE": leader})
        other = images.assign(classifier=classifier)
        images = pd.concat([images, other, other[other.method == leader].assign(method=alone)], ignore_index=True)
        cost = images[["classifier", "method"]].drop_duplicates().assign(forwards=1, backwards=0, ms_per_image=1.0)
        given = tidy(images), leaders(images), cost
        return results_page.comparison_section(*given) + results_page.place(*given)

    odd = HOSTILE[name]
    names = {"Leader": odd, "other": f"other {odd}", "Alone": f"Alone {odd}"}
    expected = told(*names)
    assert all(expected.count(part) == 1 + (part == "Leader") for part in names)
    for plain, text in names.items():
        expected = expected.replace(plain, in_markdown(text))
    assert told(*names.values()) == expected


def test_the_main_table_by_hand(tables, monkeypatch):
    _, compare, marks, cost = tables
    monkeypatch.setattr(results_page, "COLUMNS", ["deletion", "AP"])
    assert results_page.comparison_section(compare, marks, cost).strip().splitlines() == [
        "| method | mean rank | deletion ↓ | AP ↑ | passes | ms |",
        "|---|---|---|---|---|---|",
        "| P-TAME | 1.0 | **15.0** | **50.0** | 1 | 0.4 |",
        "| RISE | 2.0 | 30.0 | 15.0 | 500 | 376.9 |",
        "| random (control) | 3.0 | 85.0 | 5.0 | 0 | 0 |",
        "| ground truth (control) | – | 0.0 | 100.0 | 0 | 0 |",  # shown the answer: never the best
        "",
        "2 held-out images.",
    ]
    fewer = compare.assign(n=[1 if name == "P-TAME" else 2 for name in compare.method])
    table = results_page.comparison_section(fewer, marks, cost)
    assert "| P-TAME* | – | 15.0 | 50.0 |" in table  # not ranked, and best of nothing
    assert "| RISE | 1.0 | **30.0** | **15.0** |" in table
    assert "2 held-out images; methods with a star explain 1 of them and are not ranked with the others." in table
    assert readme.scope(compare) == "1 other methods and 2 controls by 2 metrics"


def test_a_method_of_one_classifier_has_a_sentence_and_no_row(tables, monkeypatch):
    images, _, _, cost = tables
    monkeypatch.setattr(results_page, "COLUMNS", ["deletion", "AP"])
    other = images.assign(classifier="other")
    more = pd.concat(
        [images, other, other[other.method == "RISE"].assign(method="NN-Explainer", deletion=1.0, AP=99.0)],
        ignore_index=True,
    )
    cost = pd.concat([cost, cost[cost.method == "P-TAME"].assign(method="NN-Explainer", classifier="other")])
    compare, marks = tidy(more), leaders(more)
    made = results_page.comparison_section(compare, marks, cost)
    assert "| NN-Explainer" not in made
    assert "| P-TAME | 1.0 | **15.0** | **50.0** | 1 | 0.4 |" in made  # the best of those with a row
    assert made.endswith(
        "2 held-out images.\nNN-Explainer explains other alone and is left out of means over all classifiers: "
        "there its mean rank is 1.0 of 4, P-TAME's 2.0.\n"
    )
    told = "2 other methods (1 of them for some classifiers only) and 2 controls by 2 metrics"
    assert readme.scope(compare) == told
    assert results_page.place(compare, marks, cost).strip() == f"{PLACE} 1 of 3."


def test_the_place_and_the_pairs_by_hand(tables):
    images, compare, marks, cost = tables
    assert results_page.place(compare, marks, cost).strip() == f"{PLACE} 1 of 3."
    swapped = images.assign(method=images.method.map({"P-TAME": "RISE", "RISE": "P-TAME"}).fillna(images.method))
    second = results_page.place(tidy(swapped), leaders(swapped), cost)
    assert second.strip() == f"{PLACE} 2 of 3, behind RISE (500 passes per image)."
    paired = wins(images).assign(
        verdict=["better" if m == "deletion" else "no difference shown" for m in wins(images).metric]
    )
    rows = ["| RISE | 1 | 0 | 1 | 0 | 0 | 1 |", "| random | 1 | 0 | 1 | 0 | 0 | 1 |"]
    assert results_page.pairs(paired).strip().splitlines()[2:] == rows
    paired.loc[(paired["method"] == "random") & (paired["metric"] == "deletion"), "verdict"] = "worse"
    assert results_page.pairs(paired).strip().splitlines()[2] == "| random | 0 | 1 | 1 | 0 | 0 | 1 |"


def test_places_of_methods_that_ask_by_hand(tables, monkeypatch):
    """Of P-TAME, RISE and a random map by deletion and AP, the families of what is removed and of the truth."""
    _, compare, marks, cost = tables
    monkeypatch.setattr(results_page, "JUDGED", ("RISE",))
    monkeypatch.setattr(results_page.tables, "wanted", lambda metrics: ["deletion", "AP"])
    assert results_page.questions(compare, marks, cost, most=2).strip().splitlines() == [
        "| method | mean rank | insertion, deletion | truth | passes |",
        "|---|---|---|---|---|",
        "| P-TAME | 1.0 | 1.0 | 1.0 | 1 |",
        "| RISE | 2.0 | 2.0 | 2.0 | 500 |",
        "",
        "The best mean rank of 3 methods has P-TAME, with 1 pass; RISE is number 2 with 500 passes "
        "(a summary, not a test).",
    ]


def test_the_aim_of_right_evidence_by_hand():
    rows = [("zoo/a", "S", 0, 80.0), ("zoo/a", "S", 1, 90.0), ("zoo/b", "S", 0, 100.0), ("zoo/b", "S", 1, 100.0)]
    rows += [(name, "S+8 areas", seed, value) for name, value in (("zoo/a", 95.0), ("zoo/b", 90.0)) for seed in (0, 1)]
    shown = pd.DataFrame(rows, columns=["network", "method", "seed", "value"]).assign(metric="right evidence")
    assert evidence_page.with_questions(shown).strip().splitlines() == [
        "| method | a | b | lowest |",
        "|---|---|---|---|",
        "| S | 85.0 | 100.0 | 85.0 |",
        "| S+8 areas | 95.0 | 90.0 | 90.0 |",
        "",
        "S has 90 % or more on 1 of 2 networks (below on a). S+8 areas has 90 % or more on 2 of 2 networks. "
        "Means of 2 trainings.",
    ]


def test_sentences_about_rivals_name_losses_first():
    cells = [("a", "AP", "better"), ("b", "AP", "better"), ("a", "deletion", "worse"), ("b", "deletion", "worse")]
    cells += [("a", "insertion", "better"), ("b", "insertion", "no difference shown")]
    paired = pd.DataFrame(cells, columns=["classifier", "metric", "verdict"]).assign(method="RISE")
    assert " ".join(results_page.rankings(paired).split()) == (
        "- Against RISE: worse for every classifier in deletion; better for every classifier in AP; "
        "in the other 2 cells: better 1, no difference shown 1."
    )


def test_where_a_rival_is_better_and_worse_by_hand():
    cells = [("x/a", "AP", -3.0, "worse"), ("x/b", "AP", -4.04, "worse"), ("x/a", "deletion", 1.0, "better")]
    cells += [("x/a", "insertion", 2.0, "better"), ("x/b", "deletion", 9.0, "no difference shown")]
    paired = pd.DataFrame(cells, columns=["classifier", "metric", "gain", "verdict"]).assign(method="RISE")
    other = paired.assign(method="LIME", verdict="worse")
    assert " ".join(results_page.in_cells(pd.concat([paired, other]), "RISE").split()) == (
        "RISE is better than P-TAME in 2 of 5 cells, by at most 4.0 points: AP (all 2). "
        "It is worse in 2 of 5 cells, by at most 2.0 points: deletion and insertion (a). "
        "Of the 2 cells of the truth alone, it is better in 2 and worse in 0."
    )
    not_worse = results_page.in_cells(paired[paired["verdict"] != "better"], "RISE")
    assert "It is worse in 0 of 3 cells. Of" in " ".join(not_worse.split())
    none = results_page.in_cells(paired[paired["verdict"] == "better"], "RISE")
    assert none.strip().startswith("RISE is better than P-TAME in 0 of 2 cells. It is worse in 2 of 2 cells, by")


def test_more_masks_by_hand(monkeypatch):
    monkeypatch.setattr(results_page, "PHOTOGRAPHED", ["AP"])
    rows = [("a", "RISE", 10.0), ("b", "RISE", 20.0), ("a", "RISE 4000", 30.0), ("b", "RISE 4000", 31.0)]
    shared = pd.DataFrame(rows, columns=["classifier", "method", "value"]).assign(metric="AP", n=25)
    cost = pd.DataFrame({"method": ["RISE", "RISE 4000"], "forwards": [500, 4000], "backwards": 0})
    assert " ".join(results_page.more_masks(shared, cost).split()) == (
        "On the 25 images that both explain, 4000 masks instead of 500 move AP from 15.0 to 30.5; that is 8 times as "
        "dear. No test was made of this pair."
    )


def test_the_short_table_by_hand(tables, monkeypatch):
    """RISE, which P-TAME loses to, comes before a control that does worse."""
    _, compare, _, cost = tables
    monkeypatch.setattr(readme, "SUMMARY", ["deletion", "AP"])
    monkeypatch.setattr(readme, "SHOWN", ["random", "RISE"])
    cells = [("RISE", "worse"), ("RISE", "too few images to tell"), ("random", "better"), ("random", "better")]
    paired = pd.DataFrame(cells, columns=["method", "verdict"])
    fewer = compare.assign(n=[1 if name == "random" else 2 for name in compare.method])
    [classifier] = compare.classifier.unique()
    seeds = pd.DataFrame([(classifier, "P-TAME", "AP", 52.0)], columns=["classifier", "method", "metric", "value"])
    assert readme.summary(fewer, paired, cost, seeds).strip().splitlines() == [
        "| method | passes | ms | deletion ↓ | AP ↑ | P-TAME loses | wins | neither |",
        "|---|---|---|---|---|---|---|---|",
        "| P-TAME | 1 | 0.4 | 15.0 | 52.0 | – | – | – |",
        "| RISE | 500 | 376.9 | 30.0 | 15.0 | 1 | 0 | 1 |",
        "| random (control)* | 0 | 0 | 85.0 | 5.0 | 0 | 2 | 0 |",
        "",
        "2 held-out images; methods with a star explain 1 of them, so their values compare with no others. "
        "Passes (runs of a network, forwards or backwards) and milliseconds are per image. "
        "Trained methods: means over five training seeds.",
    ]


def test_a_control_that_was_trained_once_is_told_beside_one_training():
    """Two classifiers, a and b; the means of P-TAME's first training are 4 and 70, whatever those of all are."""
    metrics = ["MoRF confidence", "AP"]
    rows = [("a", "P-TAME", 3, 60), ("b", "P-TAME", 5, 80), ("a", SWAPPED, 4, 69), ("b", SWAPPED, 5, 72)]
    wide = pd.DataFrame(rows, columns=["classifier", "method", "MoRF confidence", "AP"])
    first = wide.melt(["classifier", "method"], var_name="metric")
    assert results_page.first_training(first, metrics) == (
        f"{SWAPPED} was trained once, and the tests compare it with all trainings. "
        "P-TAME's first training alone has (in brackets, that control) MoRF 4.0 (4.5) and AP 70.0 (70.5)."
    )
    assert results_page.first_training(first[first.method == "P-TAME"], metrics) == ""


def test_the_readme_compares_this_control_like_for_like(made):
    """By the tables of training seed 0, not by the means over all of P-TAME's seeds, which stand in its row."""
    table = pd.read_csv(FOLDER / "compare.csv").query("metric == 'AD@25'")
    own, other = (table[table.method == name]["value"].mean() for name in ("P-TAME", SWAPPED))
    assert f"AD@25 {own:.1f} ({other:.1f})" in made["results"]


def test_real_photographs_by_hand():
    """AD is better by a significant 3 points, but not than the wider map; IC is not better; IoU is worse."""
    rows = [
        ("1000 classes", "AD", "Grad-CAM", 3.0, 0.01, 0.02),
        ("1000 classes", "IC", "Grad-CAM", 9.0, 0.04, 0.08),
        ("1000 classes", "IoU", "Grad-CAM", -2.0, 0.01, 0.03),
        ("1000 classes", "AD", "Grad-CAM, square root", 0.1, 0.9, None),
        ("11 groups", "AD", "Grad-CAM", -5.0, 0.01, 0.02),
    ]
    paired = pd.DataFrame(rows, columns=["classifier", "metric", "method", "gain", "p", "holm"])
    assert " ".join(results_page.photographs(paired).split()) == (
        "Against Grad-CAM, no difference is shown in IC. P-TAME is worse in IoU (by 2.0 points). P-TAME is better in "
        "AD (by 3.0 points). Against the square root of Grad-CAM's maps, which only makes them wider, no difference is "
        "shown in AD."
    )


def test_fill():
    text = "a <!-- x -->old\n1<!-- end of x --> b <!-- y --><!-- end of y --> <!-- x -->2<!-- end of x -->"
    filled = readme.fill(text, {"x": r"\1 new", "y": "\n| t |\n"})
    new = "<!-- x -->\\1 new<!-- end of x -->"
    assert filled == f"a {new} b <!-- y -->\n| t |\n<!-- end of y --> {new}"
    assert readme.fill(filled, {"x": r"\1 new", "y": "\n| t |\n"}) == filled
    with pytest.raises(ValueError, match=r"docs/results.md has no place for 'z': write <!-- z -->"):
        readme.fill(text, {"z": "3"}, "docs/results.md")


def test_several_seeds_by_hand():
    """Two classifiers with deviations 3 and 4: their mean deviates by sqrt(9 + 16) / 2."""
    rows = [
        ("a", "P-TAME", "deletion", 2, 3, 5),
        ("b", "P-TAME", "deletion", 4, 4, 5),
        ("a", "T-TAME", "deletion", 90, 9, 5),
    ]
    seeds = pd.DataFrame(rows, columns=["classifier", "method", "metric", "value", "sd", "seeds"])
    assert results_page.over_seeds(seeds).strip().splitlines() == [
        "| mean ± standard deviation | seeds | deletion |",
        "|---|---|---|",
        "| P-TAME | 5 | 3.0 ± 2.5 |",
        "| T-TAME | 5 | 90.0 ± 9.0 |",
    ]


def test_the_command_takes_a_finished_profile(study_root, capsys):
    for name in ("results/embedded", "results/reference", "workflow/profiles"):
        (study_root / name).mkdir(parents=True)
    (study_root / "workflow" / "profiles" / "embedded.yaml").touch()
    for file in FOLDER.glob("*.csv"):
        (study_root / "results" / "reference" / file.name).write_bytes(file.read_bytes())
    for name in readme.APART:
        shutil.copytree(FOLDER / name, study_root / "results" / "reference" / name)
    (study_root / "docs").mkdir()
    for page in readme.PAGES:
        (study_root / page).write_text((ROOT / page).read_text())
    assert main(["readme", "--profile", "embedded"]) == 1
    assert (
        "profile embedded has no tables in results/embedded: run `make reproduce PROFILE=embedded` first"
        in capsys.readouterr().err
    )

    cost = pd.read_csv(FOLDER / "cost.csv")
    cost.loc[cost.method == "P-TAME", "ms_per_image"] = 12345.6
    cost.to_csv(study_root / "results" / "embedded" / "cost.csv", index=False)
    seeds = "classifier,method,metric,value,sd,seeds\nnet,P-TAME,AP,50,1,5\n"  # not yet in the reference
    (study_root / "results" / "embedded" / "seeds.csv").write_text(seeds)
    assert main(["readme", "--profile", "embedded"]) == 0
    assert (study_root / "results" / "reference" / "seeds.csv").read_text() == seeds
    assert "| P-TAME | 5 | 50.0 ± 1.0 |" in (study_root / "docs" / "results.md").read_text()
    assert "| 12345.6 |" in (study_root / "docs" / "results.md").read_text()
    assert "| P-TAME | 1 | 12345.6 |" in (study_root / "README.md").read_text()
    assert "12345.6" in (study_root / "results" / "reference" / "cost.csv").read_text()
    assert "written: results/reference/cost.csv" in capsys.readouterr().out


@pytest.mark.parametrize(("profile", "taken"), [("questions", False), ("real-full", True)])
def test_explainers_that_ship_are_those_of_the_whole_studies(study_root, profile, taken):
    shipped, own = paths.shipped("embedded/vgg", "Swap-TAME"), paths.results(profile)
    for folder, content in ((shipped.parent, "as shipped"), (own, "of the profile")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / shipped.name).write_text(content)
    (own / "whose_evidence.csv").write_text("a table")
    (own / "compare.csv").write_text("a table")
    readme.take(profile)
    assert (paths.results("reference") / profile / "compare.csv").read_text() == "a table"
    assert shipped.read_text() == ("of the profile" if taken else "as shipped")


def test_photographs_have_both_numbers_the_seeds_means_and_stars():
    classifiers = [f"lite/{n}, {kind}" for n in (2, 1) for kind in ("singles", "pairs")]
    value = {"P-TAME": 50.0, "Swap-TAME": 60.0, "RISE": 70.0, "LIME": 80.0}
    rows = [
        (c, m, metric, value[m] + 2 * c.endswith("pairs"), 20 if m == "RISE" else 80)
        for c in classifiers
        for m in value
        for metric in results_page.PHOTOGRAPHED
        if m != "LIME" or c.startswith("lite/2")
    ]
    compare = pd.DataFrame(rows, columns=["classifier", "method", "metric", "value", "n"])
    seeds = compare[compare.method == "Swap-TAME"].assign(value=lambda table: table.value + 5, seeds=5)
    own = pd.DataFrame({"method": "P-TAME", "metric": ["own share", "own first"] * 2, "value": [80.0, 98, 90, 99]})
    verdicts = {"classifier": classifiers[:1], "metric": ["AP"], "verdict": ["better"]}
    paired, other = (pd.DataFrame({"method": [m], **verdicts}) for m in ("RISE", "Grad-CAM"))
    text = results_page.on_cutouts(compare, seeds, own, paired, other, other)
    shown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert [(row[0], row[1], row[-1]) for row in shown] == [
        ("method", "pointing ↑", "own first ↑"),
        ("LIME*", "80.0 / 82.0", UNKNOWN),
        ("RISE*", "70.0 / 72.0", UNKNOWN),
        ("Swap-TAME", "65.0 / 67.0", UNKNOWN),
        ("P-TAME", "50.0 / 52.0", "98.5"),
        ("Swap-TAME against", "all metrics (1 cells): better", "not shown"),
        ("Grad-CAM", "1", "0"),
    ]
    told = " ".join(text.split())
    assert told.index("half of those with Grad-CAM") < told.index("half of those with RISE")
    assert "Trained methods: means over 5 trainings." in told


def test_masks_on_photographs_by_hand():
    """Two classes of the 52: NN-Explainer's own masks keep 90 of 80 %, those of the other class 5 %."""
    values = {"NN-Explainer": 50.0, "Grad-CAM": 60.0, "all 1": 70.0}
    rows = [(m, metric, value) for m, value in values.items() for metric in results_page.SEGMENTED]
    segmentation = pd.DataFrame(rows, columns=["method", "metric", "value"])
    paired = pd.DataFrame({"method": ["Grad-CAM"], "metric": ["mean IoU"], "verdict": ["worse"]})
    cells = [("ram", "none", 80.0), ("ram", "ram", 90.0), ("ram", "toucan", 5.0)]
    cells += [("toucan", "none", 80.0), ("toucan", "ram", 5.0), ("toucan", "toucan", 90.0)]
    confusion = pd.DataFrame(cells, columns=["image_class", "mask_class", "probability"]).assign(method="NN-Explainer")
    text = results_page.masks_on_cutouts(segmentation, paired, confusion)
    assert [line for line in text.splitlines() if line.startswith("| ")][1:] == [
        f"| Grad-CAM | 60.0 | 60.0 | 60.0 | 60.0 | 60.0 | {UNKNOWN} | {UNKNOWN} |",
        "| NN-Explainer | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 112 | 5.0 |",
    ]
    assert "loses 1 of 1 comparisons with other methods (1 in mean IoU)" in " ".join(text.split())
    assert "(chance: 2 %)" in " ".join(text.split())


def test_sanity_on_photographs_by_hand():
    rows = [("P-TAME", answers.HEAD, 90.0), ("P-TAME", answers.STAYS, 20.0), ("Grad-CAM", answers.HEAD, 100.0)]
    sanity = pd.DataFrame(rows, columns=["method", "check", "value"]).assign(classifier="lite/2", metric="Spearman")
    known = pd.DataFrame({"method": ["P-TAME", "Grad-CAM"], "value": [50.0, 80.0]})
    known = known.assign(**{"classifier sees": "one quadrant", "metric": "pointing"})
    told = " ".join(results_page.sanity_on_cutouts(sanity, known).split())
    assert told == (
        "Where the classifier sees one quadrant alone, P-TAME points there in 50 % of the images (the best other "
        "method, Grad-CAM: 80 %). With a permuted head, the maps of P-TAME trained again correlate by 90 % with the "
        "old ones of the class whose logit a class has now, and by 20 % with those of the class of the same number."
    )


def test_losses_and_wins_by_hand():
    """Alike ones together, those in most metrics first; the largest p of the losses is rounded up."""
    cells = [("a", "worse"), ("b", "worse"), ("c", "better"), ("d, e", "no difference shown")]
    rows = [(metric, method, 0.0101, verdict) for method, verdict in cells for metric in ("AP", "deletion")]
    rows += [("AP", "f", 0.9, "too few images to tell"), ("deletion", "f", 0.0, "worse")]
    paired = pd.DataFrame(rows, columns=["metric", "method", "p", "verdict"])
    assert results_page.compared(paired, "RISE") == (
        "RISE is worse than *a* and *b* in all 2 metrics; than *f* in deletion (p at most 0.011). It is better than "
        "*c* in all 2 metrics. No other difference is shown, and none at all against *d, e*."
    )
    one = results_page.compared(paired[paired["method"] == "f"], "RISE")
    assert one == "RISE is worse than *f* in deletion (p = 0.000). No other difference is shown."
    assert results_page.compared(paired[paired["method"] == "d, e"], "RISE") == (
        "No other difference is shown, and none at all against *d, e*."
    )


def test_unseen_classes_by_hand(monkeypatch):
    """Predicted rows gain 5 in AP and lose 2 in deletion to the channel mean, where only the first is shown."""
    monkeypatch.setattr(results_page, "UNSEEN_METRICS", ("deletion", "AP"))
    monkeypatch.setattr(results_page, "UNSEEN", {"net": {"channel mean": "", results_page.PREDICTED: ": new"}})
    rows = [(results_page.PREDICTED, "AP", 60.0, None, None), (results_page.PREDICTED, "deletion", 12.0, None, None)]
    rows += [("channel mean", "AP", 55.04, 4.96, 0.049), ("channel mean", "deletion", 10.0, -2.0, 0.05)]
    table = pd.DataFrame(rows, columns=["method", "metric", "value", "gain", "p"]).assign(classifier="net")
    other = table.assign(classifier="other", value=1.0)
    assert results_page.unseen(pd.concat([other, table]), "net").strip().splitlines() == [
        "| method | deletion ↓ | AP ↑ |",
        "|---|---|---|",
        "| channel mean (control) | 10.0 | 55.0 |",
        "| predicted rows: new | 12.0 | 60.0 |",
        "",
        "The explainer with predicted rows is better than *channel mean* in AP. No other difference is shown.",
    ]


def test_whose_own_explainer_is_better_by_hand():
    """A pair counts if all metrics are better, significantly and for all seeds; not if both look at the same."""
    good = {"network": "a", "method": "M", "p": 0.01, "gap": 1.0, "agree": True, "alike": False}
    spoilt = {"b": {}, "c": {"p": 0.05}, "d": {"gap": -1.0}, "e": {"agree": False}}
    rows = [row | {"of": of} for of, change in spoilt.items() for row in (good, good | change)]
    rows.append(good | {"of": "f", "alike": True})
    assert answers.own_better(pd.DataFrame(rows)) == {"M": 1}


def test_right_evidence_is_the_mean_over_seeds_and_networks():
    shown = pd.read_csv(FOLDER / "whose_evidence.csv")
    swapped = pd.read_csv(FOLDER / "whose_swap.csv")
    badge = shown["network"] == "zoo/badge"
    shown.loc[(shown["method"] == "P-TAME") & (shown["metric"] == "right evidence"), "value"] = 10.0
    first = badge & (shown["method"] == "P-TAME") & (shown["metric"] == "right evidence") & (shown["seed"] == 0)
    shown.loc[first, "value"] = 55.0  # 19 in the mean of five seeds, 11 in that of nine networks
    page = evidence_page.evidence(shown, swapped)
    won = answers.own_better(swapped)["P-TAME"]
    assert f"| P-TAME | 10 | 19 | 10 | 10 | 10 | 10 | 10 | 10 | 10 | 11 | {won} |" in page
    assert "**P-TAME as published** shows the right evidence in 11 %" in page
