"""Two runs in one folder: the second one says so and stops."""

from __future__ import annotations

import glob
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from . import paths

PATIENCE = 5.0  # seconds to wait for a run that is just ending


@contextmanager
def alone(file: Path, what: str | None = None) -> Iterator[None]:
    """While the block runs, no other run writes ``file``, nor what is kept beside it on the way there.

    The lock is the operating system's, on a hidden file beside ``file``: it ends with the process, ``kill -9`` included, so that
    none is ever left behind. What a killed run left half-written under a temporary name is removed. ``what``: what people call it,
    by default the file's name.

    Raises RuntimeError that names the process which holds it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    mark = file.with_name(f".{file.name}.lock")
    lock = FileLock(mark)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        name = what or paths.show(file)
        raise RuntimeError(
            f"{name} is being made by another run ({_holder(mark)}): wait for it or stop it, or set PTAME_ROOT to another folder"
        ) from None
    try:
        mark.write_text(f"process {os.getpid()} on {platform.node()}")
        for left in file.parent.glob(f".{glob.escape(file.stem)}.*.tmp*"):
            left.unlink(missing_ok=True)
        yield
    finally:
        mark.unlink(missing_ok=True)  # while it is held: who waits for it sees that the file is gone, and makes a new one
        lock.release()


def _holder(mark: Path) -> str:
    try:
        return mark.read_text() or "its process is not known"
    except OSError:
        return "its process is not known"
