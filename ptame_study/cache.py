"""Results that a killed run goes on from: finished tables, and one in the making, on disk."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ptame_lib import files

from .records import write_whole

Tables = tuple[pd.DataFrame, pd.DataFrame]


def cached(file: Path, made_from: dict, compute: Callable[[], Tables]) -> Tables:
    """Per-image values and costs: from ``file`` if made from the same things, else computed and kept.

    As read from the file, so that the first and later runs see the same digits; raises as `keep`.
    """
    cost = keep(file, made_from, compute)
    return read_values(file), cost


def keep(file: Path, made_from: dict, compute: Callable[[], Tables]) -> pd.DataFrame:
    """See to it that ``file`` holds the per-image values made from the given things, and return the costs.

    A JSON beside the CSV holds what it was made from and the costs; it is written last, so a half-finished pair is
    never used. Raises RuntimeError where another run is computing it.
    """
    if (known := _known(file, made_from)) is not None:
        return known
    with files.alone(file):
        if (known := _known(file, made_from)) is not None:  # another run made it while this one waited
            return known
        note = file.with_suffix(".json")
        note.unlink(missing_ok=True)
        per_image, cost = compute()
        with files.whole(file) as unfinished:
            per_image.to_csv(unfinished, index=False, float_format="%.10g", lineterminator="\n")
        write_whole(note, json.dumps({"made_from": made_from, "cost": cost.to_dict("records")}, indent=1))
    return cost


def _known(file: Path, made_from: dict) -> pd.DataFrame | None:
    """The costs of a whole pair that was made from the same things."""
    note = file.with_suffix(".json")
    if not (file.is_file() and note.is_file()):
        return None
    try:
        known = json.loads(note.read_text())
        if known["made_from"] != made_from:
            return None
        _layout(file)
        return pd.DataFrame(known["cost"])
    except (ValueError, KeyError, TypeError):  # a damaged file: compute it again
        return None


PART = 1000  # rows that are read at a time


def read_values(*tables: Path) -> pd.DataFrame:
    """Tables that `keep` wrote, one below the other, with the types that pandas gives to the whole.

    A part at a time is read into its place, so that memory is that of the result: pandas takes several times as much
    for a file as a whole.
    """
    layouts = [_layout(table) for table in tables]
    columns = list(dict.fromkeys(name for _, kinds in layouts for name in kinds))
    kinds = {name: set().union(*(found.get(name, {"f"}) for _, found in layouts)) for name in columns}
    floats = [name for name in columns if "f" in kinds[name] <= {"f", "i"}]
    whole = [name for name in columns if kinds[name] == {"i"}]
    count = sum(count for count, _ in layouts)

    # numbers go to their places, a part of the texts is kept as it is read
    values, numbers = np.full((count, len(floats)), np.nan), {name: np.empty(count, np.int64) for name in whole}
    others, at = {name: [] for name in columns if name not in floats + whole}, 0
    for table in tables:
        for part in pd.read_csv(table, chunksize=PART):
            part, here = part.reindex(columns=columns), slice(at, at + len(part))
            values[here], at = part[floats], here.stop
            for name, column in numbers.items():
                column[here] = part[name]
            for name, found in others.items():
                found.append(part[name].copy())  # not the part's other columns with it

    # columns are added without a copy
    frame = pd.DataFrame(values, columns=floats, copy=False)
    for name in columns:
        if name in numbers:
            frame.insert(columns.index(name), name, pd.Series(numbers[name], copy=False))
        elif name in others:
            frame.insert(columns.index(name), name, pd.concat(others.pop(name), ignore_index=True).infer_objects())
    return frame


def _layout(table: Path) -> tuple[int, dict[str, set[str]]]:
    """The rows of a table, and the kinds of NumPy types that parts of each column have."""
    rows, kinds = 0, {}
    for part in pd.read_csv(table, chunksize=PART):
        rows += len(part)
        for name, column in part.items():
            kinds.setdefault(name, set()).add(column.dtype.kind)
    return rows, kinds


class Rows:
    """Per-image numbers in a text file, a line of JSON per batch, digits exact.

    For use in a ``with`` block. ``file``: kept for the next run; None for a temporary one. Rows an earlier run left
    there are continued if they were ``made_from`` the same, else dropped; a last line that is incomplete is dropped,
    too, and with a warning all from a damaged line on. ``count``: the rows so far.
    """

    def __init__(self, file: Path | None, made_from: dict):
        self.made_from = json.loads(json.dumps(made_from))
        self.count, self.header = 0, None
        if file is None:
            self.stream = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (closed by __exit__)
            return
        files.make_folder(file.parent)
        with files.explained(file):
            file.touch()
            self.stream = file.open("r+", encoding="utf-8", newline="\n")
        # count the whole lines of the same header, and cut off the rest
        self.end = 0
        try:
            self._go_on()
        except (ValueError, KeyError, TypeError):
            what = f"{files.show(file)} is damaged after {self.count} images"
            warnings.warn(f"{what}: the values that follow are computed again", stacklevel=2)
        self.stream.seek(self.end)
        self.stream.truncate()

    def _go_on(self) -> None:
        """Read what an earlier run left, as far as it is whole and of the same; raises for a damaged line."""
        first = self.stream.readline()
        if not first.endswith("\n") or (header := json.loads(first))["made_from"] != self.made_from:
            return
        width, self.header, self.end = len(header["columns"]), header, self.stream.tell()
        while (line := self.stream.readline()).endswith("\n"):
            rows = json.loads(line)["rows"]
            if any(len(row) != width for row in rows):
                raise ValueError(f"a row that has not {width} values")
            self.count, self.end = self.count + len(rows), self.stream.tell()

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *failure: object) -> None:
        self.stream.close()

    def append(self, columns: dict[str, list[float]], **about: float) -> None:
        """Add one batch: its columns, all of one length, and numbers ``about`` it."""
        if self.header is None:
            self.header = {"made_from": self.made_from, "columns": list(columns)}
            self.stream.write(json.dumps(self.header) + "\n")
        rows = list(zip(*columns.values(), strict=True))
        self.stream.write(json.dumps({"rows": rows, **about}) + "\n")
        self.stream.flush()  # what the operating system has survives the process
        self.count += len(rows)

    def table(self) -> tuple[pd.DataFrame, dict[str, list[float]]]:
        """All rows, float64, and the numbers about the batches, in order."""
        values, about, at = np.empty((self.count, len(self.header["columns"]))), {}, 0
        self.stream.seek(0)
        self.stream.readline()
        for line in self.stream:
            batch = json.loads(line)
            rows = batch.pop("rows")
            values[at : at + len(rows)] = rows
            at += len(rows)
            for key, value in batch.items():
                about.setdefault(key, []).append(value)
        return pd.DataFrame(values, columns=self.header["columns"], copy=False), about
