"""Results on full and read-only disks."""

import errno

import pandas as pd
import pytest
from refusals import ROOM, assert_answer, refused

from ptame_study import paths, records

# name: (what is done in a place, what must come of it)
ROWS = {
    "full disk: text": (
        lambda place: place.small_disk("a.json", lambda f: records.write_whole(f, "x" * 9999)),
        refused(ROOM.format(r"a\.json"), OSError),
    ),
    "full disk: table": (
        lambda place: place.small_disk("a.csv", lambda f: records.write_table(f, pd.DataFrame({"a": range(9999)}))),
        refused(ROOM.format(r"a\.csv"), OSError),
    ),
    "full disk, as the system says it": (
        lambda place: place.refusing(errno.ENOSPC, lambda: records.write_whole(place / "a.json", "x")),
        refused(r"No space left|no space left for a\.json: free some", OSError),
    ),
    "quota": (
        lambda place: place.refusing(errno.EDQUOT, lambda: records.write_whole(place / "a.json", "x")),
        refused(ROOM.format(r"a\.json"), OSError),
    ),
    "read-only folder": (
        lambda place: place.refusing(errno.EACCES, lambda: records.write_whole(place / "a.json", "x")),
        refused(
            r"a\.json can't be written \(Permission denied\): make .* a writable folder, or choose one", PermissionError
        ),
    ),
    "read-only disk": (
        lambda place: place.refusing(errno.EROFS, lambda: records.write_whole(place / "a.json", "x")),
        refused(r"a\.json can't be written \(Read-only file system\): make .* a writable folder", OSError),
    ),
    "folder that is a file": (
        lambda place: records.write_whole(place.file("results") / "a.json", "x"),
        refused(r"results is a file: name a folder, which need", OSError),
    ),
    "results that are a file": (
        lambda place: (place.file("results"), paths.results("x")),
        refused(r"results/x can't be written .*: make .* a writable", OSError),
    ),
    "file that is a folder": (
        lambda place: records.write_whole(place.file("a.json/x").parent, "x"),
        refused(r"a\.json is a folder: name a file", OSError),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)
