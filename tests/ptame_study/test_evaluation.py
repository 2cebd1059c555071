"""The comparison on numbers that can be checked by hand."""

import contextlib
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Brightness
from processes import FORK, start
from tqdm import tqdm

from ptame_lib import Classifier, Method, files
from ptame_lib.metrics.curves import blurred
from ptame_lib.metrics.suite import MAPS, MASKS, METRICS
from ptame_study import cache, evaluation
from ptame_study.cache import cached, read_values
from ptame_study.evaluation import evaluate, evaluate_all


def method(maps, name="by hand"):
    """A method that returns the given map (h,w) for every image."""
    return Method(name, lambda pixels, targets: maps.expand(len(pixels), -1, -1), 1, 0, "test")


LEFT = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).repeat(4, 1)
WHITE = [{"pixels": torch.ones(3, 4, 4), "truth": LEFT.bool()} for _ in range(5)]
HALF = math.sqrt(3) / (
    math.sqrt(3) + 1
)  # the answer to an image that is half white; 3/4 to a white, 1/2 to a black one


def test_a_power_moves_what_was_published():
    """A map of 1, 1/2 and 0 keeps more of the image the smaller its power; one of 0 and 1 stays as it is."""
    soft, hard = method(torch.tensor([[1.0, 0.5, 0.0, 0.0]]).repeat(4, 1), "soft"), method(LEFT, "hard")
    found = evaluation.by_power(Brightness(), [soft, hard], WHITE, batch_size=2).set_index(["method", "power"])["AD100"]
    assert found["hard"].tolist() == pytest.approx([100 * (0.75 - HALF) / 0.75] * 5, abs=1e-4)
    assert found["soft"].is_monotonic_increasing
    whole = evaluate(Brightness(), soft, WHITE)[0]
    assert found["soft", 1.0] == pytest.approx(whole["AD100"].mean())


def test_evaluate_by_hand():
    values, cost = evaluate(Brightness(), method(LEFT), WHITE, batch_size=2)
    assert list(values) == ["image", *METRICS]
    assert values["image"].tolist() == [0, 1, 2, 3, 4]
    passes = {"forwards": 1, "backwards": 0, "images": 5, "source": "test"}
    assert {key: cost[key] for key in passes} == passes
    assert cost["ms_per_image"] >= 0
    assert cost["peak_mb"] == 0  # the map is there already
    half, black = 100 * (0.75 - HALF) / 0.75, 100 / 3
    expected = {
        "AD100": half,
        "AD50": half,
        "AD15": black,
        "IC100": 0,
        "IC50": 0,
        "IC15": 0,
        "pointing": 100,
        "IoU": 100,
    }
    for name, value in expected.items():
        assert values[name].tolist() == pytest.approx([value] * 5, abs=1e-4)


def test_the_class_that_is_asked_about_is_explained_instead_of_the_decision():
    asked = []

    def explain(pixels, targets):
        asked.extend(targets.tolist())
        return LEFT.expand(len(pixels), -1, -1)

    data = [item | {"asked": torch.tensor(i % 2)} for i, item in enumerate(WHITE)]
    values, _ = evaluate(Brightness(), Method("by hand", explain, 1, 0, "test"), data, batch_size=5)
    assert asked[-5:] == [0, 1, 0, 1, 0]
    drop = values["AD100"].tolist()
    assert drop[0] == drop[2] == drop[4] != drop[1] == drop[3]


def test_an_increase_by_hand():
    """A classifier that decides for class 0, more surely for darker images: every removal raises its confidence."""

    class Dark(torch.nn.Module):
        def forward(self, pixels):
            return torch.stack([1 - pixels.mean((1, 2, 3)), torch.full((len(pixels),), -1.0)], 1)

    values, _ = evaluate(Dark(), method(1 - LEFT), WHITE)
    assert (values[["IC100", "IC50", "IC15"]] == 100).all(None)
    assert (values[["AD100", "AD50", "AD15"]] == 0).all(None)
    assert (values[["pointing"]] == 0).all(None)  # the map shows the right half, the truth is the left


def test_without_a_truth_there_are_no_localisation_columns():
    values, _ = evaluate(Brightness(), method(LEFT), [{"pixels": torch.ones(3, 4, 4)}])
    assert list(values) == ["image", *(name for name, metric in METRICS.items() if not metric.needs_truth)]


def test_a_method_can_be_shown_the_truth():
    oracle = Method("ground truth", lambda pixels, truth: truth.float(), 0, 0, "control", sees_truth=True)
    values, _ = evaluate(Brightness(), oracle, WHITE, curves=False)
    assert (values[["pointing", "energy", "IoU", "AP"]] == 100).all(None)


def test_the_batch_size_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    data = [{"pixels": torch.rand(3, 4, 4, generator=generator), "truth": LEFT.bool()} for _ in range(7)]
    pd.testing.assert_frame_equal(*(evaluate(Brightness(), method(LEFT), data, batch_size=size)[0] for size in (1, 7)))


class Shades(torch.utils.data.Dataset):
    """``n`` images (3,64,64), made when they are asked for."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return {"pixels": torch.linspace(0, 1, 64).expand(3, 64, 64) * (i % 7 + 1) / 7}


@pytest.mark.skipif(not Path("/proc/self/status").is_file() or FORK is None, reason="needs Linux")
def test_memory_does_not_grow_with_the_images(tmp_path):
    """4000 images more, whose maps alone would take 66 MB (float32), their pixels 197 MB."""

    def peak(n):
        evaluate(
            Brightness(),
            Method("m", lambda pixels, targets: pixels.mean(1), 1, 0, "test"),
            Shades(n),
            curves=False,
            batch_size=50,
        )
        (tmp_path / str(n)).write_text(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    for n in (200, 4200):
        start(peak, n).join()
    few, many = (int((tmp_path / str(n)).read_text()) / 1024 for n in (200, 4200))
    assert many - few < 33  # a fork of a process that did much also makes some of its memory its own


def test_the_clock_waits_for_the_device(monkeypatch):
    """Before and after the method works: a graphics card is given its work and goes on alone."""
    done, seconds = [], itertools.count()
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: done.append("wait"))
    monkeypatch.setattr(evaluation.time, "perf_counter", lambda: done.append("clock") or next(seconds))

    def explain(pixels, targets):
        done.append("explain")
        return pixels.mean(1)

    labelled = [one | {"labels": torch.tensor([True, False])} for one in WHITE]
    monkeypatch.setattr(evaluation, "progress", lambda *_: contextlib.nullcontext(tqdm(disable=True)))
    for suite, options in ((MAPS, {"curves": False}), (MASKS, {})):
        done.clear()
        net = Classifier(Brightness(), [0.0] * 3, [1.0] * 3, 4)
        _, cost = evaluate(net, Method("m", explain, 1, 0, "test"), labelled, suite, batch_size=5, **options)
        assert done == ["explain", "wait", "clock", "explain", "wait", "clock"]  # the first time for the memory
        assert cost["ms_per_image"] == 1000 / 5


def test_evaluate_all():
    per_image, cost = evaluate_all(
        "net", Brightness(), [method(LEFT, "a"), method(1 - LEFT, "b")], WHITE, {"b": 2}, curves=False
    )
    assert list(per_image)[:4] == ["classifier", "method", "image", "AD100"]
    assert per_image["method"].tolist() == ["a"] * 5 + ["b"] * 2
    assert per_image["image"].tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert per_image.groupby("method")["pointing"].mean().to_dict() == {"a": 100, "b": 0}
    assert cost[["classifier", "method", "forwards", "images"]].values.tolist() == [
        ["net", "a", 1, 5],
        ["net", "b", 1, 2],
    ]


def test_methods_that_are_done_are_not_done_again(tmp_path):
    """The second method fails; once it is mended, the first one's values are still there."""
    asked = []

    def first(pixels, targets):
        asked.append(len(pixels))
        return LEFT.expand(len(pixels), -1, -1)

    def fail(pixels, targets):
        raise RuntimeError("broken")

    def run(second, made_from):
        methods = [Method("a b", first, 1, 0, "test"), Method("b", second, 1, 0, "test")]
        return evaluate_all("net", Brightness(), methods, WHITE, curves=False, kept=(tmp_path, made_from))

    with pytest.raises(RuntimeError, match="broken"):
        run(fail, {"seed": 0})
    before = len(asked)
    per_image, _ = run(first, {"seed": 0})
    assert len(asked) == 2 * before
    assert per_image["method"].tolist() == ["a b"] * 5 + ["b"] * 5
    run(first, {"seed": 1})
    assert len(asked) == 4 * before


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
    assert np.allclose(first[0]["deletion"], per_image["deletion"])
    cached(file, {"seed": 1, "files": {"e": "1f"}}, compute)
    cached(file, {"seed": 1, "files": {"e": "2f"}}, compute)
    assert len(calls) == 3
    assert json.loads(file.with_suffix(".json").read_text())["made_from"]["seed"] == 1
    file.unlink()  # half a pair is no result
    cached(file, {"seed": 1, "files": {"e": "2f"}}, compute)
    assert len(calls) == 4


def test_a_second_run_does_not_compute_what_the_first_is_computing(tmp_path, per_image, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.05)
    file, table = tmp_path / "net.csv", (per_image, pd.DataFrame({"method": ["a"]}))

    def compute():
        with pytest.raises(RuntimeError, match=r"net\.csv is being made by another run"):
            cached(file, {"seed": 0}, lambda: table)
        return table

    cached(file, {"seed": 0}, compute)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.csv", "net.json"]


def test_cached_keeps_nothing_of_a_computation_that_fails(tmp_path, per_image):
    file = tmp_path / "net.csv"
    cached(file, {"seed": 0}, lambda: (per_image, pd.DataFrame({"method": ["a"]})))

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(file, {"seed": 1}, fail)
    cached(file, {"seed": 1}, lambda: (per_image.head(3), pd.DataFrame({"method": ["a"]})))
    assert len(pd.read_csv(file)) == 3


def test_values_are_read_in_parts_as_pandas_reads_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PART", 3)
    one = pd.DataFrame({"classifier": ["net"] * 5, "image": range(5), "whole, then half": [1, 2, 3, 4, 5.5]})
    one = one.assign(ints=[1, 0, 1, 1, 1], late=[math.nan] * 4 + [2], never=math.nan, told=[None] * 4 + ["so"])
    other = one.head(2).drop(columns="late").assign(more=1.5)
    files = [tmp_path / "one.csv", tmp_path / "other.csv"]
    for table, file in zip((one, other), files, strict=True):
        table.to_csv(file, index=False)
    whole = [pd.read_csv(file) for file in files]
    pd.testing.assert_frame_equal(read_values(files[0]), whole[0])
    both = read_values(*files)
    pd.testing.assert_frame_equal(both, pd.concat(whole, ignore_index=True).astype(both.dtypes))


class Counted(torch.nn.Module):
    """Brightness with noise from the size of the batch, as rounding is; remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, pixels):
        self.asked += [image.numpy().tobytes() for image in pixels]
        return Brightness()(pixels) + 1e-3 * len(pixels) * torch.tensor([1.0, 0.0])


def test_a_classifier_is_asked_once_about_whole_blurred_and_empty_images():
    """And the values of each method are those of the method alone, to the last bit, also in batches of other sizes."""
    generator = torch.Generator().manual_seed(0)
    data = [{"pixels": torch.rand(3, 32, 32, generator=generator)} for _ in range(7)]
    methods = [method(torch.rand(8, 8, generator=generator), name) for name in "abc"]
    together = Counted()
    per_image, _ = evaluate_all("net", together, methods, data, {"b": 5}, batch_size=4)
    alone = [evaluate(Counted(), m, data[: 5 if m.name == "b" else 7], batch_size=4)[0] for m in methods]
    pd.testing.assert_frame_equal(
        per_image.drop(columns=["classifier", "method"]), pd.concat(alone, ignore_index=True), check_exact=True
    )
    shown = [data[0]["pixels"], blurred(data[0]["pixels"][None])[0]]
    assert [together.asked.count(image.numpy().tobytes()) for image in shown] == [2, 1]  # decision and p; p


class Pairs(list):
    """Two 2x2 images of two objects each, a column apiece; each is asked about for both."""

    def __init__(self):
        left = torch.tensor([[True, False], [True, False]])
        super().__init__(
            {"pixels": torch.full((3, 2, 2), 0.5), "truth": truth, "asked": torch.tensor(asked)}
            for _ in range(6)
            for asked, truth in enumerate((left, ~left))
        )
        self.kinds = ["singles", "pairs"] * 6


def test_how_a_map_tells_two_objects_apart_by_hand():
    three, nothing = (
        method(torch.tensor([[3.0, 1.0], [0.0, 0.0]]), "three to one"),
        method(torch.zeros(2, 2), "nothing"),
    )
    truth = Method("ground truth", lambda pixels, truth: truth.float(), 0, 0, "", sees_truth=True)
    table = evaluation.own_shares(Brightness(), [three, nothing, truth], Pairs(), batch_size=2)
    # of the pair's two items one has 3 of 4, the other 1 of 4; and one is first, the other last
    values = table.pivot(index="metric", columns="method", values="value")
    assert values.loc["own share"].to_dict() == {"three to one": 50, "nothing": 50, "ground truth": 100}
    assert values.loc["own first"].to_dict() == {"three to one": 50, "nothing": 50, "ground truth": 100}
    assert table["n"].tolist() == [12] * 6


def test_a_power_of_a_map_moves_the_own_share_and_not_which_object_is_first():
    haze = torch.tensor([[0.0, 0.3], [0.6, 0.9]])
    methods = [
        Method(f"power {n}", lambda pixels, truth, n=n: (truth + haze) ** n, 0, 0, "", sees_truth=True) for n in (1, 4)
    ]
    table = evaluation.own_shares(Brightness(), methods, Pairs(), batch_size=2)
    values = table.pivot(index="metric", columns="method", values="value")
    assert values.loc["own first"].tolist() == [100, 100]
    assert values.loc["own share", "power 4"] > values.loc["own share", "power 1"] + 5


def test_values_of_several_kinds_of_images_have_them_beside_the_classifiers_name():
    values, cost = evaluate_all(
        "toy",
        Brightness(),
        [method(torch.ones(2, 2))],
        Pairs(),
        {"by hand": 3},
        curves=False,
    )
    assert values["classifier"].tolist() == ["toy, singles", "toy, pairs", "toy, singles"]
    assert cost["classifier"].tolist() == ["toy"]
