"""The comparison on numbers that can be checked by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from test_metrics import Brightness

from ptame_lib import Method
from ptame_lib.comparison import METRICS, cached, evaluate, evaluate_all, main_table, styled, tidy, wins


def method(maps, name="by hand"):
    """A method that returns the given map (h,w) for every image."""
    return Method(name, lambda pixels, targets: maps.expand(len(pixels), -1, -1), 1, 0, "test")


LEFT = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).repeat(4, 1)
WHITE = [{"pixels": torch.ones(3, 4, 4), "truth": LEFT.bool()} for _ in range(5)]
HALF = math.sqrt(3) / (math.sqrt(3) + 1)  # the answer to an image that is half white; 3/4 to a white, 1/2 to a black one


def test_evaluate_by_hand():
    values, seconds = evaluate(Brightness(), method(LEFT), WHITE, batch_size=2)
    assert list(values) == ["image", *METRICS]
    assert values["image"].tolist() == [0, 1, 2, 3, 4]
    assert seconds >= 0
    half, black = 100 * (0.75 - HALF) / 0.75, 100 / 3
    expected = {"AD100": half, "AD50": half, "AD15": black, "IC100": 0, "IC50": 0, "IC15": 0, "pointing": 100, "IoU": 100}
    for name, value in expected.items():
        assert values[name].tolist() == pytest.approx([value] * 5, abs=1e-4)


def test_an_increase_by_hand():
    """A classifier that decides class 0 and is the surer the darker the image: whatever is removed, its confidence rises."""

    class Dark(torch.nn.Module):
        def forward(self, pixels):
            return torch.stack([1 - pixels.mean((1, 2, 3)), torch.full((len(pixels),), -1.0)], 1)

    values, _ = evaluate(Dark(), method(1 - LEFT), WHITE)
    assert (values[["IC100", "IC50", "IC15"]] == 100).all(None)
    assert (values[["AD100", "AD50", "AD15"]] == 0).all(None)
    assert (values[["pointing"]] == 0).all(None)  # the map shows the right half, the truth is the left


def test_without_a_truth_there_are_no_localisation_columns():
    values, _ = evaluate(Brightness(), method(LEFT), [{"pixels": torch.ones(3, 4, 4)}])
    assert list(values) == ["image", *METRICS[:6]]
    assert "pointing" not in set(tidy(values.assign(classifier="c", method="m"))["metric"])


def test_the_batch_size_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    data = [{"pixels": torch.rand(3, 4, 4, generator=generator), "truth": LEFT.bool()} for _ in range(7)]
    pd.testing.assert_frame_equal(*(evaluate(Brightness(), method(LEFT), data, batch_size=size)[0] for size in (1, 7)))


def test_evaluate_all():
    per_image, cost = evaluate_all("net", Brightness(), [method(LEFT, "a"), method(1 - LEFT, "b")], WHITE)
    assert list(per_image) == ["classifier", "method", "image", *METRICS]
    assert per_image["method"].tolist() == ["a"] * 5 + ["b"] * 5
    assert per_image.groupby("method")["pointing"].mean().to_dict() == {"a": 100, "b": 0}
    assert cost[["classifier", "method", "forwards", "backwards"]].values.tolist() == [["net", "a", 1, 0], ["net", "b", 1, 0]]


@pytest.fixture
def per_image():
    """P-TAME has an AD 10 points lower than b on every image and ties with c."""
    n = 12
    base = np.linspace(20, 42, n)
    parts = {"P-TAME": base, "b": base + 10, "c": base}
    frames = [pd.DataFrame({"classifier": "net", "method": m, "image": range(n), "AD100": v, "IC100": 100 - v}) for m, v in parts.items()]
    return pd.concat(frames, ignore_index=True)


def test_tidy_and_the_main_table_by_hand(per_image):
    table = tidy(per_image)
    assert list(table) == ["classifier", "method", "metric", "value", "low", "high", "n"]
    row = table.query("method == 'b' and metric == 'AD100'").iloc[0]
    assert (row["value"], row["n"]) == (pytest.approx(41), 12)
    assert row["low"] < 41 < row["high"]
    wide = main_table(table)
    assert list(wide) == ["AD100", "IC100"]
    assert list(wide.index) == [("net", "P-TAME"), ("net", "b"), ("net", "c")]  # in the order of the methods
    assert wide.loc[("net", "b")].tolist() == [41.0, 59.0]


def test_the_best_is_bold(per_image):
    html = styled(tidy(per_image[per_image["method"] != "c"])).to_html()
    assert "AD100 ↓" in html
    assert "IC100 ↑" in html
    assert html.count("font-weight: bold") == 1  # one rule ...
    rule = html.split("{")[0]
    assert "row0_col0" in rule  # ... for P-TAME's two cells
    assert "row0_col1" in rule
    assert "row1" not in rule


def test_wins_by_hand(per_image):
    found = wins(per_image).set_index(["metric", "method"])
    for metric in ("AD100", "IC100"):  # lower is better, higher is better: the gain says who is better
        assert found.loc[(metric, "b"), "gain"] == pytest.approx(10)
        assert found.loc[(metric, "c"), "gain"] == 0
        assert found.loc[(metric, "b"), "p"] == pytest.approx(2 * 2 / 2**12, abs=0.002)  # two sign patterns, Holm over two tests
        assert found.loc[(metric, "c"), "p"] == 1
    other = wins(per_image, reference="b").set_index(["metric", "method"])
    assert other.loc[("AD100", "P-TAME"), "gain"] == pytest.approx(-10)


def test_wins_pairs_by_image(per_image):
    shuffled = per_image.sample(frac=1, random_state=0)
    left = wins(per_image).sort_values(["metric", "method"], ignore_index=True)
    right = wins(shuffled).sort_values(["metric", "method"], ignore_index=True)
    assert left["gain"].tolist() == pytest.approx(right["gain"].tolist())


def test_cached_computes_once_for_the_same_things(tmp_path, per_image):
    calls = []

    def compute():
        calls.append(1)
        return per_image * 1, pd.DataFrame({"method": ["a"], "ms_per_image": [1.5]})

    file = tmp_path / "per_image" / "net.csv"
    first = cached(file, {"seed": 0, "files": {"e": "1f"}}, compute)
    again = cached(file, {"seed": 0, "files": {"e": "1f"}}, compute)
    assert len(calls) == 1
    for a, b in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(a, b)
    assert np.allclose(first[0]["AD100"], per_image["AD100"])
    cached(file, {"seed": 1, "files": {"e": "1f"}}, compute)
    cached(file, {"seed": 1, "files": {"e": "2f"}}, compute)
    assert len(calls) == 3
    assert json.loads(file.with_suffix(".json").read_text())["made_from"]["seed"] == 1
    file.unlink()  # half a pair is no result
    cached(file, {"seed": 1, "files": {"e": "2f"}}, compute)
    assert len(calls) == 4


def test_cached_keeps_nothing_of_a_computation_that_fails(tmp_path, per_image):
    file = tmp_path / "net.csv"
    cached(file, {"seed": 0}, lambda: (per_image, pd.DataFrame({"method": ["a"]})))

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(file, {"seed": 1}, fail)
    cached(file, {"seed": 1}, lambda: (per_image.head(3), pd.DataFrame({"method": ["a"]})))
    assert len(pd.read_csv(file)) == 3
