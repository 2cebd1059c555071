"""Where the time of a finished profile went: seconds by job and section, from its executed notebooks.

Jobs have one thread, so seconds are about core seconds.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd


def by_section(folder: Path) -> pd.DataFrame:
    """Columns job, section, seconds of the executed notebooks in ``folder``; a section begins with a heading."""
    rows = []
    for file in sorted(folder.glob("*.ipynb")):
        section = "start"
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown" and source.startswith("#"):
                section = source.splitlines()[0].lstrip("# ")
            seconds = cell["metadata"].get("papermill", {}).get("duration") or 0.0
            rows.append({"job": file.stem, "section": section, "seconds": seconds})
    if not rows:
        raise ValueError(f"no executed notebooks in {folder}: run make reproduce for this profile first")
    return pd.DataFrame(rows).groupby(["job", "section"], sort=False)["seconds"].sum().reset_index()


def text(found: pd.DataFrame, named: int = 3) -> str:
    """A line per job, the dearest first, with its dearest sections; then the sum."""
    lines = []
    for job, part in sorted(found.groupby("job"), key=lambda pair: -pair[1]["seconds"].sum()):
        dear = part.nlargest(named, "seconds")
        told = ", ".join(f"{row.section} {row.seconds:.0f}" for row in dear.itertuples() if row.seconds >= 1)
        lines.append(f"{part['seconds'].sum():8.0f}  {job} ({told})")
    return "\n".join([*lines, f"{found['seconds'].sum():8.0f}  all jobs"])
