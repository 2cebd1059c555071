"""The one place that knows the folders of the study.

The root is the checkout that holds this package (an editable install, which is what ``make setup`` and
``environment.yml`` make). Set the environment variable ``PTAME_ROOT`` to work in another folder.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ELSEWHERE = "for the whole study: PTAME_ROOT"


def root() -> Path:
    """The study's root: ``$PTAME_ROOT``, else the checkout, else (package installed as a copy) the current folder."""
    if os.environ.get("PTAME_ROOT"):
        return Path(os.environ["PTAME_ROOT"]).expanduser().resolve()
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def given(name: str | Path) -> Path:
    """A file or folder somebody named, ``~`` allowed: relative names are looked up in ``$PTAME_DATA`` (the ``DATA=`` of ``make reproduce``),
    then in the checkout, and without either are relative to the current folder."""
    name, data = Path(name).expanduser(), os.environ.get("PTAME_DATA")
    if not data or name.is_absolute():
        return name
    there = Path(data).expanduser() / name
    return root() / name if not there.exists() and (root() / name).exists() else there


def embedded() -> Path:
    """Shipped weights of the embedded classifiers."""
    return root() / "data" / "embedded"


def cache() -> Path:
    """Data sets that were composed once and can be composed again (ignored by git)."""
    return _made(root() / "data" / "cache")


def notebook(name: str) -> Path:
    """The notebook ``name`` (with or without ``.ipynb``)."""
    return root() / "notebooks" / (name.removesuffix(".ipynb") + ".ipynb")


def profiles() -> Path:
    """The folder with one YAML per profile."""
    return root() / "workflow" / "profiles"


def results(profile: str) -> Path:
    """Tables, JSON records and trained explainers of a profile."""
    return _made(root() / "results" / profile)


def figures(profile: str) -> Path:
    """PNG and SVG figures of a profile."""
    return _made(root() / "figures" / profile)


def runs(profile: str) -> Path:
    """Executed notebooks of a profile."""
    return _made(root() / "runs" / profile)


def slug(name: str) -> str:
    """A name as one file name: ``embedded/vgg`` -> ``embedded-vgg``, ``ground truth`` -> ``ground-truth``."""
    return name.replace("/", "-").replace(" ", "-")


def explainer(profile: str, classifier: str, method: str = "P-TAME", seed: int = 0) -> Path:
    """Where the explainer of a trained ``method`` for ``classifier`` lies: ``ptame-embedded-vgg.safetensors``, of another seed than 0
    ``ptame-embedded-vgg-seed1.safetensors``."""
    return results(profile) / f"{stem(method)}-{slug(classifier)}{tail(seed)}.safetensors"


def tail(seed: int) -> str:
    """A seed of the profile as the end of a file name: nothing for 0."""
    return f"-seed{seed}" if seed else ""


def multilabel(profile: str, classifier: str) -> Path:
    """Where the weights of the multi-label ``classifier`` that was fine-tuned for a profile lie: ``multilabel-vgg16.safetensors``."""
    return results(profile) / f"multilabel-{slug(classifier)}.safetensors"


def masks(profile: str, classifier: str, loss: str = "explainer") -> Path:
    """Where the Explainer trained with a loss (explainer or rtis) for ``classifier`` lies: ``rtis-embedded-multi-vgg.safetensors``."""
    return results(profile) / f"{loss}-{slug(classifier)}.safetensors"


def stem(method: str) -> str:
    """A trained method as part of a file name: ``L-CAM-Img`` -> ``lcamimg``."""
    return method.lower().replace("-", "")


def per_image(profile: str, classifier: str, seed: int = 0) -> Path:
    """Where the per-image values of the comparison for ``classifier`` lie (a JSON beside it tells what they were made from), of
    explainers trained with a seed."""
    return _made(results(profile) / "per_image") / f"{slug(classifier)}{tail(seed)}.csv"


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
        _made(file.parent)
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
    probe = _made(file.parent) / f".{file.stem}.{os.getpid()}.probe"
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
        return OSError(code, f"no space left for {show(file)}: free some on the disk of {file.parent}, or write to another ({ELSEWHERE})")
    if code in CLOSED:
        return OSError(
            code, f"{show(file)} can't be written ({os.strerror(code)}): make {file.parent} a writable folder, or choose one ({ELSEWHERE})"
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


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if refusal := _refusal(folder, error):
            raise refusal from error
        raise
    return folder
