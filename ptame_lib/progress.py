"""A progress bar that is visible while work runs and that no notebook stores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(total: int, what: str, shown: bool = True) -> Iterator[tqdm]:
    """Show a tqdm bar on stderr: ``with progress(100, "train") as bar: ...; bar.update()``.

    In a notebook the output of the cell is cleared when the work is done, so keep such a call in a cell of its own.
    If several processes work, only one of them has it ``shown``.
    """
    # a running kernel, not just its package: pytest's plugin for notebooks imports that one too
    ipython = sys.modules.get("IPython")
    notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    interval = 2.0 if notebook else 0.2
    options = {"leave": False, "disable": not shown, "dynamic_ncols": not notebook, "mininterval": interval}
    with tqdm(total=total, desc=what, **options) as bar:
        yield bar
    if notebook:
        sys.modules["IPython.display"].clear_output()  # loaded by every kernel; the library itself needs no notebook
