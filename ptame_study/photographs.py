"""The small part of a profile on real photographs: notebook 03 for its ``photographs``, where they can be had."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ptame_lib.classifiers.lite import check_installed

from . import paths
from .fetch import fetch_stamps
from .profiles import load_profile
from .records import write_whole
from .run import run_notebook
from .tables import CORE, UNKNOWN, main_table

NETWORKS = ("lite/0", "lite/1", "lite/2")  # which judge the images, and whose features the shipped explainer uses


def told(profile: str) -> list[str]:
    """What `compare_photographs` wrote, for the end of a report; empty where it has not run."""
    file = paths.photographs(profile)
    return ["", file.read_text(encoding="utf-8").rstrip()] if file.is_file() else []


def compare_photographs(profile: str) -> Path:
    """Run notebook 03 for each of the profile's ``photographs``; write its main table, or why there is none, as text.

    A newcomer's first run has no photographs at hand and perhaps no way to fetch them: it goes on then. Raises as
    `run_notebook`.
    """
    named = load_profile(profile).get("photographs", [])
    title = f"Real photographs, cut out and pasted onto others ({', '.join(named)}; percent)"
    try:
        check_installed(*NETWORKS)
        fetch_stamps()
    except (OSError, RuntimeError, ValueError) as error:
        again = "then the same command with ARGS='--forcerun photographs'"
        return write_whole(paths.photographs(profile), f"{title}: not measured.\n{error}; {again}.\n")
    tables = []
    for name in named:
        run_notebook("03_compare", profile, name)
        tables.append(pd.read_csv(paths.results(profile) / f"compare-{paths.slug(name)}.csv"))
    shown = main_table(pd.concat(tables), list(CORE)).to_string(na_rep=UNKNOWN)
    return write_whole(paths.photographs(profile), f"{title}\n\n{shown}\n")
