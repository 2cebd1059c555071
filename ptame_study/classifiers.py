"""From settings to the classifier to explain, and to the auxiliary."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ptame_lib import files
from ptame_lib.classifiers.black_box import BlackBox
from ptame_lib.classifiers.folding import fold_batch_norms
from ptame_lib.classifiers.groups import GroupedClassifier
from ptame_lib.classifiers.lite import MULTI
from ptame_lib.classifiers.loading import EMBEDDED, EMBEDDED_MULTI, load_classifier, load_multilabel
from ptame_lib.classifiers.wrapper import Classifier
from ptame_lib.explainers import features
from ptame_lib.explainers.features import FeatureExtractor, load_auxiliary

from . import paths

if TYPE_CHECKING:  # settings bring what trains
    from .settings import AuxiliarySettings, ClassifierSettings


def read_columns(file: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file that must have these columns.

    Raises FileNotFoundError for a missing file, ValueError for a missing column or an empty cell, naming the line.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no table at {file}: check the path, or name the folder with the data by DATA=/path")
    with file.open(newline="", encoding="utf-8-sig") as lines:
        table = csv.DictReader(lines)
        missing = [name for name in columns if name not in (table.fieldnames or ())]
        if missing:
            wanted = ", ".join(columns)
            raise ValueError(
                f"{file} has no column {', '.join(missing)}: its first line must be a header with {wanted}"
            )
        rows = list(table)
    for number, row in enumerate(rows, 2):
        if any(not row[name] for name in columns):
            raise ValueError(f"line {number} of {file} is incomplete: it must have {', '.join(columns)}")
    return rows


def read_groups(file: Path) -> dict[int, str]:
    """Class number -> name of its group, from a CSV with the columns ``class_id`` and ``group``.

    Raises as `read_columns`, and ValueError for a class number that is invalid or comes twice.
    """
    groups: dict[int, str] = {}
    for row in read_columns(file, "class_id", "group"):
        number = read_class_number(row["class_id"], file)
        if number in groups:
            raise ValueError(f"{file} has class {number} twice: a class is in one group")
        groups[number] = row["group"]
    return groups


def read_class_number(text: str, file: Path) -> int:
    """A class number from a cell of the table ``file``; raises ValueError for anything else."""
    if not text.strip().isdigit():
        raise ValueError(f"{file} has the class number {text!r}: it must be a whole number from 0")
    return int(text)


def load_explained(explained: ClassifierSettings, classes: Sequence[str] = ()) -> Classifier:
    """The classifier to explain, batch norms folded, grouped where there are ``groups``.

    Its labels are the groups' names, else those of the table ``labels``, else its own. With ``classes``, the names of a
    multi-label data set's classes, a classifier that is not embedded is the one fine-tuned on it. Raises as
    `load_classifier`, `read_groups` and `GroupedClassifier`, and FileNotFoundError where nobody has fine-tuned it yet.
    """
    if classes and explained.name == MULTI:
        return fold_batch_norms(load_multilabel(MULTI, len(classes), find_weights(explained.weights)))
    if classes and explained.name not in (*EMBEDDED, *EMBEDDED_MULTI):
        network = load_multilabel(explained.name, len(classes), _find_multilabel_weights(explained), classes)
        return fold_batch_norms(network)
    classifier = load_classifier(explained.name, find_weights(explained.weights), **_arguments(explained.options))
    classifier = fold_batch_norms(classifier)  # it will be asked about masked images by the million
    if explained.groups:
        return GroupedClassifier(classifier, read_groups(paths.given(explained.groups)))

    # names of the classes from the table
    if explained.labels:
        file = paths.given(explained.labels)
        rows = read_columns(file, "class_id", "label")
        named = {read_class_number(row["class_id"], file): row["label"].split(",")[0] for row in rows}
        count = count_classes(classifier, torch.zeros(3, *classifier.input_size))
        classifier.labels = tuple(named.get(i, str(i)) for i in range(count))
    return classifier


def _find_multilabel_weights(explained: ClassifierSettings) -> Path:
    default = explained.weights == "default"
    file = paths.multilabel(explained.profile, explained.name) if default else paths.given(explained.weights)
    if not file.is_file():
        command = f"python -m ptame_study finetune --profile {explained.profile} --classifier {explained.name}"
        raise FileNotFoundError(
            f"no multi-label weights at {files.show(file)}: make them by {command}, or name a file as weights"
        )
    return file


def load_auxiliary_network(auxiliary: AuxiliarySettings) -> FeatureExtractor:
    """The auxiliary as a frozen extractor of features. Raises as `load_auxiliary`, about ``auxiliary_weights``."""
    layers = [int(name) if name.isdigit() else name for name in auxiliary.layers]
    weights = find_weights(auxiliary.weights)
    try:
        return load_auxiliary(auxiliary.name, layers or None, weights, **_arguments(auxiliary.options))
    except (FileNotFoundError, RuntimeError) as error:
        # the remedy is an argument; here and in the command ``weights`` alone are the classifier's
        raise type(error)(re.sub(r"\bweights(?==|\.$)", "auxiliary_weights", str(error))) from error


def load_head(auxiliary: AuxiliarySettings) -> Tensor:
    """The auxiliary's last linear layer, (classes,C), for `PTAME.start_from_head`.

    With ``groups`` it has the mean row of each group. Raises as `load_classifier`, and ValueError for an auxiliary
    without a linear layer.
    """
    rows = features.load_head(auxiliary.name, find_weights(auxiliary.weights), **_arguments(auxiliary.options))
    if not auxiliary.groups:
        return rows
    group = read_groups(paths.given(auxiliary.groups))
    members = [[i for i, name in group.items() if name == wanted] for wanted in dict.fromkeys(group.values())]
    return torch.stack([rows[classes].mean(0) for classes in members])


def find_weights(name: str) -> str | Path | None:
    """Weights as `load_classifier` takes them: None for ``none``, a local file's path, else the name."""
    if name == "none":
        return None
    return paths.given(name) if "/" in name or "." in name else name


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Options as keyword arguments: a mean or std of one number holds for all three colours."""
    three = {name: [float(options[name])] * 3 for name in ("mean", "std") if type(options.get(name)) in (int, float)}
    return options | three


def count_classes(model: Classifier | BlackBox, image: Tensor) -> int:
    """K, from the answer to an image (3,H,W)."""
    with torch.no_grad():
        return model(image[None]).shape[1]


def class_names(data: Dataset) -> tuple[str, ...]:
    """The names of a data set's classes; a class without a name has its number."""
    return tuple(name or str(i) for i, name in enumerate(getattr(data, "dataset", data).names))
