"""Where a profile's time went, from notebooks made by hand."""

import importlib.util
import json
from pathlib import Path

import pytest

FILE = Path(__file__).parent.parent / "workflow" / "bench" / "spent.py"


@pytest.fixture(scope="module")
def spent():
    spec = importlib.util.spec_from_file_location("spent", FILE)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def cell(kind, source, seconds=None):
    return {
        "cell_type": kind,
        "source": [source],
        "metadata": {} if seconds is None else {"papermill": {"duration": seconds}},
    }


def test_seconds_by_section(spent, tmp_path):
    cells = [
        cell("code", "a", 2),
        cell("markdown", "## Train\nmore", 0),
        cell("code", "b", 30),
        cell("code", "c", None),
    ]
    (tmp_path / "one.ipynb").write_text(json.dumps({"cells": cells}))
    (tmp_path / "two.ipynb").write_text(json.dumps({"cells": [cell("code", "a", 50)]}))
    told = spent.text(spent.by_section(tmp_path)).splitlines()
    assert [line.split() for line in told] == [
        ["50", "two", "(start", "50)"],
        ["32", "one", "(Train", "30,", "start", "2)"],
        ["82", "all", "jobs"],
    ]
    with pytest.raises(ValueError, match=r"no executed notebooks in .*: run make reproduce"):
        spent.by_section(tmp_path / "none")
