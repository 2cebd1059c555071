"""The comparison's tables on numbers that can be checked by hand."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import assert_caught
from refusals import HOSTILE

from ptame_lib.metrics.specificity import Confusion
from ptame_lib.texts import in_html
from ptame_study import paths
from ptame_study.records import write_table
from ptame_study.tables import (
    MAIN,
    confusion_table,
    everywhere,
    family,
    leaders,
    main_table,
    partly,
    rank_intervals,
    ranks,
    report,
    styled,
    tidy,
    two_parts,
    wins,
)


def test_tidy_and_the_main_table_by_hand(per_image):
    table = tidy(per_image)
    assert list(table) == ["classifier", "method", "metric", "value", "low", "high", "n"]
    row = table.query("method == 'b' and metric == 'deletion'").iloc[0]
    assert (row["value"], row["n"]) == (pytest.approx(41), 12)
    assert row["low"] < 41 < row["high"]
    wide = main_table(table)
    assert list(wide) == ["insertion", "deletion"]
    assert list(wide.index) == [("net", "P-TAME"), ("net", "b"), ("net", "c")]  # in the order of the methods
    assert wide.loc[("net", "b")].tolist() == [59.0, 41.0]


def test_the_best_is_bold(per_image):
    two = per_image[per_image["method"] != "c"]
    html = styled(tidy(two), leaders(two)).to_html()
    assert "deletion ↓" in html
    assert "insertion ↑" in html
    assert html.count("font-weight: bold") == 1  # one rule ...
    rule = html.split("font-weight: bold")[0].rsplit("}", 1)[-1]
    assert "row0_col0" in rule  # ... for P-TAME's two cells
    assert "row0_col1" in rule
    assert "row1" not in rule


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_in_a_table(name, per_image):
    odd = per_image.replace({"classifier": {"net": HOSTILE[name]}, "method": {"b": HOSTILE[name]}})
    html, usual = (styled(tidy(part), leaders(part)).to_html() for part in (odd, per_image))
    assert re.findall("<[^>]*>", html) == re.findall("<[^>]*>", usual)
    assert html.count(in_html(HOSTILE[name])) == 2
    assert html.count("\n") == usual.count("\n")


def test_wins_by_hand(per_image):
    found = wins(per_image).set_index(["metric", "method"])
    for metric in ("deletion", "insertion"):  # lower is better, higher is better: the gain says who is better
        assert found.loc[(metric, "b"), "gain"] == pytest.approx(10)
        assert found.loc[(metric, "c"), "gain"] == 0
        # two sign patterns of 2^12; Holm over the whole table's four tests
        assert found.loc[(metric, "b"), "p"] == pytest.approx(4 * 2 / 2**12)
        assert found.loc[(metric, "c"), "p"] == 1
    other = wins(per_image, reference="b").set_index(["metric", "method"])
    assert other.loc[("deletion", "P-TAME"), "gain"] == pytest.approx(-10)


def test_what_is_not_defined_is_no_number(per_image, study_root):
    """The AP of an empty truth, for all images of a method or for some."""
    truths = per_image.assign(AP=np.where(per_image["method"] == "b", np.nan, 50.0))
    truths.loc[0, "AP"] = np.nan
    table = tidy(truths)
    assert table[table["metric"] == "AP"].set_index("method")["n"].to_dict() == {"P-TAME": 11, "c": 12}
    html = styled(table, leaders(truths), ["deletion", "AP"]).to_html()
    assert re.findall(r'col1"\s*>(.*?)</td>', html) == ["50.0", "n/a", "50.0"]
    write_table(paths.results("x") / "compare.csv", table[table["metric"] != "AD50"].replace("AP", "pointing"))
    shown = next(line for line in report("x").splitlines() if " b " in line)
    assert "n/a" in shown
    assert "NaN" not in report("x")


def test_wins_pairs_by_image(per_image):
    shuffled = per_image.sample(frac=1, random_state=0)
    left = wins(per_image).sort_values(["metric", "method"], ignore_index=True)
    right = wins(shuffled).sort_values(["metric", "method"], ignore_index=True)
    assert left["gain"].tolist() == pytest.approx(right["gain"].tolist())


def test_leaders_by_hand(per_image):
    found = leaders(per_image).set_index(["metric", "method"])
    for metric in ("deletion", "insertion"):
        assert found.loc[(metric, "P-TAME"), ["gap", "p", "best", "tied"]].tolist() == [0, 1, True, False]
        assert found.loc[(metric, "c"), ["gap", "p", "best", "tied"]].tolist() == [
            0,
            1,
            False,
            True,
        ]  # the same values: not worse
        assert found.loc[(metric, "b"), "gap"] == pytest.approx(10)
        assert found.loc[(metric, "b"), "p"] == pytest.approx(2 * 2 / 2**12, abs=0.002)
        assert not found.loc[(metric, "b"), "tied"]


def test_the_ground_truth_never_leads(per_image):
    truth = per_image[per_image["method"] == "c"].assign(method="ground truth", deletion=0.0)
    found = leaders(pd.concat([per_image, truth]))
    assert "ground truth" not in set(found["method"])
    assert found.query("best")["method"].tolist() == ["P-TAME", "P-TAME"]


def few(per_image, difference):
    """A method measured on the first four images only, where P-TAME's AD is 20..26: lower by ``difference`` there."""
    part = per_image.query("method == 'P-TAME' and image < 4")
    return pd.concat([per_image, part.assign(method="few", deletion=part["deletion"] - difference)])


def test_a_method_on_fewer_images_has_a_table_of_its_own(per_image):
    whole, shared = two_parts(few(per_image, 3))
    assert whole.equals(per_image)
    assert shared.groupby("method", sort=False)["image"].apply(list).to_dict() == {
        method: [0, 1, 2, 3] for method in ("P-TAME", "b", "c", "few")
    }
    better = leaders(shared).query("metric == 'deletion'").set_index("method")
    assert better["best"].idxmax() == "few"
    assert better.loc["P-TAME", "gap"] == pytest.approx(3)
    assert better.loc["P-TAME", "tied"]  # four pairs can't give a small p
    assert two_parts(per_image)[1].empty


def test_methods_are_compared_on_the_images_that_all_have(per_image):
    worse = leaders(few(per_image, -3)).query("metric == 'deletion'").set_index("method")
    assert worse["best"].idxmax() == "P-TAME"  # although the mean of few, 26, is below P-TAME's over all images, 31
    assert worse.loc["few", "gap"] == pytest.approx(3)
    gains = wins(few(per_image, -3)).query("metric == 'deletion'").set_index("method")["gain"]
    assert gains.to_dict() == pytest.approx({"b": 10, "c": 0, "few": 3})
    table = tidy(few(per_image, -3))
    assert table.query("metric == 'deletion'").set_index("method")["n"].to_dict() == {
        "P-TAME": 12, "b": 12, "c": 12, "few": 4}  # fmt: skip
    assert set(ranks(table, leaders(per_image)).index) == {"P-TAME", "b", "c"}  # few is not ranked with them


def test_every_ranked_metric_has_a_family():
    known = ("kept", "ROAD", "insertion, deletion", "truth")
    assert {family(metric) for metric in MAIN} <= set(known)
    found = [family(m) for m in ("AD15", "AP", "AG@25", "IoU at 0.5", "TELEA MoRF accuracy", "insertion")]
    assert found == ["kept", "truth", "kept", "truth", "ROAD", "insertion, deletion"]
    assert family("sparseness") == "sparseness"


SHARED = "insertion, deletion"  # a family's name


def test_families_count_alike_in_mean_ranks(per_image):
    """P-TAME (with c) leads in two metrics of one family, b in one of another; sparseness is not ranked."""
    more = per_image.assign(pointing=[100.0 * (m == "b") for m in per_image.method], sparseness=per_image.deletion)
    found = ranks(tidy(more), leaders(more))
    assert found.loc["P-TAME", ["mean rank", SHARED, "truth", "cells"]].tolist() == [2, 1.5, 2.5, 3]
    assert found.loc["b", ["mean rank", SHARED, "truth"]].tolist() == [2, 3, 1]


def test_intervals_of_mean_ranks(per_image):
    """Two methods that differ by chance share their places, the third never does."""
    rng = np.random.default_rng(0)
    base = rng.normal(50, 10, 200)
    values = {"P-TAME": base, "b": base + rng.normal(0, 1, 200), "c": base + 5 + rng.normal(0, 1, 200)}
    frames = [
        pd.DataFrame({"classifier": "net", "method": m, "image": range(200), "deletion": v}) for m, v in values.items()
    ]
    many = pd.concat(frames, ignore_index=True)
    found = rank_intervals(many)
    assert found.loc["c"].tolist() == [3, 3]
    assert found.loc["P-TAME"].tolist() == found.loc["b"].tolist() == [1, 2]
    assert rank_intervals(many).equals(found)  # seeded
    both = rank_intervals(pd.concat([many, many.assign(classifier="other")]))
    assert both.equals(found)
    gaps = many.assign(AP=np.where(many.image % 3 == 0, np.nan, -many.deletion))  # not defined for every third image
    assert rank_intervals(gaps).loc["c"].tolist() == [3, 3]
    assert rank_intervals(per_image).isna().all(axis=None)  # 12 images say too little
    assert list(rank_intervals(few(many, 3)).index) == ["P-TAME", "b", "c"]


def test_intervals_of_few_images(per_image):
    """A share has Wilson's interval, also when averaged over seeds no longer; other metrics BCa's."""
    shares = per_image.assign(pointing=100.0 * (per_image.image == 0), IC100=100.0 * (per_image.image < 6))
    table = tidy(shares).query("method == 'b'").set_index("metric")
    low, high = table.loc["IC100", ["low", "high"]]
    assert low + high == pytest.approx(100)
    assert (low, high) == pytest.approx((25.4, 74.6), abs=0.1)
    assert 0 < table.loc["pointing", "low"] < 8.4 < table.loc["pointing", "high"] < 40
    means = tidy(per_image.assign(IC100=np.where(per_image.image < 6, 100, 40.0))).query("metric == 'IC100'")
    assert means[["low", "high"]].isna().all(axis=None)  # no share, and only six images differ


def test_the_family_of_a_correction_is_the_whole_table(per_image):
    found = wins(pd.concat([per_image, per_image.assign(classifier="other")]))
    assert len(found) == 8
    assert found.query("method == 'b'")["p"].tolist() == pytest.approx([8 * 2 / 2**12] * 4)


def test_ranks_by_hand(per_image):
    table, marks = tidy(per_image), leaders(per_image)
    found = ranks(table, marks)
    assert found.loc["b", ["mean rank", "cells", "best", "not significantly worse"]].tolist() == [3, 2, 0, 0]
    assert found.loc["P-TAME", ["mean rank", "best", "not significantly worse"]].tolist() == [1.5, 2, 0]
    assert found.loc["c", ["mean rank", "best", "not significantly worse"]].tolist() == [1.5, 0, 2]
    assert list(found.index)[-1] == "b"


def test_a_method_of_one_classifier_is_in_no_mean_over_all(per_image):
    """In ``other`` alone there is d, better than all by 5 points: the others' ranks stay what they are without it."""
    other = per_image.assign(classifier="other")
    best = other[other.method == "P-TAME"].assign(method="d")
    both = pd.concat(
        [per_image, other, best.assign(deletion=best.deletion - 5, insertion=best.insertion + 5)], ignore_index=True
    )
    table, marks = tidy(both), leaders(both)
    assert everywhere(table) == ["P-TAME", "b", "c"]
    found = ranks(table, marks)
    assert found["mean rank"].to_dict() == {"P-TAME": 1.5, "c": 1.5, "b": 3}
    assert found["cells"].tolist() == [4, 4, 4]
    assert found.loc["P-TAME", "best"] == 2  # the two cells of ``net``
    assert partly(table, marks) == ["d explains other alone and is left out of means over all classifiers: "
                                    "there its mean rank is 1.0 of 4, P-TAME's 2.5."]  # fmt: skip
    assert partly(tidy(per_image), leaders(per_image)) == []
    few = both[(both.method != "d") | (both.image < 10)]  # of fewer images, d has no rank among the others
    assert partly(tidy(few), leaders(few)) == ["d explains other alone and is left out of means over all classifiers."]
    alone = both[both.classifier == "other"]
    assert ranks(tidy(alone), leaders(alone)).index[0] == "d"  # a table of this classifier has it


def test_ties_are_underlined(per_image):
    html = styled(tidy(per_image), leaders(per_image)).to_html()
    rules = {
        part.split("{")[1].strip(): part.split("{")[0] for part in html.split("<style")[1].split("}") if "{" in part
    }
    assert "row0_col0" in rules["font-weight: bold;"]
    assert "row2_col0" in rules["text-decoration: underline;"]
    assert not any("row1" in rule for rule in rules.values())


def test_what_is_not_defined_for_an_image_is_left_out(per_image):
    values = per_image[per_image["method"] == "b"].assign(AP=np.r_[np.nan, np.arange(1.0, 12)])
    row = tidy(values).query("metric == 'AP'").iloc[0]
    assert (row["value"], row["n"]) == (6, 11)
    assert row["low"] < 6 < row["high"]
    assert "AP" not in set(tidy(values.assign(AP=np.nan))["metric"])


def test_two_tables_of_one_page_do_not_share_their_marks(per_image):
    """The marks are CSS rules by cell; with one name for both tables, each would wear the other's."""
    table, marks = tidy(per_image), leaders(per_image)
    pages = [styled(table, marks, metrics).to_html() for metrics in (["deletion"], ["insertion"])]
    ids = [page.split('<table id="')[1].split('"')[0] for page in pages]
    assert ids[0] != ids[1]


def test_the_class_specific_test_as_a_table():
    nan = float("nan")
    found = Confusion(torch.tensor([[90.0, 80.0, 10.0], [nan, nan, nan]]), torch.tensor([3, 0]))
    table = confusion_table(found, ["cat", "dog"])
    assert list(table) == ["image_class", "mask_class", "probability", "images"]
    assert table.image_class.tolist() == ["cat"] * 3 + ["dog"] * 3
    assert table.mask_class.tolist() == ["none", "cat", "dog"] * 2
    assert table.probability.tolist()[:3] == [90, 80, 10]
    assert table.probability[3:].isna().all()
    assert table.images.tolist() == [3] * 3 + [0] * 3


def test_a_comparison_of_means_over_different_images_is_caught(per_image, monkeypatch):
    unpaired = (pd.DataFrame, "dropna", lambda self, **_: self)
    assert_caught(monkeypatch, lambda: test_methods_are_compared_on_the_images_that_all_have(per_image), unpaired)


def test_a_tables_head_stays_and_each_row_names_its_classifier():
    rows = [("net", method, "deletion", image, 10.0 * image) for method in ("P", "Q") for image in (1, 2)]
    frame = pd.DataFrame(rows, columns=["classifier", "method", "metric", "image", "value"])
    per_image = frame.pivot(index=["classifier", "method", "image"], columns="metric", values="value").reset_index()
    html = styled(tidy(per_image), leaders(per_image), ["deletion"])._repr_html_()
    assert html.count(">net</th>") == 2
    assert "rowspan" not in html
    assert "position: sticky" in html
    assert "overflow: auto" in html
