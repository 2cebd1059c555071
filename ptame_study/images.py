"""From a notebook's parameters to images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from ptame_lib.classifiers.loading import EMBEDDED
from ptame_lib.classifiers.wrapper import Classifier
from ptame_lib.datasets import first
from ptame_lib.datasets.coco import COCO
from ptame_lib.datasets.embedded import Embedded, load_embedded
from ptame_lib.datasets.folders import ImageFolder, Pictures
from ptame_lib.datasets.imagenet import load_imagenet, load_imagenette
from ptame_lib.datasets.shards import Shards
from ptame_lib.datasets.voc import VOC
from ptame_lib.validation import check_at_least

from . import paths
from .classifiers import class_number, read_columns, read_groups

LAYOUTS = {
    "imagenet": load_imagenet,
    "imagenette": load_imagenette,
}  # "imagenet:val" is torchvision's layout below DATA


def open_images(images: str, classifier: Classifier, size: int = 0) -> Pictures:
    """Images at the classifier's size (or ``size`` pixels), resized and cropped in the paper's proportion (256 to 224): a folder, shards
    (a pattern that ends in ``.tar``), or torchvision's layouts ``imagenet:<split>`` and ``imagenette:<split>`` below the data folder."""
    size = size or classifier.input_size[0]
    kind, _, part = images.partition(":")
    if kind in LAYOUTS and part:
        return LAYOUTS[kind](paths.given("."), part, size, size * 8 // 7)
    return (Shards if images.endswith(".tar") else ImageFolder)(paths.given(images), size, size * 8 // 7)


def labelled_images(cfg: Any, classifier: Classifier) -> Pictures:
    """All images of ``cfg.images``, with the labels of the table ``cfg.labels`` where it names files, and as the groups' where there are any."""
    data = open_images(cfg.images, classifier, getattr(cfg, "size", 0))
    if labels := getattr(cfg, "labels", ""):
        file = paths.given(labels)
        numbers = {row["file"]: class_number(row["class_id"], file) for row in read_columns(file, "class_id", "file")}
        data.labels = [numbers.get(name, label) for name, label in zip(data.names, data.labels, strict=True)]
        if not any(name in numbers for name in data.names):
            raise ValueError(
                f"{file} names none of the images in {data.where}: its column file must hold paths relative to that folder"
            )
    groups = getattr(cfg, "groups", "")
    if groups and not cfg.images.startswith("imagenette:"):  # whose labels are numbered as its groups already
        group = read_groups(paths.given(groups))
        number = {name: i for i, name in enumerate(dict.fromkeys(group.values()))}
        data.labels = [number.get(group.get(label), -1) for label in data.labels]
    return data


def held_out_images(cfg: Any, classifier: Classifier) -> Embedded | Pictures:
    """``cfg.test_images`` images to evaluate on: of the embedded test part, or of ``cfg.images``; the part ``val`` where ``cfg.part`` says so."""
    part = getattr(cfg, "part", "test")
    if not cfg.images:
        return load_embedded(part, cfg.val_images if part == "val" else cfg.test_images, seed=cfg.seed)
    return split_images(cfg, classifier)[part]


def train_and_test(cfg: Any, classifier: Classifier) -> tuple[Embedded | Pictures, Embedded | Pictures]:
    """Images to train on and `held_out` images: embedded ones, or ``cfg.images`` in parts that share none."""
    if not cfg.images:
        return load_embedded("train", cfg.train_images, seed=cfg.seed), held_out_images(cfg, classifier)
    found = split_images(cfg, classifier, 1)
    return found["train"], found["test"]


def split_images(cfg: Any, classifier: Classifier, needed: int = 0) -> dict[str, Pictures]:
    """``cfg.images`` as ``test``, ``val`` and ``train``, which share none: the images of the text files ``test_list`` and ``val_list``,
    or ``test_images`` and ``val_images`` drawn by ``split_seed``; the others train. Raises ValueError where they are too few."""
    check_at_least(1, test_images=cfg.test_images)
    data = labelled_images(cfg, classifier)
    listed = {
        part: read_list(paths.given(name)) if (name := getattr(cfg, f"{part}_list", "")) else []
        for part in ("test", "val")
    }
    chosen = {part: data.find(names) for part, names in listed.items()}
    if both := set(chosen["test"]) & set(chosen["val"]):
        raise ValueError(
            f"{cfg.test_list} and {cfg.val_list} share {len(both)} images, such as {data.names[min(both)]}: they must share none"
        )
    order = torch.randperm(
        len(data), generator=torch.Generator().manual_seed(getattr(cfg, "split_seed", cfg.seed))
    ).tolist()
    taken = {i for part in chosen.values() for i in part}
    left = [i for i in order if i not in taken]
    for part in ("test", "val"):
        if not listed[part]:
            count = getattr(cfg, f"{part}_images", 0)
            if len(left) < count + needed:
                others = " and others to train on" if needed else ""
                raise ValueError(f"{cfg.images} has {len(data)} images, too few for {part}_images={count}{others}")
            chosen[part], left = sorted(left[:count]), left[count:]
    return {part: data.part(indices) for part, indices in (chosen | {"train": sorted(left)}).items()}


def read_list(file: Path) -> list[str]:
    """Images' names from a text file, one a line; what follows a space (a class number) is left out.

    Raises FileNotFoundError for a missing file, ValueError for an empty one and for a name that comes twice.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"no list of images at {file}: check the path, or leave it empty to draw images by the seed"
        )
    names = [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice or not names:
        raise ValueError(
            f"{file} lists {min(twice)} twice" if twice else f"{file} lists no images: write one name a line"
        )
    return names


DATASETS = ("embedded", "voc2007", "coco2014")


SIZE = 224  # pixels per side, aspect not kept, as published


def multilabel_images(
    dataset: str, split: str, n: int = 0, *, truth: bool = False, seed: int = 0, classifier: str = ""
) -> Dataset:
    """The first ``n`` (0: all) images of ``train``, ``val`` or ``test`` for ``classifier``, with ``labels`` (N,K) of all of them.

    They are multi-label images; for a single-label embedded classifier the embedded single-label ones, with one-hot labels, and the truth
    (N,H,W) of their one object. ``voc2007`` and ``coco2014`` lie below DATA; ``truth`` asks for the objects' pixels, which VOC has for
    few of its images, and takes these alone. Raises ValueError for another data set, for one that is not the classifier's, and as the
    data sets do.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown dataset {dataset!r}: choose {', '.join(DATASETS)}")
    if classifier in EMBEDDED:
        if dataset != "embedded":
            raise ValueError(f"{classifier} knows the embedded images alone: set dataset to embedded, not {dataset}")
        data = load_embedded(split, n, seed=seed)
        return replace(data, labels=F.one_hot(data.labels, len(data.names)).bool())
    if dataset == "embedded":
        return load_embedded(split, n, multi_label=True, seed=seed)
    folder = paths.given(".")
    data = VOC(folder, split, SIZE, truth=truth) if dataset == "voc2007" else COCO(folder, split, SIZE, seed=seed)
    return first(data, min(n, len(data))) if n else data
