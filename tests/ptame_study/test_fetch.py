"""The stamps are fetched by apt-get where they are missing; what is there is kept."""

import os

import pytest

from ptame_lib.datasets.cutouts import read_tables
from ptame_lib.datasets.stamps import DEB
from ptame_study.__main__ import main
from ptame_study.fetch import fetch_stamps


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The only folder with programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("PTAME_DATA", raising=False)
    return folder


def apt(folder, script):
    (folder / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "apt-get").chmod(0o755)


def test_without_apt_get_the_wanted_file_and_its_place_are_named(programs, study_root, capsys):
    assert main(["data"]) == 1
    assert f"elsewhere put {DEB} into {study_root / 'data' / 'cache'}" in capsys.readouterr().err


def test_what_apt_get_says_and_a_wrong_file(programs, study_root):
    apt(programs, "echo 'E: Unable to locate package' >&2; exit 100")
    with pytest.raises(RuntimeError, match=r"apt-get download tuxpaint-.* failed \(E: Unable to locate package\): run"):
        fetch_stamps()
    apt(programs, "exit 0")
    with pytest.raises(RuntimeError, match=r"failed \(it left no such file\)"):
        fetch_stamps()
    apt(programs, f"echo page > {DEB}")
    with pytest.raises(ValueError, match="is not the expected file"):
        fetch_stamps()
    assert not any((study_root / "data" / "cache").iterdir())


def test_what_is_there_is_not_fetched_again(programs, study_root, monkeypatch, tmp_path):
    apt(programs, "exit 100")
    stamp = tmp_path / "data folder" / "stamps" / read_tables("test")[0].name
    stamp.parent.mkdir(parents=True)
    stamp.touch()
    monkeypatch.setenv("PTAME_DATA", os.fspath(tmp_path / "data folder"))
    assert fetch_stamps() == tmp_path / "data folder" / "stamps"
