"""The one place that knows the folders of the study.

The root is the checkout that holds this package (an editable install, which is what ``make setup`` and
``environment.yml`` make). Set the environment variable ``PTAME_ROOT`` to work in another folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    """A temporary name to write ``file`` under; it gets its own name when the block ends well, else it is removed: never half there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.stem}.{os.getpid()}.tmp{file.suffix}")
    try:
        yield unfinished
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
