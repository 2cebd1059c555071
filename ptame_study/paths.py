"""The folders and file names of the study, below its root: ``$PTAME_ROOT``, by default the checkout.

Those of a profile raise ValueError for a name that is a path (`check_name`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ptame_lib.files import check_name, make_folder, root

ENDING = ".explained"  # of the figures of `ptame explain` and their JSON, before the suffix


def is_figure(file: Path) -> bool:
    """Whether a file is a figure of `ptame explain`, with its JSON beside it: found again, it is no image."""
    return file.name.endswith(f"{ENDING}.png") and file.with_suffix(".json").is_file()


def given(name: str | Path) -> Path:
    """A file or folder that the user named; ``~`` is allowed.

    Relative names are looked up in ``$PTAME_DATA`` (the ``DATA=`` of ``make reproduce``), then in the root; without
    ``$PTAME_DATA`` they are relative to the current folder.
    """
    name, folder = Path(name).expanduser(), data()
    if not folder or name.is_absolute():
        return name
    there = folder / name
    return root() / name if not there.exists() and (root() / name).exists() else there


def data() -> Path | None:
    """The folder named by ``$PTAME_DATA``, if any."""
    named = os.environ.get("PTAME_DATA")
    return Path(named).expanduser() if named else None


def notebook(name: str) -> Path:
    """The notebook ``name`` (with or without ``.ipynb``)."""
    return root() / "notebooks" / (name.removesuffix(".ipynb") + ".ipynb")


def profiles() -> Path:
    """The folder with one YAML per profile."""
    return root() / "workflow" / "profiles"


def results(profile: str) -> Path:
    """Tables, JSON records and trained explainers of a profile."""
    return make_folder(root() / "results" / check_name(profile))


def figures(profile: str) -> Path:
    """PNG and SVG figures of a profile."""
    return make_folder(root() / "figures" / check_name(profile))


def runs(profile: str) -> Path:
    """Executed notebooks of a profile."""
    return make_folder(root() / "runs" / check_name(profile))


def explainer(profile: str, classifier: str, method: str = "P-TAME", seed: int = 0) -> Path:
    """The explainer of a trained ``method``: ``ptame-embedded-vgg.safetensors``; of seed 1 ``...-seed1``."""
    return results(profile) / f"{stem(method)}-{slug(classifier)}{tail(seed)}.safetensors"


def shipped_explainers() -> Path:
    """The folder of the explainers of embedded classifiers that come with the repository."""
    return root() / "data" / "explainers" / "embedded"


def shipped(classifier: str, method: str) -> Path:
    """The explainer of a trained ``method``, training seed 0, that comes with the repository."""
    return shipped_explainers() / f"{stem(method)}-{slug(classifier)}.safetensors"


def masks(profile: str, classifier: str, loss: str = "explainer") -> Path:
    """NN-Explainer trained with a loss (explainer or rtis): ``rtis-embedded-multi-vgg.safetensors``."""
    return results(profile) / f"{loss}-{slug(classifier)}.safetensors"


def multilabel(profile: str, classifier: str) -> Path:
    """The weights of a fine-tuned multi-label classifier: ``multilabel-vgg16.safetensors``."""
    return results(profile) / f"multilabel-{slug(classifier)}.safetensors"


def per_image(profile: str, classifier: str, seed: int = 0) -> Path:
    """The per-image values of the comparison; the JSON next to it says what they were made from."""
    return make_folder(results(profile) / "per_image") / f"{slug(classifier)}{tail(seed)}.csv"


def photographs(profile: str) -> Path:
    """What the profile's small part on real photographs found, as text to print."""
    return results(profile) / "photographs.txt"


def slug(name: str) -> str:
    """A name as a file name: ``embedded/vgg`` -> ``embedded-vgg``, ``ground truth`` -> ``ground-truth``.

    Letters, digits and ``_ . + -`` stay. All others become ``-``, so that no shell, format or pattern reads them.
    """
    return re.sub(r"[^\w.+-]", "-", name)


def stem(method: str) -> str:
    """A trained method as part of a file name: ``L-CAM-Img`` -> ``lcamimg``, ``NN-Explainer`` -> ``explainer``."""
    return slug(method).lower().removeprefix("nn-").replace("-", "")


def tail(seed: int) -> str:
    """A seed of the profile as the end of a file name: nothing for 0."""
    return f"-seed{seed}" if seed else ""
