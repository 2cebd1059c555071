"""A classifier asked for groups of its classes instead of the classes themselves."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .classifiers import Classifier


class Coarse(Classifier):
    """A classifier of groups: pixels (B,3,H,W) in [0,1] -> logits (B,G), each the log-sum-exp of the logits of a group's classes.

    The softmax over these logits is then the probability of each group, as the softmax over all classes gives it, among the classes that
    are in any group. It shares the network of ``classifier``; ``groups`` (class number -> group's name) may leave classes out. The
    groups are numbered in the order in which they come first, and are its ``labels``.

    Raises ValueError for no groups, and for a class number that the classifier has not.
    """

    def __init__(self, classifier: Classifier, groups: Mapping[int, str]):
        mean, std = classifier.mean.flatten().tolist(), classifier.std.flatten().tolist()
        super().__init__(classifier.model, mean, std, classifier.input_size, tuple(dict.fromkeys(groups.values())))
        with torch.no_grad():
            count = self.run(torch.zeros(1, 3, *self.input_size, device=classifier.mean.device)).shape[1]
        wrong = [c for c in groups if not 0 <= c < count]
        if wrong or not groups:
            raise ValueError(
                f"the groups name class {wrong[0]}, but the classifier has 0..{count - 1}" if wrong else "there are no groups of classes"
            )
        self.members = [torch.tensor([c for c, name in groups.items() if name == label]) for label in self.labels]

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.run(pixels)
        return torch.stack([logits[:, classes.to(logits.device)].logsumexp(1) for classes in self.members], 1)


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
            raise ValueError(f"{file} has no column {', '.join(missing)}: its first line must be a header with {', '.join(columns)}")
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
