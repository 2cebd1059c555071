"""From a notebook's parameters to the classifier to explain, and to its auxiliary."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import Dataset

from ptame_lib import files
from ptame_lib.classifiers.black_box import BlackBox
from ptame_lib.classifiers.folding import fold_batch_norms
from ptame_lib.classifiers.groups import GroupedClassifier
from ptame_lib.classifiers.loading import EMBEDDED, EMBEDDED_MULTI, load_classifier, load_multilabel
from ptame_lib.classifiers.wrapper import Classifier
from ptame_lib.explainers.features import FeatureExtractor, load_auxiliary

from . import paths


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
            raise ValueError(
                f"{file} has no column {', '.join(missing)}: its first line must be a header with {', '.join(columns)}"
            )
        rows = list(table)
    for number, row in enumerate(rows, 2):
        if any(not row[name] for name in columns):
            raise ValueError(f"line {number} of {file} is incomplete: it must have {', '.join(columns)}")
    return rows


def read_groups(file: Path) -> dict[int, str]:
    """Class number -> name of its group, from a CSV with the columns ``class_id`` and ``group``. Raises as `read_columns`, and
    ValueError for a class number that is none or comes twice."""
    groups: dict[int, str] = {}
    for row in read_columns(file, "class_id", "group"):
        number = class_number(row["class_id"], file)
        if number in groups:
            raise ValueError(f"{file} has class {number} twice: a class is in one group")
        groups[number] = row["group"]
    return groups


def class_number(text: str, file: Path) -> int:
    """A class number of a table. Raises ValueError where it is none."""
    if not text.strip().isdigit():
        raise ValueError(f"{file} has the class number {text!r}: it must be a whole number from 0")
    return int(text)


def load_explained(cfg: Any, name: str | None = None) -> Classifier:
    """The classifier ``cfg.classifier`` (or ``name``) with its ``weights`` and ``options``; with ``groups`` the coarse one of these groups.

    Its labels are the groups' names, else those in the table ``labels``, else the classifier's own. Raises as `load_classifier`,
    `read_groups` and `Coarse`, and ValueError for options that are none.
    """
    classifier = load_classifier(
        name or cfg.classifier, _weights(getattr(cfg, "weights", "default")), **_options(getattr(cfg, "options", ()))
    )
    classifier = fold_batch_norms(classifier)  # it will be asked about masked images by the million
    if groups := getattr(cfg, "groups", ""):
        return GroupedClassifier(classifier, read_groups(paths.given(groups)))
    if labels := getattr(cfg, "labels", ""):
        file = paths.given(labels)
        named = {
            class_number(row["class_id"], file): row["label"].split(",")[0]
            for row in read_columns(file, "class_id", "label")
        }
        with torch.no_grad():
            count = classifier(torch.zeros(1, 3, *classifier.input_size)).shape[1]
        classifier.labels = tuple(named.get(i, str(i)) for i in range(count))
    return classifier


def auxiliary_of(cfg: Any) -> FeatureExtractor:
    """The auxiliary ``cfg.auxiliary`` with its ``layers``, ``auxiliary_weights`` and ``auxiliary_options``. Raises as `load_auxiliary`."""
    layers = [int(name) if name.isdigit() else name for name in getattr(cfg, "layers", ())]
    weights, options = _of_auxiliary(cfg)
    return load_auxiliary(cfg.auxiliary, layers or None, weights, **options)


def head_of(cfg: Any) -> Tensor:
    """The auxiliary's own last linear layer, (classes,C), for `PTAME.start_from_head`; with ``groups`` the mean row of each group.

    Raises as `load_classifier`, and ValueError for an auxiliary that is no classifier.
    """
    weights, options = _of_auxiliary(cfg)
    linear = [m for m in load_classifier(cfg.auxiliary, weights, **options).model.modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise ValueError(f"the auxiliary {cfg.auxiliary} has no linear layer to start from: set head to False")
    rows = linear[-1].weight.detach()
    if not getattr(cfg, "groups", ""):
        return rows
    group = read_groups(paths.given(cfg.groups))
    return torch.stack(
        [rows[[i for i, name in group.items() if name == wanted]].mean(0) for wanted in dict.fromkeys(group.values())]
    )


def auxiliary_for(cfg: Any, file: str | Path) -> FeatureExtractor | None:
    """The auxiliary of the trained explainer in ``file``, where the file does not tell how to load it: the authors' (.ckpt) have none in
    them, and ours know neither local weights nor options. None: the file tells."""
    special = getattr(cfg, "auxiliary_options", ()) or getattr(cfg, "auxiliary_weights", "default") != "default"
    return auxiliary_of(cfg) if special or Path(file).suffix == ".ckpt" else None


def local_files(cfg: Any) -> list[Path]:
    """The files among the parameters that a result depends on: weights and tables."""
    names = [
        getattr(cfg, key, "") for key in ("weights", "auxiliary_weights", "groups", "labels", "test_list", "val_list")
    ]
    return [file for name in names if name and (file := paths.given(name)).is_file()]


def _of_auxiliary(cfg: Any) -> tuple[str | Path | None, dict[str, Any]]:
    """The auxiliary's weights and options."""
    return _weights(getattr(cfg, "auxiliary_weights", "default")), _options(getattr(cfg, "auxiliary_options", ()))


def _weights(weights: str) -> str | Path | None:
    if weights in ("default", "none"):
        return None if weights == "none" else weights
    return (
        paths.given(weights) if "/" in weights or "." in weights else weights
    )  # a local file, or a name of torchvision's


def _options(texts: list[str]) -> dict[str, Any]:
    """``["pad_type=same", "mean=0.5"]`` as keyword arguments; ``mean`` and ``std`` are one number or three, ``0.485/0.456/0.406``."""
    options = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise ValueError(f"option {text!r} must be written as name=value, such as pad_type=same")
        options[name] = yaml.safe_load(value)
        if name in ("mean", "std"):
            numbers = [float(v) for v in value.split("/")]
            options[name] = numbers * 3 if len(numbers) == 1 else numbers
    return options


def classifier_for(cfg: Any, data: Dataset) -> Classifier:
    """The classifier ``cfg.classifier`` of ``data``: an embedded one, or a multi-label ``vgg16`` or ``resnet50`` with ``cfg.weights``:
    those fine-tuned for the profile (``default``), or a file.

    Raises FileNotFoundError where nobody fine-tuned it yet, and as `load_multilabel`.
    """
    if cfg.classifier in (*EMBEDDED, *EMBEDDED_MULTI):
        return fold_batch_norms(load_classifier(cfg.classifier))
    file = paths.multilabel(cfg.profile, cfg.classifier) if cfg.weights == "default" else paths.given(cfg.weights)
    if not file.is_file():
        command = f"python -m ptame_study finetune --profile {cfg.profile} --classifier {cfg.classifier}"
        raise FileNotFoundError(
            f"no multi-label weights at {files.show(file)}: make them by {command}, or name a file as weights"
        )
    return fold_batch_norms(load_multilabel(cfg.classifier, len(names_of(data)), file, names_of(data)))


def count_classes(model: Classifier | BlackBox, image: Tensor) -> int:
    """K, from the answer to an image (3,H,W)."""
    with torch.no_grad():
        return model(image[None]).shape[1]


def names_of(data: Dataset) -> tuple[str, ...]:
    """The names of the classes; a class without a name has its number."""
    return tuple(name or str(i) for i, name in enumerate(getattr(data, "dataset", data).names))
