"""The trained methods by name. Nothing heavy is imported, so that commands know them before their work begins."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .. import files

TRAINED = {  # method: source; these share notebook 02 and its training loop
    "P-TAME": "Ntrougkas et al., IEEE OJSP 2025",
    "T-TAME": "Ntrougkas et al., IEEE Access 2024",
    "Swap-TAME": "this study's variant of P-TAME",
    "L-CAM-Img": "Gkartzonika et al., ECCV workshops 2022",
    "FastSHAP": "Jethani et al., ICLR 2022",
}
EXPLAINER = {"NN-Explainer": "Stalder et al., NeurIPS 2022"}  # trained by notebook 07, for some classifiers only


class Asking(NamedTuple):
    """The trained method that starts, how many questions the classifier is asked, and in which way (`asking.WAYS`)."""

    start: str
    questions: int
    way: str


QUESTIONS = {  # by what follows the trained method's name: how many questions, in which way
    **{str(n): (n, "steps") for n in (1, 2, 5, 10, 20)},
    **{f"{n} averaged": (n, "averaged") for n in (2, 5)},
    "8 areas": (8, "areas"),
}
ASKING = {  # trained methods with questions to the classifier
    f"{name}+{what}": Asking(name, *how) for name in ("P-TAME", "Swap-TAME") for what, how in QUESTIONS.items()
}
AUXILIARY_CAM, CHANNEL_MEAN, SWAPPED = "auxiliary's CAM", "channel mean", "P-TAME of another classifier"
BESIDE = {  # controls beside P-TAME, not trained on this classifier's answers
    AUXILIARY_CAM: "control: knows the classes, not the classifier",
    CHANNEL_MEAN: "control: the auxiliary's second level, ignores class and classifier",
    SWAPPED: "control: was trained for another classifier",
}
SHIPPED = {"lite/2": "lite2.safetensors"}  # classifiers whose explainer comes with this package
OWN, LAST = "own", "last"  # "own:NAME", "last:NAME": features of the classifier NAME itself, T-TAME's or L-CAM's


def method_and_features(auxiliary: str, method: str = "P-TAME") -> tuple[str, str]:
    """The method that uses features of this stored name, and the features in words.

    ``method``: that of a frozen auxiliary's features, as its file names it.
    """
    kind, _, classifier = auxiliary.partition(":")
    if kind in (OWN, LAST) and classifier:
        return {OWN: "T-TAME", LAST: "L-CAM-Img"}[kind], f"those of {classifier}: features of the classifier itself"
    return method, f"those of the frozen auxiliary network {auxiliary}"


def shipped(classifier: str) -> Path:
    """The file of the explainer that comes with this package; ValueError for a classifier that has none."""
    if classifier not in SHIPPED:
        ours, remedy = " and ".join(SHIPPED), "name the file of one that you have trained"
        raise ValueError(f"no explainer of {classifier} comes with this package, only of {ours}: {remedy}")
    return files.explainers() / SHIPPED[classifier]
