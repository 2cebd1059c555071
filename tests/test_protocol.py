"""What docs/protocol.md fixes is what the shipped files and the profile of the full study have."""

import hashlib
import re
from importlib.util import module_from_spec, spec_from_file_location

import pandas as pd
import pytest

from ptame_lib import files
from ptame_study import profiles

ROOT = files.root()
TEXT = (ROOT / "docs" / "protocol.md").read_text()
SPEC = spec_from_file_location("choose_settings", ROOT / "workflow" / "choose_settings.py")


@pytest.fixture
def choose_settings():
    SPEC.loader.exec_module(module := module_from_spec(SPEC))
    return module


def test_the_protocol_has_the_hashes_of_the_shipped_weights():
    told = dict(re.findall(r"^\| `data/embedded/([\w-]+\.safetensors)` \| `([0-9a-f]{64})` \|", TEXT, re.MULTILINE))
    shipped = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files.embedded().iterdir()}
    assert told == shipped


def test_the_best_trials_are_the_settings_of_the_full_study(choose_settings):
    trials = pd.read_csv(ROOT / "results" / "reference" / "trials.csv")
    best = trials.loc[trials.groupby("method")["score"].idxmin()].set_index("method")
    bold = {name: float(rate) for name, rate in re.findall(r"^\| ([\w-]+) \| \*\*([\d.]+)\*\* \|", TEXT, re.MULTILINE)}
    for method in profiles.load_profile(profiles.FULL)["notebooks"]["03_compare"]["trained"]:
        mine = trials[trials["method"] == method]
        assert [*zip(mine["lr"], mine["warmup"], strict=True)] == [
            (t["lr"], t["warmup"]) for t in choose_settings.TRIALS
        ]
        used = profiles.parameters_for(profiles.FULL, "02_train_ptame", "embedded/vgg", method=method)
        assert used["lr"] == best.loc[method, "lr"] == bold[method]
        assert {"loss", "training"}.isdisjoint(used)  # the authors' loss and the default warm-up, as in the trials


def test_the_seeds_are_those_of_the_full_study():
    content = profiles.load_profile(profiles.FULL)
    assert content["seeds"] == [0, 1, 2, 3, 4]
    assert "0, 1, 2, 3, 4: each composes its own 6000 images" in TEXT
    assert content["notebooks"]["03_compare"]["seed"] == 20281
    for notebook in ("05_auxiliary", "06_sanity", "08_explainer_compare", "13_strata"):
        assert content["notebooks"][notebook]["seed"] == 20261
    assert content["notebooks"]["12_whose_evidence"]["seed"] == 20302
    assert content["notebooks"]["12_whose_evidence"]["seeds"] == content["seeds"]
    assert content["notebooks"]["14_sticker"]["seed"] == 20301
    assert profiles.load_profile("real-full")["notebooks"]["14_sticker"]["seed"] == 20304


def test_a_trials_score_by_hand(choose_settings, monkeypatch):
    """The control against itself is 1; half of every drop and twice every gain is .5."""
    control = pd.Series({"AD@25": 40.0, "deletion": 20.0, "insertion": 30.0, "precision@truth": 25.0, "AP": 1.0})
    better = pd.Series({"AD@25": 20.0, "deletion": 10.0, "insertion": 60.0, "precision@truth": 50.0, "AP": 1.0})
    assert choose_settings.score(control, control) == 1
    assert choose_settings.score(better, control) == 0.5
