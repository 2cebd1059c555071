"""Files: the study's root, caches, files written whole, and one run at a time in a folder."""

from __future__ import annotations

import errno
import glob
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

ELSEWHERE = "for the whole study: PTAME_ROOT"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
PATIENCE = 5.0  # seconds to wait for a run that is just ending
PROBE = 2**16  # bytes that a disk must still take


def checkout() -> Path | None:
    """The checkout that holds this package; None for an installed copy."""
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").is_file() else None


def study() -> Path | None:
    """The folder of a study: ``$PTAME_ROOT``, else the checkout; None if there is neither."""
    named = os.environ.get("PTAME_ROOT")
    return Path(named).expanduser().resolve() if named else checkout()


def root() -> Path:
    """The study's root, below which results lie: `study`, else the current folder."""
    return study() or Path.cwd()


def embedded() -> Path:
    """The folder of the shipped weights: the study's, else the checkout's, else the package's."""
    return _shipped("embedded", "classifiers/weights")


def zoo() -> Path:
    """The folder of the zoo's shipped weights: the study's, else the checkout's, else the package's."""
    return _shipped("zoo", "classifiers/zoo_weights")


def cutouts() -> Path:
    """The folder of the shipped tables of stamps: the study's, else the checkout's, else the package's."""
    return _shipped("cutouts", "datasets/tables")


def explainers() -> Path:
    """The folder of the shipped explainers: the study's, else the checkout's, else the package's."""
    return _shipped("explainers", "explainers/shipped")


def _shipped(name: str, packed: str) -> Path:
    """``data/name``, which pyproject.toml puts into a wheel as the folder ``packed`` of this package."""
    for place in (study(), checkout()):
        if place and (place / "data" / name).is_dir():
            return place / "data" / name
    return Path(__file__).resolve().parent / packed


def cache() -> Path:
    """The folder for what can be made again: ``data/cache`` of the study, else the user's cache folder."""
    place = study()
    return make_folder(place / "data" / "cache" if place else user_cache_path("ptame-study", appauthor=False))


def make_folder(folder: Path) -> Path:
    """Make a folder and its parents; raises OSError with a remedy where that fails."""
    with explained(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # as below /proc, where the system alone makes folders
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder)) from error
    return folder


def check_name(name: str, what: str = "profile") -> str:
    """Return the name of a folder; raise ValueError for one that is empty, hidden or a path."""
    if not re.fullmatch(r"[\w+-][\w.+-]*", name):
        raise ValueError(f"{what} can't be {name!r}: write letters, digits and _ . + - only, and no . at the start")
    return name


def show(path: Path) -> str:
    """A path to print: relative to the root if it is below it, so that outputs name no machine's folders."""
    path = Path(path)
    return str(path.relative_to(root())) if path.is_relative_to(root()) else str(path)


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Give a temporary name to write ``file`` under; it is renamed when the block ends without an error.

    If the block fails, the temporary file is removed and what was at ``file`` stays. A full disk or a folder that can't
    be written to raises OSError with the folder and a remedy, whatever error the writing library makes of it.
    """
    unfinished = make_folder(file.parent) / f".{file.stem}.{os.getpid()}.tmp{file.suffix}"
    with explained(file):
        try:
            # note the usual mode: safetensors makes files that only their owner may read
            unfinished.touch()
            usual = unfinished.stat().st_mode
            unfinished.unlink()
            yield unfinished
            if unfinished.stat().st_mode != usual:
                unfinished.chmod(usual)
            unfinished.replace(file)
        except Exception as error:
            if not isinstance(error, OSError):  # torch and safetensors raise errors of their own: is it the disk?
                _append(unfinished)
            raise
        finally:
            unfinished.unlink(missing_ok=True)


def writable(file: Path) -> None:
    """Raise as `whole` does if ``file`` can't be written: to know it before hours of work, not after."""
    probe = make_folder(file.parent) / f".{file.stem}.{os.getpid()}.probe"
    with explained(file):
        try:
            _append(probe)
        finally:
            probe.unlink(missing_ok=True)


def _append(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(bytes(PROBE))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Name ``path`` and a remedy in the errors of a full disk or a folder that is not writable."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            problem = f"no space left for {show(path)}: free some on the disk of {path.parent}, or write to another"
        elif error.errno == errno.EISDIR and path.is_dir():
            raise IsADirectoryError(f"{show(path)} is a folder: name a file") from error
        elif error.errno == errno.EEXIST and path.is_file():
            raise FileExistsError(f"{show(path)} is a file: name a folder, which need not exist yet") from error
        elif error.errno in CLOSED:
            reason = os.strerror(error.errno)
            problem = f"{show(path)} can't be written ({reason}): make {path.parent} a writable folder, or choose one"
        else:
            raise
        raise OSError(error.errno, f"{problem} ({ELSEWHERE})") from error


@contextmanager
def alone(file: Path, what: str | None = None) -> Iterator[None]:
    """While the block runs, no other run writes ``file`` or the temporary files next to it.

    The operating system holds the lock, on a hidden file next to ``file``: it ends with the process, even after
    ``kill -9``. Temporary files that a killed run left are removed. ``what``: the name to print instead of the file's.

    Raises RuntimeError with the process that holds the lock, and OSError as `whole` where nothing can be written.
    """
    # take the lock
    mark = make_folder(file.parent) / f".{file.name}.lock"
    lock = FileLock(mark)
    try:
        with explained(file):
            lock.acquire(timeout=PATIENCE)
    except Timeout:
        holder = ""
        with suppress(OSError):
            holder = mark.read_text()
        problem = f"{what or show(file)} is being made by another run ({holder or 'its process is not known'})"
        raise RuntimeError(f"{problem}: wait for it or stop it, or set PTAME_ROOT to another folder") from None
    try:
        # say who holds it, and remove what a killed run left
        mark.write_text(f"process {os.getpid()} on {platform.node()}")
        for left in file.parent.glob(f".{glob.escape(file.stem)}.*.tmp*"):
            left.unlink(missing_ok=True)
        yield
    finally:
        mark.unlink(missing_ok=True)  # before the release: a run that waits sees that it is gone, and makes a new one
        lock.release()
