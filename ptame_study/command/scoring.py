"""What `ptame score` asks and writes: the metrics of other tools' maps, with intervals."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptame_lib import files
from ptame_lib.classifiers.loading import load_classifier
from ptame_lib.datasets.folders import ImageFolder, before_crop
from ptame_lib.explainers.card import about
from ptame_lib.explainers.loading import load_explainer
from ptame_lib.methods.catalogue import build_methods
from ptame_lib.metrics.scores import Scores, score
from ptame_lib.texts import printable

from ..classifiers import find_weights, read_class_number, read_columns
from . import origin
from .actions import write_json
from .maps import MapFiles, MaskFiles, check_all, match_files
from .naming import new_pair
from .reporting import check_methods


class Scored(NamedTuple):
    """The `Scores`, and the files that were written."""

    scores: Scores
    written: tuple[Path, Path]


def score_maps(
    maps: Path,
    images: Path,
    classifier: str,
    out: Path,
    *,
    weights: str = "default",
    whole: bool = False,
    truth: Path | None = None,
    targets: Path | None = None,
    method: str | None = None,
    explainer: Path | None = None,
    quick: bool = False,
    seed: int = 0,
) -> Scored:
    """Score the ``maps`` of all ``images`` below a folder; means go into the JSON ``out``, values per image beside it.

    ``maps`` and masks of the ``truth`` are folders with a file for each image (`match_files`). ``whole``: maps are of
    whole images, not of what the classifier sees. ``targets``: a CSV of file, class_id; by default the classifier's
    decisions are explained. ``method``: the catalogue's name of what made the maps, or the trained ``explainer``, for
    the checks that ask it again. ``quick``: without what asks the classifier most often. Raises as `score`,
    `match_files`, `load_classifier` and `read_columns`, and ValueError for files that exist.
    """
    # all that can be refused before anything is loaded
    table = new_pair(out, (".json",), ".csv", "the scores'")
    check_methods([method] if method else [])
    if method and explainer:
        raise ValueError("the maps can't be both of a method and of an explainer: give --method or --explainer")
    model = load_classifier(classifier, find_weights(weights))
    size = model.input_size
    pictures = ImageFolder(images, size, before_crop(size))
    given = MapFiles(match_files(maps, pictures.names), pictures, whole)
    masks = None if truth is None else MaskFiles(match_files(truth, pictures.names, "mask"), pictures)
    classes = None if targets is None else _read_targets(targets, pictures.names)
    for each in (given, masks):
        check_all(each or ())

    # measure
    again = _again(model, method, explainer)
    options = {"names": [f"the map {file}" for file in given.files], "curves": not quick, "seed": seed}
    found = score(model, pictures, given, targets=classes, truth=masks, **again, **options)

    # write
    made_from = {"classifier": origin.of_classifier(model, classifier, weights), **origin.code()}
    told = {"maps": printable(maps.name), "images": printable(images.name), "number": len(pictures)}
    told |= {"whole": whole, "method": method, "explainer": explainer and printable(explainer.name), "seed": seed}
    write_json(out, told | found.as_dict() | {"provenance": made_from})
    _write_table(table, pictures.names, found)
    return Scored(found, (out, table))


def _read_targets(file: Path, names: Sequence[str]) -> Tensor:
    """The class (N,) of each image; ValueError for an image that the table lacks."""
    classes = {row["file"]: read_class_number(row["class_id"], file) for row in read_columns(file, "file", "class_id")}
    if missing := [name for name in names if name not in classes]:
        such = f"{file} has no class for {len(missing)} of {len(names)} images, such as {missing[0]}"
        raise ValueError(f"{such}: its column file must hold paths relative to the folder of the images")
    return torch.tensor([classes[name] for name in names])


def _again(model: torch.nn.Module, method: str | None, explainer: Path | None) -> dict[str, Any]:
    """What `score` takes to ask again for maps."""
    if method:
        return {"method": lambda classifier: build_methods(classifier, names=[method])[0].explain}
    if explainer:
        known = about(explainer)
        return {"explain": load_explainer(explainer, model if ":" in known["auxiliary"] else None).explain}
    return {}


def _write_table(file: Path, names: Sequence[str], found: Scores) -> None:
    """The values of each image as CSV, to four decimals; empty where a metric is not defined."""
    with files.whole(file) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as lines:
        table = csv.writer(lines)
        table.writerow(["image", *found.values])
        columns = [values.tolist() for values in found.values.values()]
        for name, *row in zip(names, *columns, strict=True):
            table.writerow([printable(name), *("" if value != value else f"{value:.4f}" for value in row)])
