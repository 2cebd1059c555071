"""kill -9 during training, evaluation and the graph: a restarted run ends with the uninterrupted run's results."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from helpers import Images, Noise, same, small_nets, weights
from processes import FORK, FORKS_AT_ONCE, kill_when, plant, start, wait

import ptame_lib
from ptame_lib import PTAME, Method, TrainingConfig, train_ptame
from ptame_lib.metrics.suite import MAPS, MASKS
from ptame_lib.training import checkpoints
from ptame_study import cache, evaluation, train
from ptame_study.cache import Rows

CHECKOUT = Path(ptame_lib.__file__).parent.parent
CONFIG = TrainingConfig(steps=7, batch_size=4, lr=1e-2, checkpoint_every=3)
ORIGIN = {"data": "random images", "library": "1f"}
pytestmark = pytest.mark.skipif(FORK is None, reason="needs fork")


# ------------------------------------------------------------------------------------------------------------- training


def training(file, said, stop_after=None):
    """Resume from a checkpoint if there is one, write the step to a file, wait to be killed after ``stop_after``."""
    explainer, classifier = small_nets()

    def on_step(row):
        said.write_text(str(row["step"]))
        if row["step"] == stop_after:
            wait()

    resume = checkpoints.fits(file, CONFIG, ORIGIN)
    options = {"checkpoint": file, "resume": resume, "made_from": ORIGIN, "on_step": on_step}
    return explainer, train_ptame(explainer, classifier, Images(), CONFIG, **options), resume


def training_stuck_in_a_checkpoint(file, said):
    """The second checkpoint stays half-written."""
    save = torch.save

    def half(state, name):
        save(state, name)
        if len(state["history"]) == 6:
            with Path(name).open("r+b") as unfinished:
                unfinished.truncate(Path(name).stat().st_size // 2)
            said.write_text("writing")
            wait()

    torch.save = half  # in this process alone
    training(file, said)


@pytest.fixture(scope="module")
def uninterrupted():
    explainer, classifier = small_nets()
    return train_ptame(explainer, classifier, Images(), CONFIG), weights(explainer)


@pytest.mark.parametrize(
    ("moment", "resumed"),
    [("1", False), ("4", True), ("writing", True)],
    ids=["before the first checkpoint", "between checkpoints", "in the middle of writing one"],
)
def test_a_killed_training(moment, resumed, uninterrupted, tmp_path):
    file, said = tmp_path / "run" / "e.ckpt", tmp_path / "step"
    stuck = moment == "writing"
    process = start(training_stuck_in_a_checkpoint, file, said) if stuck else start(training, file, said, int(moment))
    kill_when(process, lambda: said.is_file() and said.read_text() == moment)
    left = {p.name for p in file.parent.iterdir()}
    assert ".e.ckpt.lock" in left
    assert any(".tmp" in name for name in left) == stuck
    explainer, history, went_on = training(file, said)
    assert went_on == resumed
    assert (history, json.loads(file.with_suffix(".history.json").read_text())) == (uninterrupted[0], uninterrupted[0])
    assert same(weights(explainer), uninterrupted[1])
    assert sorted(p.name for p in file.parent.iterdir()) == ["e.ckpt", "e.history.json"]


def test_a_checkpoint_made_from_something_else_is_not_gone_on_from(tmp_path):
    file = tmp_path / "e.ckpt"
    training(file, tmp_path / "step")
    assert checkpoints.fits(file, CONFIG, ORIGIN)
    assert not checkpoints.fits(file, CONFIG, ORIGIN | {"library": "2f"})
    assert not checkpoints.fits(tmp_path / "gone", CONFIG, ORIGIN)
    explainer, classifier = small_nets()
    with pytest.raises(
        ValueError,
        match=r"e\.ckpt was made from other data, weights or code \(library\): use those, or start with resume=False",
    ):
        train_ptame(
            explainer, classifier, Images(), CONFIG, checkpoint=file, resume=True, made_from=ORIGIN | {"library": "2f"}
        )
    file.write_bytes(file.read_bytes()[:1000])
    assert not checkpoints.fits(file, CONFIG, ORIGIN)


# ----------------------------------------------------------------------------------------------------------- evaluation


class FewLabelled(Noise):
    """Two of seven labels an image, and the left half as the truth of both."""

    def __getitem__(self, i):
        labels = torch.zeros(7, dtype=torch.bool).index_fill(0, torch.tensor([i % 7, 6]), True)
        left = torch.arange(16).expand(16, 16) < 8
        return super().__getitem__(i) | {"labels": labels, "truth": left & labels[:, None, None]}


SUITES = {"maps": (MAPS, Noise, {"curves": False}), "masks": (MASKS, FewLabelled, {})}


def evaluating(folder, explain=lambda pixels, targets: pixels.mean(1), suite="maps"):
    methods = [Method(name, explain, 1, 0, "test") for name in ("first", "second")]
    suite, data, options = SUITES[suite]
    return evaluation.evaluate_all(
        "net", small_nets()[1], methods, data(50, 16), suite=suite, kept=(folder, {"seed": 0}), **options
    )


def evaluation_between_batches(folder, rows, suite):
    """Waits to be killed once the second method has finished a batch."""

    def explain(pixels, targets):
        if rows.is_file() and rows.read_text().count("\n") >= 2:
            rows.with_suffix(".reached").touch()
            wait()
        return pixels.mean(1)

    evaluating(folder, explain, suite)


def evaluation_stuck(folder, where, suite):
    """Ends in the middle of a batch's line, or between a method's table and what it was made from."""

    def half(self, columns, **about):
        if self.count == 20:
            self.stream.write('{"rows": [[1.0, 2')
            self.stream.flush()
            wait()
        append(self, columns, **about)

    append, Rows.append = Rows.append, half if where == "line" else Rows.append
    cache.write_whole = cache.write_whole if where == "line" else lambda *_: wait()
    evaluating(folder, suite=suite)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("where", ["between batches", "line", "note"])
def test_a_killed_evaluation(where, suite, tmp_path):
    expected, _ = evaluating(tmp_path / "whole", suite=suite)
    folder, asked = tmp_path / "killed", []
    rows = folder / "second.partial.jsonl"
    if where == "between batches":
        process = start(evaluation_between_batches, folder, rows, suite)
        kill_when(process, rows.with_suffix(".reached").is_file)
        rows.with_suffix(".reached").unlink()
    else:
        process = start(evaluation_stuck, folder, where, suite)
        rows = folder / "first.partial.jsonl"
        moment = "[[1.0, 2" if where == "line" else ""
        kill_when(
            process,
            lambda: (
                (folder / "first.csv").is_file()
                if where == "note"
                else rows.is_file() and rows.read_text().endswith(moment)
            ),
        )

    def counting(pixels, targets):
        asked.append(len(pixels))
        return pixels.mean(1)

    found, _ = evaluating(folder, counting, suite)
    for name in ("first.csv", "second.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert found.equals(expected)
    assert {p.suffix for p in folder.iterdir()} == {".csv", ".json"}
    done = {"between batches": 50 + 20, "line": 20, "note": 50}[
        where
    ]  # images that need not be explained again, at least
    labels = 2 if suite == "masks" else 1  # that are asked for, of every image
    assert sum(n for n in asked if n > labels) <= labels * (100 - done)


def test_rows_made_from_something_else_are_dropped(tmp_path):
    for made_from, there in (({"seed": 0}, 0), ({"seed": 0}, 2), ({"seed": 1}, 0)):
        with Rows(tmp_path / "rows", made_from) as rows:
            assert rows.count == there
            rows.append({"a": [0.1, float("nan")], "b": [1 / 3, 2.0]}, seconds=0.5)
            table, about = rows.table()
    assert table["a"].tolist()[0] == 0.1
    assert table["b"].tolist() == [1 / 3, 2.0]
    assert about == {"seconds": [0.5]}


@pytest.mark.parametrize(
    ("line", "left", "count"),
    [
        (0, '{"made_from": {"se', 0),  # cut off, and then written to
        (0, "\x00\x00", 0),
        (0, '{"made_from": {"seed": 0}}', 0),
        (2, '{"rows": [[0.1', 2),
        (2, '{"rows": [[1.0]]}', 2),
        (2, "17", 2),
    ],
)
def test_rows_from_a_damaged_line_on_are_computed_again(line, left, count, tmp_path):
    file = tmp_path / "rows"

    def go_on(until):
        with Rows(file, {"seed": 0}) as rows:
            begun = rows.count
            for i in range(begun // 2, until):
                rows.append({"a": [i, i + 0.5], "b": [0.0, -i]}, seconds=i)
            return begun, *rows.table()

    _, whole, times = go_on(3)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:line], left, *lines[line + 1 :]]) + "\n")
    with pytest.warns(UserWarning, match=rf"rows is damaged after {count} images: the values that follow are computed"):
        begun, table, seconds = go_on(3)
    assert (begun, seconds) == (count, times)
    assert table.equals(whole)
    assert file.read_text().splitlines() == lines


# ---------------------------------------------------------------------------------------------------------------- graph


@pytest.fixture
def study(study_root):
    """A study of one tiny profile: notebook 02 for one classifier, long enough for a checkpoint before its end."""
    for part in ("notebooks", "data", "workflow/profiles"):
        (study_root / part).mkdir(parents=True)
    shutil.copy(CHECKOUT / "notebooks" / "02_train_ptame.ipynb", study_root / "notebooks")
    for part in ("data/embedded", "ptame_lib"):
        (study_root / part).symlink_to(CHECKOUT / part)
    settings = "02_train_ptame: {train_images: 30, steps: 6, training: {batch_size: 2, checkpoint_every: 4}}"
    (study_root / "workflow" / "profiles" / "tiny.yaml").write_text(
        f"classifiers: [embedded/vgg]\nnotebooks:\n  {settings}\n"
    )
    return study_root


def make_reproduce(root, path):
    """What `make reproduce PROFILE=tiny` runs, started with a PYTHONPATH."""
    plan = ["make", "-n", "reproduce", "PROFILE=tiny", "CORES=1", f"PYTHON={sys.executable}", "READY="]
    lines = subprocess.run(plan, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    line = next(line for line in lines if "-m snakemake" in line).replace(
        "workflow/Snakefile", f"{CHECKOUT}/workflow/Snakefile"
    )
    exported = {"PROFILE": "tiny", "CORES": "1", "GPUS": "1"}  # which the recipe reads
    environment = {
        **os.environ,
        **exported,
        "PTAME_ROOT": str(root),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
    }
    return subprocess.Popen(
        line.strip(), shell=True, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


STALL = """import os, pathlib, threading
replace = os.replace
def stalling(source, target, **options):
    replace(source, target, **options)
    if str(target).endswith("ptame-embedded-vgg.ckpt"):
        pathlib.Path(__file__).with_name("reached").touch()
        threading.Event().wait()
os.replace = stalling
"""


def until(condition, process):
    while not condition():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.002)


def test_a_killed_graph(study, tmp_path_factory):
    """Snakemake, its job and the notebook's kernel are killed at the first checkpoint; a second run finishes.

    While the first run works, a second one in the same folder says so and stops.
    """
    usual, stalling = (tmp_path_factory.mktemp("planted") for _ in range(2))
    path = plant(usual)
    results = study / "results" / "tiny"
    checkpoint = results / "ptame-embedded-vgg.ckpt"
    first = make_reproduce(study, plant(stalling, FORKS_AT_ONCE + STALL))
    until((stalling / "reached").is_file, first)
    other = make_reproduce(study, path)
    said, _ = other.communicate()
    for process in [*psutil.Process(first.pid).children(recursive=True), psutil.Process(first.pid)]:
        process.kill()
    first.wait()
    assert other.returncode == 1
    assert "profile tiny is being made by another run (process" in said
    assert "wait for it or stop it" in said

    explainer, history = results / "ptame-embedded-vgg.safetensors", results / "history-ptame-embedded-vgg.csv"
    assert not explainer.exists()
    assert not history.exists()
    again = make_reproduce(study, path)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert not checkpoint.exists()
    found, table = weights(PTAME.load(explainer)), history.read_bytes()
    assert train.app(["--profile", "tiny", "--classifier", "embedded/vgg"], standalone_mode=False) in (
        0,
        None,
    )  # in one go, here
    assert same(weights(PTAME.load(explainer)), found)
    assert history.read_bytes() == table
