"""What `ptame train` does: from a folder of images to an explainer with its model card."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ptame_lib import files
from ptame_lib.classifiers.black_box import BlackBox
from ptame_lib.classifiers.loading import load_classifier
from ptame_lib.classifiers.wrapper import Classifier
from ptame_lib.datasets.folders import Pictures
from ptame_lib.explainers.card import write_model_card
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.training.calibration import calibrate
from ptame_lib.training.ptame import TrainingConfig

from ..classifiers import count_classes, find_weights, load_auxiliary_network
from ..evaluation import measure_explainer
from ..explainers import description, fit_explainer
from ..images import load_parts, open_images
from ..records import sha256
from ..settings import AuxiliarySettings, ClassifierSettings, ImageSettings
from .timing import while_training


def train(
    explained: ClassifierSettings,
    auxiliary: AuxiliarySettings,
    images: ImageSettings,
    config: TrainingConfig,
    out: Path,
    *,
    names: Path | None = None,
    queries_per_image: int = 300,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, float] | None:
    """Train an explainer on a folder of images and save it with its model card.

    Returns its metrics on the held-out ``test_images`` (0: None); as many others calibrate the explainer (0: those of
    the training). ``names``: a text file with the classes' names, one a line. ``say`` is told about the progress. The
    state is kept next to ``out`` until the end, for ``resume``.

    Raises ValueError for an ``out`` that exists, a state of an interrupted training there that is not to be resumed
    (it would be lost), too few images, random weights of the auxiliary, which would be lost,
    or another number of names than of classes; OSError where ``out`` can't be written; and as loading and training do.
    """
    state = {"checkpoint": out.with_suffix(".checkpoint.pt"), "resume": resume}
    _check_out(out, state["checkpoint"], auxiliary, resume)

    # the classifier, and the images that it explains
    labels = None if names is None else read_labels(names)
    model = load_classifier(explained.name, find_weights(explained.weights), labels)
    data, held, test = _load_images(images, model, config.batch_size, say)
    classes = count_classes(model, data[0]["pixels"])
    if labels and len(labels) != classes:
        counts = f"{names} names {len(labels)} classes, {explained.name} has {classes}"
        raise ValueError(f"{counts}: give one name a line")

    # train
    torch.manual_seed(config.seed)
    explainer = PTAME(load_auxiliary_network(auxiliary), classes)
    say(f"Training on {len(data)} images, {config.steps} steps of {config.batch_size}.")
    on_step = while_training(config.steps, say)
    with _saying_how_to_go_on(state["checkpoint"], config.steps, say):
        fit_explainer(explainer, model, data, config, queries_per_image, on_step=on_step, **state)

    # calibrate, measure, and save with what is known
    calibrated = _calibrate(explainer, model, data, held)
    metrics = measure_explainer(explainer, model, test, config.batch_size) if test else None
    folder = f"{len(data)} images of the folder {Path(images.images).resolve().name}"
    told = {"images": folder, "calibrated": calibrated, "metrics": metrics, "auxiliary_weights": auxiliary.weights}
    about_it = description(explained.name, model, config, explained.weights, profile="ptame train", **told)
    _finish(explainer, out, about_it, state["checkpoint"])
    return metrics


def _calibrate(explainer: PTAME, model: Classifier | BlackBox, data: Dataset, held: Dataset | None) -> str:
    """Calibrate on images ``held`` back from training, without such on its ``data``; return on which, in words."""
    if not model.differentiable:
        return "no: the classifier's budget of queries was for the training"
    calibrate(explainer, model, held or data)
    return f"on {len(held)} other images" if held else "on images of the training, since none were held out"


def _finish(explainer: PTAME, out: Path, about_it: dict[str, Any], checkpoint: Path) -> None:
    """Save the explainer with its model card; what was kept to resume the training goes."""
    explainer.save(out, **about_it)
    write_model_card(out)
    for left in (checkpoint, checkpoint.with_suffix(".history.json")):
        left.unlink(missing_ok=True)


@contextmanager
def _saying_how_to_go_on(checkpoint: Path, steps: int, say: Callable[[str], None]) -> Iterator[None]:
    """If the training is interrupted, say what is kept of it, and what to do."""
    try:
        yield
    except KeyboardInterrupt:
        if checkpoint.exists():
            done = len(json.loads(checkpoint.with_suffix(".history.json").read_text()))
            say(f"Stopped after {done} of {steps} steps, kept in {checkpoint}: the same command with --resume goes on.")
        else:
            say("Stopped before the end of the first step: nothing is kept, the same command starts again.")
        raise


def _check_out(out: Path, checkpoint: Path, auxiliary: AuxiliarySettings, resume: bool) -> None:
    """Raise ValueError or OSError for all that can be refused before anything is loaded."""
    if out.suffix != ".safetensors":
        raise ValueError(f"the explainer's file must end in .safetensors, not as {out}")
    if out.exists():
        raise ValueError(f"{out} exists: delete it, or choose another file")
    if checkpoint.exists() and not resume:
        kept = f"{checkpoint} is the state of an interrupted training"
        raise ValueError(f"{kept}: continue it with --resume, delete it, or choose another file")
    if auxiliary.weights == "none":
        raise ValueError(
            "random weights of the auxiliary are not stored with the explainer: give 'default' or a local state dict"
        )
    files.writable(out)


def _load_images(
    images: ImageSettings, model: Classifier | BlackBox, batch_size: int, say: Callable[[str], None]
) -> tuple[Pictures, Pictures | None, Pictures | None]:
    """Images to train on, at least a batch of them; as many as are held out to calibrate with and to measure on.

    None for 0; a classifier that only answers is not asked for a calibration. ``say`` is told about copies.
    """
    data, test = open_images(images.images, model), images.test_images
    held = test if model.differentiable else 0
    if len(data) < held + test + batch_size:
        needed = f"{f'{held} + ' if held else ''}{test} held out and one batch of {batch_size}"
        few = f"{images.images} has {len(data)} images, fewer than {needed}"
        raise ValueError(f"{few}: give more, or lower --held-out or --batch-size")
    if copies := find_copies(getattr(data, "files", ())):  # shards have none
        [copy, first] = (file.relative_to(data.folder) for file in copies[0])
        counted = f"{len(copies)} of {len(data)} images are copies of others, such as {copy} of {first}: take them out."
        say(f"{counted} They add nothing, and of a pair the one may be trained on and the other be held out.")
    if not test:
        return data, None, None
    data, held_back, tested = load_parts(replace(images, val_images=held), ["train", "val", "test"], model)
    return data, held_back if held else None, tested


def find_copies(images: Iterable[Path]) -> list[tuple[Path, Path]]:
    """The files whose content an earlier one has, each with the first such; those that can't be read are left out."""
    alike = [list(images)]
    for of in (lambda file: file.stat().st_size, sha256):  # the quickest first: few files are read to their end
        alike = [part for group in alike for part in _grouped(group, of) if len(part) > 1]
    return [(copy, first) for first, *copies in alike for copy in copies]


def _grouped(images: Iterable[Path], of: Callable[[Path], Hashable]) -> Iterable[list[Path]]:
    """Files that have the same ``of`` them, in their order."""
    groups: dict[Hashable, list[Path]] = {}
    for file in images:
        with suppress(OSError):
            groups.setdefault(of(file), []).append(file)
    return groups.values()


def read_labels(file: Path) -> list[str]:
    """Names of classes from a text file, one a line; ValueError for a file that is not text."""
    if not file.is_file():
        raise FileNotFoundError(f"no labels at {file}: give a text file with the name of each class, one a line")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"{file} is no text in UTF-8 ({error.reason})"
        raise ValueError(f"{problem}: save it so, with the name of each class, one a line") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
