"""The first run's part on real photographs: a table where they can be had, and else a sentence."""

import pandas as pd
import pytest

from ptame_study import paths, photographs
from ptame_study.__main__ import main

ROW = {"classifier": "lite/2, singles", "method": "P-TAME", "metric": "pointing", "value": 71.25, "low": 60, "high": 80}


@pytest.fixture
def profile(study_root):
    folder = study_root / "workflow" / "profiles"
    folder.mkdir(parents=True)
    (folder / "x.yaml").write_text("classifiers: [embedded/vgg]\nphotographs: [lite/2]\nnotebooks: {}\n")
    return "x"


def test_without_photographs_the_table_says_so_and_the_run_goes_on(profile, monkeypatch, capsys):
    def nowhere():
        raise FileNotFoundError("no stamps of it: put them there")

    monkeypatch.setattr(photographs, "check_installed", lambda *names: None)
    monkeypatch.setattr(photographs, "fetch_stamps", nowhere)
    assert main(["photographs", "--profile", profile]) == 0
    assert main(["report", "--profile", profile]) == 0
    said = capsys.readouterr().out
    assert "others (lite/2; percent): not measured.\nno stamps of it: put" in said


def test_with_photographs_the_report_ends_on_their_table(profile, monkeypatch, capsys):
    asked = []

    def run(*arguments):
        asked.append(arguments)
        pd.DataFrame([ROW]).to_csv(paths.results(profile) / "compare-lite-2.csv", index=False)

    monkeypatch.setattr(photographs, "check_installed", lambda *names: None)
    monkeypatch.setattr(photographs, "fetch_stamps", lambda: None)
    monkeypatch.setattr(photographs, "run_notebook", run)
    photographs.compare_photographs(profile)
    assert asked == [("03_compare", profile, "lite/2")]
    assert main(["report", "--profile", profile]) == 0
    *_, head, _, row = capsys.readouterr().out.splitlines()
    assert "pointing" in head
    assert row.split() == ["lite/2,", "singles", "P-TAME", "71.2"]


def test_a_failing_notebook_fails_the_job(profile, monkeypatch):
    def fail(*_):
        raise RuntimeError("cell 3 failed")

    monkeypatch.setattr(photographs, "check_installed", lambda *names: None)
    monkeypatch.setattr(photographs, "fetch_stamps", lambda: None)
    monkeypatch.setattr(photographs, "run_notebook", fail)
    with pytest.raises(RuntimeError, match="cell 3 failed"):
        photographs.compare_photographs(profile)
