"""The one place that knows the folders of the study.

The root is the checkout that holds this package (an editable install, which is what ``make setup`` and
``environment.yml`` make). Set the environment variable ``PTAME_ROOT`` to work in another folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from ptame_lib.files import make_folder, root


def given(name: str | Path) -> Path:
    """A file or folder somebody named, ``~`` allowed: relative names are looked up in ``$PTAME_DATA`` (the ``DATA=`` of ``make reproduce``),
    then in the checkout, and without either are relative to the current folder."""
    name, data = Path(name).expanduser(), os.environ.get("PTAME_DATA")
    if not data or name.is_absolute():
        return name
    there = Path(data).expanduser() / name
    return root() / name if not there.exists() and (root() / name).exists() else there


def notebook(name: str) -> Path:
    """The notebook ``name`` (with or without ``.ipynb``)."""
    return root() / "notebooks" / (name.removesuffix(".ipynb") + ".ipynb")


def profiles() -> Path:
    """The folder with one YAML per profile."""
    return root() / "workflow" / "profiles"


def results(profile: str) -> Path:
    """Tables, JSON records and trained explainers of a profile."""
    return make_folder(root() / "results" / profile)


def figures(profile: str) -> Path:
    """PNG and SVG figures of a profile."""
    return make_folder(root() / "figures" / profile)


def runs(profile: str) -> Path:
    """Executed notebooks of a profile."""
    return make_folder(root() / "runs" / profile)


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
    return make_folder(results(profile) / "per_image") / f"{slug(classifier)}{tail(seed)}.csv"
