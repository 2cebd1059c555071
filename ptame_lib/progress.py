"""A progress bar that people see while work runs and that no notebook stores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(total: int, what: str, shown: bool = True) -> Iterator[tqdm]:
    """A tqdm bar on stderr: ``with progress(100, "train") as bar: ...; bar.update()``.

    Inside a notebook the cell's output is cleared when the work is done, so keep such a call in a cell of its own.
    Where several processes work, only one of them has it ``shown``.
    """
    in_kernel = "ipykernel" in sys.modules
    options = {
        "leave": False,
        "disable": not shown,
        "dynamic_ncols": not in_kernel,
        "mininterval": 2.0 if in_kernel else 0.2,
    }
    with tqdm(total=total, desc=what, **options) as bar:
        yield bar
    if in_kernel:
        sys.modules["IPython.display"].clear_output()  # loaded by every kernel; the library itself needs no notebook
