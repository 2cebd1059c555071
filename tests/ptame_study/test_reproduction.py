"""The reproduction check: by hand, by simulated runs that are honest, and by one that is not."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from ptame_study import reproduction, tables
from ptame_study.__main__ import main

METHODS = [f"m{i}" for i in range(40)]
METRICS = ("deletion", "IC@25", "pointing", "AP")


def study(images, rng, truth):
    """The tidy table of one study: skewed, binary and other values over ``images`` images."""
    frames = []
    for method, level in zip(METHODS, truth, strict=True):
        values = np.stack([
            100 * rng.beta(0.3, 0.3 / level - 0.3, images),
            100.0 * (rng.random(images) < level),
            100.0 * (rng.random(images) < 1 - level),
            100 * rng.beta(4 * level, 4 - 4 * level, images),
        ])  # fmt: skip
        frames.append(pd.DataFrame(dict(zip(METRICS, values, strict=True))).assign(method=method, image=range(images)))
    return pd.concat(frames, ignore_index=True).assign(classifier="net")


def table(per_image):
    """`tables.tidy` with the intervals that its bootstrap tends to, in no time."""
    groups = per_image.groupby(["classifier", "method"], sort=False)[list(METRICS)]
    cells = groups.agg(["mean", "std", "size"]).rename_axis(columns=["metric", "what"]).stack("metric").reset_index()
    half = 1.959964 * cells["std"] * np.sqrt(cells["size"] - 1) / cells["size"]
    found = cells[["classifier", "method", "metric"]].assign(value=cells["mean"], n=cells["size"])
    return found.assign(low=cells["mean"] - half, high=cells["mean"] + half)


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(0).uniform(0.05, 0.6, len(METHODS))


def inside(run_images, full_images, truth, shift=0.0, seed=1):
    rng = np.random.default_rng(seed)
    runs = [study(n, rng, truth + moved) for n, moved in ((run_images, shift), (full_images, 0)) for _ in range(4)]
    tidied = [table(each) for each in runs]
    return np.mean([reproduction.compared(*pair)["inside"].mean() for pair in zip(tidied[:4], tidied[4:], strict=True)])


@pytest.mark.parametrize(("run_images", "full_images"), [(75, 300), (15, 25), (300, 300)])
def test_19_of_20_cells_of_an_honest_run_on_other_images_are_inside(run_images, full_images, truth):
    assert 0.93 <= inside(run_images, full_images, truth) <= 0.975  # 640 cells: a standard error of .009


@pytest.mark.parametrize(("run_images", "full_images"), [(75, 300), (15, 25)])
def test_19_of_20_cells_of_a_run_on_some_of_the_same_images_are_inside(run_images, full_images, truth):
    rng = np.random.default_rng(1)
    studies = [study(full_images, rng, truth) for _ in range(4)]
    found = [
        reproduction.compared(table(each[each.image < run_images]), table(each), nested=True)["inside"]
        for each in studies
    ]
    assert 0.93 <= np.mean(found) <= 0.98  # 640 cells
    assert reproduction.compared(table(studies[0]), table(studies[0]), nested=True)["inside"].all()


def test_a_cell_without_an_interval_is_not_compared():
    few = cells(1, 0, 15).assign(low=np.nan, high=np.nan)
    assert len(reproduction.compared(few, cells(1, 1, 25), nested=True)) == 0


def test_another_study_is_found_out(truth):
    assert inside(75, 300, truth, shift=0.3) < 0.5


def test_the_interval_is_that_of_students_test(truth):
    """A value is inside if the test does not reject."""
    rng = np.random.default_rng(3)
    run, full = study(40, rng, truth), study(100, rng, truth)
    found = reproduction.compared(table(run), table(full))
    for row in found.itertuples():
        parts = [each[each.method == row.method][row.metric] for each in (run, full)]
        assert row.inside == (ttest_ind(*parts).pvalue >= 0.05)


def test_the_intervals_of_the_bootstrap_serve(truth):
    rng = np.random.default_rng(4)
    runs = [each[each.method.isin(METHODS[:3])] for each in (study(75, rng, truth), study(300, rng, truth))]
    found, exact = (reproduction.compared(*map(make, runs)) for make in (tables.tidy, table))
    both = found.merge(exact, on=reproduction.CELL)
    np.testing.assert_allclose(both.high_x - both.full_x, both.high_y - both.full_y, rtol=0.06)


def cells(value, sd, n, metric="deletion"):
    half = 1.959964 * sd * np.sqrt(n - 1) / n
    row = {"classifier": "net", "method": "P-TAME", "metric": metric, "value": value}
    return pd.DataFrame([row | {"low": value - half, "high": value + half, "n": n}])


def test_by_hand():
    """sd 10 over 50 and 50 images: 10 * sqrt(2 / 50) = 2; t has 98 degrees of freedom."""
    [row] = reproduction.compared(cells(13, 10, 50), cells(10, 10, 50)).itertuples()
    assert (row.value, row.full, row.inside) == (13, 10, True)
    assert row.high - 10 == pytest.approx(1.984467 * 2, rel=1e-5) == pytest.approx(10 - row.low)
    seeds = pd.DataFrame([{"classifier": "net", "method": "P-TAME", "metric": "deletion", "sd": 3.0, "value": 1}])
    [row] = reproduction.compared(cells(13, 10, 50), cells(10, 10, 50), seeds).itertuples()
    assert row.high - 10 == pytest.approx(1.984467 * np.sqrt(4 + 2 * 9), rel=1e-5)


def test_a_metric_that_is_the_same_for_all_images():
    """The pointing game of the truth is 100; 0 of 75 where the full study has 1 % is nothing special."""
    assert reproduction.compared(cells(100, 0, 75), cells(100, 0, 300))["inside"].all()
    assert not reproduction.compared(cells(99, 0, 75), cells(100, 0, 300))["inside"].any()
    assert reproduction.compared(cells(0, 0, 75), cells(1, 9.95, 300))["inside"].all()


@pytest.mark.parametrize("profile", ["embedded", "mine"])
def test_the_report_tells_it(profile, study_root, capsys):
    folder = study_root / "workflow" / "profiles"
    folder.mkdir(parents=True)
    text = "classifiers: [net]\nnotebooks: {}\n"
    (folder / "embedded-full.yaml").write_text(text)
    (folder / "embedded.yaml").write_text("extends: embedded-full\n")
    (folder / "mine.yaml").write_text(text)  # another study
    run = pd.concat([cells(20, 10, 50), cells(50, 10, 50, "AP"), cells(50, 10, 50, "Gini")])
    full = pd.concat([cells(10, 10, 50), cells(50, 10, 50, "AP"), cells(50, 10, 50, "contour")])
    for name, found in ((profile, run), ("reference", full)):
        (study_root / "results" / name).mkdir(parents=True)
        found.to_csv(study_root / "results" / name / "compare.csv", index=False)
    assert main(["report", "--profile", profile]) == 0
    said = capsys.readouterr().out
    assert ("Reproduction check: 1 of 2 cells inside." in said) == (profile == "embedded")
    assert ("\n  net, P-TAME, deletion: 20.0 (10.0, 8.0 to 12.0)\n" in said) == (profile == "embedded")
    assert ("\n1 cells are not compared: too few images differ" in said) == (profile == "embedded")
    (study_root / "results" / "reference" / "compare.csv").unlink()
    assert main(["report", "--profile", profile]) == 0
    assert "Reproduction" not in capsys.readouterr().out
