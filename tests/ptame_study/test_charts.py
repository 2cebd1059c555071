"""Figures from tables: what is drawn, and that names stay legible."""

from itertools import combinations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from ptame_study import charts, figures


@pytest.fixture(autouse=True)
def closed():
    figures.use_style()
    yield
    plt.close("all")


def tidy(values):
    """A tidy table of (classifier, method, metric): value, each with an interval of one point to both sides."""
    rows = [(*key, value, value - 1, value + 1, 9) for key, value in values.items()]
    return pd.DataFrame(rows, columns=["classifier", "method", "metric", "value", "low", "high", "n"])


def test_names_of_points_cover_nothing_and_stay_in_the_frame():
    """Methods on one spot, and one at each edge."""
    names = ["P-TAME", "Grad-CAM", "Grad-CAM++", "LayerCAM", "HiResCAM", "integrated gradients", "RISE"]
    points = pd.DataFrame(
        {"ms per image": [1, 3, 3.01, 3.02, 3.03, 900, 1000], "mean rank": [1, 9, 9.05, 9, 9.1, 5, 5.1]}
    )
    figure = charts.cost_quality(points.set_index(pd.Index(names)))
    (axis,) = figure.axes
    boxes = [text.get_window_extent() for text in axis.texts]
    assert sorted(text.get_text() for text in axis.texts) == sorted(names)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    frame = axis.get_window_extent()
    assert all(frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1 for box in boxes)


def test_intervals_have_free_axes_and_no_empty_row():
    """A method of one classifier has no row in the other's panels."""
    values = {
        ("a", "P", "AD"): 50,
        ("a", "Q", "AD"): 52,
        ("b", "P", "AD"): 10,
        ("a", "P", "IC"): 5,
        ("a", "Q", "IC"): 6,
    }
    table = tidy(values | {("b", "P", "IC"): 90})
    figure = charts.intervals(table, ["AD", "IC"], {"AD": False, "IC": True})
    assert [axis.get_title() for axis in figure.axes] == ["AD ←", "IC →"] * 2
    rows = [[label.get_text() for label in axis.get_yticklabels()] for axis in figure.axes[::2]]
    assert rows == [["P", "Q"], ["P"]]
    low, high = figure.axes[0].get_xlim()
    assert 45 < low < 49
    assert 53 < high < 57


def test_roads_panels_show_one_method_each_with_its_interval():
    values = {
        ("net", method, f"{way} confidence {share}"): 10 * i + share / 10
        for i, method in enumerate(("P", "Q"))
        for way in ("MoRF", "LeRF")
        for share in (10, 30)
    }
    figure = charts.road(tidy(values), ["P", "Q"], (10, 30))
    assert [axis.get_title() for axis in figure.axes] == ["P", "Q", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes] == ["net\nMoRF, %", "", "net\nLeRF, %", ""]
    *behind, curve = figure.axes[1].lines
    assert [line.get_color() for line in behind] == [charts.BEHIND] * 2
    assert list(curve.get_ydata()) == [11, 13]
    (band,) = figure.axes[1].collections
    assert {y for _, y in band.get_paths()[0].vertices} == {10, 12, 14}  # 11 - 1, 11 + 1 = 13 - 1, 13 + 1


def test_shuffled_labels_are_no_stage_of_the_cascade():
    table = pd.DataFrame(
        {"itself": [100, 100], "random up to a": [20, 30], "shuffled labels": [50, 60]}, index=["P", "Q"]
    )
    figure = charts.cascade(table, ["itself", "random up to a"], ["shuffled labels"])
    first = figure.axes[0]
    *behind, line, point = [line for line in first.lines if len(line.get_xdata()) and line.get_linestyle() != "--"][:4]
    assert len(behind) == 2
    assert list(line.get_ydata()) == [100, 20]
    assert list(point.get_ydata()) == [50]
    assert point.get_xdata()[0] > line.get_xdata()[-1] + 1
    assert [text.get_text() for text in first.get_xticklabels()] == ["itself", "up to a", "shuffled labels"]


def test_each_confusion_is_a_row_with_a_bar_of_colours():
    wide = pd.DataFrame([[10, 90], [80, 20]], index=["0", "1"], columns=["none", "0"])
    figure = charts.confusions({"P": wide, "Q": wide})
    assert [axis.get_title() for axis in figure.axes[:2]] == ["P", "Q"]
    assert [axis.get_ylabel() for axis in figure.axes[2:]] == ["% probability"] * 2
    tops = [axis.get_position().y1 for axis in figure.axes[:2]]
    assert tops[0] > tops[1]
    assert [text.get_text() for text in figure.axes[0].texts] == ["10", "90", "80", "20"]
