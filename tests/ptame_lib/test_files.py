"""Full and read-only disks: the error says what to do, and the file from before stays."""

import errno
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from refusals import ROOM, assert_answer, refused, toy_explainer

from ptame_lib import files
from ptame_study.cache import Rows, cached


def checkpoint(file):
    with files.whole(file) as unfinished:
        torch.save({"x": torch.rand(9999)}, unfinished)


def figure(file):
    with files.whole(file) as unfinished:
        Image.effect_noise((200, 200), 50).save(unfinished)


def onnx(file):
    with files.whole(file) as unfinished:  # as onnx_ir does: in one go, its error is the system's
        unfinished.write_bytes(bytes(9999))


def failing(place):
    with files.whole(place / "a.json"):
        raise KeyError("mine")


# name: (what is done in a place, what must come of it)
ROWS = {
    "full disk: explainer": (
        lambda place: place.small_disk("e.safetensors", toy_explainer(99).save),
        refused(ROOM.format(r"e\.safetensors"), OSError),
    ),
    "full disk: checkpoint": (
        lambda place: place.small_disk("c.pt", checkpoint),
        refused(ROOM.format(r"c\.pt"), OSError),
    ),
    "full disk: figure": (lambda place: place.small_disk("f.png", figure), refused(ROOM.format(r"f\.png"), OSError)),
    "full disk: ONNX": (lambda place: place.small_disk("e.onnx", onnx), refused(ROOM.format(r"e\.onnx"), OSError)),
    "folder below a file": (
        lambda place: toy_explainer().save(place.file("notes.txt") / "new" / "e.safetensors"),
        refused(r"notes\.txt/new can't be written \(Not a directory\): make .* a writable folder", OSError),
    ),
    "folder that the system alone could make": (
        lambda place: toy_explainer().save(Path("/proc/none/e.safetensors")),
        refused(r"/proc/none can't be written \(Permission denied\): make /proc a writable folder, or choose", OSError),
    ),
    "explainer that is a folder": (
        lambda place: toy_explainer().save(place.file("e.safetensors/x").parent),
        refused(r"e\.safetensors is a folder: name a file", OSError),
    ),
    "an error of one's own stays as it is": (failing, refused("^mine$", KeyError)),
}


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_file_has_the_usual_mode_whatever_wrote_it(mask, tmp_path):
    before = os.umask(mask)
    try:
        toy_explainer().save(tmp_path / "e.safetensors")
        figure(tmp_path / "f.png")
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o666 & ~mask}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)


def locked(file):
    with files.alone(file):
        raise AssertionError


def rows(file):
    with Rows(file, {}):
        raise AssertionError


WRITERS = {
    "a run's lock": locked,
    "a file written whole": figure,
    "a probe": files.writable,
    "rows of an evaluation": rows,
    "a table that is kept": lambda file: cached(
        file, {}, lambda: pytest.fail("it was computed before it could be kept")
    ),
}


@pytest.mark.parametrize("there", [True, False], ids=["its folder is there", "its folder is missing"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_read_only_disk_is_named_with_a_remedy(writer, there, tmp_path, monkeypatch):
    """Whoever writes: before work is done, as far as it can be known."""
    folder = tmp_path / "results"
    if there:
        folder.mkdir()
    make, open_ = os.mkdir, os.open

    def refusing(system):
        def call(path, *more, **options):
            if str(tmp_path) in str(path):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return system(path, *more, **options)

        return call

    for name, system in (("mkdir", make), ("open", open_)):
        monkeypatch.setattr(os, name, refusing(system))
    monkeypatch.setattr("io.open", refusing(open))
    with pytest.raises(
        OSError, match=r"results\S* can't be written \(Read-only file system\): make .* a writable folder"
    ):
        WRITERS[writer](folder / "a.csv")
