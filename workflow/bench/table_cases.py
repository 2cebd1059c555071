"""The comparison's tables of 5 methods and every metric: 50 000 images beside 5 000, in seconds and megabytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from measure import peak, row, seconds

from ptame_study import tables

FEW, MANY = 5_000, 50_000
METHODS = ("P-TAME", "RISE", "Grad-CAM", "LayerCAM", "random")


def values(images: int) -> pd.DataFrame:
    """Per-image values drawn at random: shares are yes or no, other metrics anything in percent."""
    rng = np.random.default_rng(0)
    parts = []
    for method in METHODS:
        drawn = {name: 100 * rng.random(images) for name in tables.METRICS}
        drawn |= {name: 100.0 * (of > 60) for name, of in drawn.items() if tables.SHARE.fullmatch(name)}
        parts.append(pd.DataFrame({"classifier": "net", "method": method, "image": range(images), **drawn}))
    return pd.concat(parts, ignore_index=True)


def make(per_image: pd.DataFrame) -> None:
    """Means with intervals, marks, paired tests and intervals of ranks."""
    for table in (tables.tidy, tables.leaders, tables.wins, tables.rank_intervals):
        table(per_image)


def making() -> dict[str, Callable]:
    """The values and their tables, after a small one for what any needs."""
    make(values(200))
    return {str(n): lambda n=n: make(values(n)) for n in (FEW, MANY)}


PEAKS = {"tables": making}


def rows() -> list[dict]:
    of = {n: values(n) for n in (FEW, MANY)}
    spent = {n: [seconds(lambda given=given: make(given))] for n, given in of.items()}
    what = f"tables of {len(METHODS)} methods and {len(tables.METRICS)} metrics, {MANY} images beside {FEW}"
    memory = [peak(f"tables.{n}", repeats=1) for n in (MANY, FEW)]
    return [
        row(f"{what} (s)", spent[MANY], spent[FEW], 1.0),
        row(f"{what}: peak memory with the values (MB)", *memory, 1.0),
    ]
