"""Files: the study's root, caches, writing whole files, and one run at a time in a folder."""

from __future__ import annotations

import errno
import glob
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

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
        name = what or show(file)
        raise RuntimeError(
            f"{name} is being made by another run ({_holder(mark)}): wait for it or stop it, or set PTAME_ROOT to another folder"
        ) from None
    try:
        mark.write_text(f"process {os.getpid()} on {platform.node()}")
        for left in file.parent.glob(f".{glob.escape(file.stem)}.*.tmp*"):
            left.unlink(missing_ok=True)
        yield
    finally:
        mark.unlink(
            missing_ok=True
        )  # while it is held: who waits for it sees that the file is gone, and makes a new one
        lock.release()


def _holder(mark: Path) -> str:
    try:
        return mark.read_text() or "its process is not known"
    except OSError:
        return "its process is not known"


ELSEWHERE = "for the whole study: PTAME_ROOT"


def root() -> Path:
    """The study's root: ``$PTAME_ROOT``, else the checkout, else (package installed as a copy) the current folder."""
    if os.environ.get("PTAME_ROOT"):
        return Path(os.environ["PTAME_ROOT"]).expanduser().resolve()
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def embedded() -> Path:
    """Shipped weights of the embedded classifiers."""
    return root() / "data" / "embedded"


def cache() -> Path:
    """Data sets that were composed once and can be composed again (ignored by git)."""
    return make_folder(root() / "data" / "cache")


def show(path: Path) -> str:
    """``path`` for people: relative to the root where it lies below it, so that outputs name no machine's folders."""
    path = Path(path)
    return str(path.relative_to(root())) if path.is_relative_to(root()) else str(path)


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A temporary name to write ``file`` under; it gets its own name when the block ends well, else it is removed: never half there.

    A full disk, a folder that can't be written to and the like raise OSError (PermissionError ...) saying which folder and what to
    do, whatever the writing library makes of them; what was at ``file`` before stays.
    """
    unfinished = file.with_name(f".{file.stem}.{os.getpid()}.tmp{file.suffix}")
    try:
        make_folder(file.parent)
        try:
            yield unfinished
            unfinished.replace(file)
        except Exception as error:  # torch and safetensors have errors of their own: ask the disk
            reason = error if isinstance(error, OSError) else _asked(unfinished)
            if refusal := _refusal(file, reason):
                raise refusal from error
            raise
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def writable(file: Path) -> None:
    """Raises as `whole` does where ``file`` could not be written: to know it before hours of work, not after."""
    probe = make_folder(file.parent) / f".{file.stem}.{os.getpid()}.probe"
    try:
        if refusal := _refusal(file, _asked(probe)):
            raise refusal
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}


def _refusal(file: Path, error: OSError | None) -> OSError | None:
    """An error for people, of the same kind, where ``file`` could not be written; None for any other."""
    code = getattr(error, "errno", None)
    if code in FULL:
        return OSError(
            code,
            f"no space left for {show(file)}: free some on the disk of {file.parent}, or write to another ({ELSEWHERE})",
        )
    if code in CLOSED:
        return OSError(
            code,
            f"{show(file)} can't be written ({os.strerror(code)}): make {file.parent} a writable folder, or choose one ({ELSEWHERE})",
        )
    return None


def _asked(unfinished: Path) -> OSError | None:
    """Why the disk takes no more of a file, None where it does."""
    try:
        with unfinished.open("ab") as stream:
            stream.write(bytes(2**20))
    except OSError as error:
        return error
    return None


def make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if refusal := _refusal(folder, error):
            raise refusal from error
        raise
    return folder
