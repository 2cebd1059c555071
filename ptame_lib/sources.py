"""From a notebook's parameters to its classifier, auxiliary and images: what differs between the scales of the study.

Every file and folder is looked up by `paths.given`: relative to the ``DATA=`` of ``make reproduce``, so that profiles name no machine's folders.
Parameters that a notebook has not are as if they were empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from . import checks, paths
from .classifiers import Classifier, load_classifier
from .coarse import Coarse, class_number, read_columns, read_groups
from .datasets import Embedded, ImageFolder, Pictures, Shards, load_embedded, load_imagenet, load_imagenette
from .features import FeatureExtractor, load_auxiliary
from .folding import fold_batch_norms

LAYOUTS = {"imagenet": load_imagenet, "imagenette": load_imagenette}  # "imagenet:val" is torchvision's layout below DATA


def explained(cfg: Any, name: str | None = None) -> Classifier:
    """The classifier ``cfg.classifier`` (or ``name``) with its ``weights`` and ``options``; with ``groups`` the coarse one of these groups.

    Its labels are the groups' names, else those in the table ``labels``, else the classifier's own. Raises as `load_classifier`,
    `read_groups` and `Coarse`, and ValueError for options that are none.
    """
    classifier = load_classifier(name or cfg.classifier, _weights(getattr(cfg, "weights", "default")), **_options(getattr(cfg, "options", ())))
    classifier = fold_batch_norms(classifier)  # it will be asked about masked images by the million
    if groups := getattr(cfg, "groups", ""):
        return Coarse(classifier, read_groups(paths.given(groups)))
    if labels := getattr(cfg, "labels", ""):
        file = paths.given(labels)
        named = {class_number(row["class_id"], file): row["label"].split(",")[0] for row in read_columns(file, "class_id", "label")}
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
    return torch.stack([rows[[i for i, name in group.items() if name == wanted]].mean(0) for wanted in dict.fromkeys(group.values())])


def is_special(cfg: Any) -> bool:
    """Whether the auxiliary is not the usual one of its name, so that an explainer's file does not tell how to load it."""
    return bool(getattr(cfg, "auxiliary_options", ()) or getattr(cfg, "auxiliary_weights", "default") != "default")


def local_files(cfg: Any) -> list[Path]:
    """The files among the parameters that a result depends on: weights and tables."""
    names = [getattr(cfg, key, "") for key in ("weights", "auxiliary_weights", "groups", "labels", "test_list", "val_list")]
    return [file for name in names if name and (file := paths.given(name)).is_file()]


def folder(images: str, classifier: Classifier, size: int = 0) -> Pictures:
    """Images at the classifier's size (or ``size`` pixels), resized and cropped in the paper's proportion (256 to 224): a folder, shards
    (a pattern that ends in ``.tar``), or torchvision's layouts ``imagenet:<split>`` and ``imagenette:<split>`` below the data folder."""
    size = size or classifier.input_size[0]
    kind, _, part = images.partition(":")
    if kind in LAYOUTS and part:
        return LAYOUTS[kind](paths.given("."), part, size, size * 8 // 7)
    return (Shards if images.endswith(".tar") else ImageFolder)(paths.given(images), size, size * 8 // 7)


def pictures(cfg: Any, classifier: Classifier) -> Pictures:
    """All images of ``cfg.images``, with the labels of the table ``cfg.labels`` where it names files, and as the groups' where there are any."""
    data = folder(cfg.images, classifier, getattr(cfg, "size", 0))
    if labels := getattr(cfg, "labels", ""):
        file = paths.given(labels)
        numbers = {row["file"]: class_number(row["class_id"], file) for row in read_columns(file, "class_id", "file")}
        data.labels = [numbers.get(name, label) for name, label in zip(data.names, data.labels, strict=True)]
        if not any(name in numbers for name in data.names):
            raise ValueError(f"{file} names none of the images in {data.where}: its column file must hold paths relative to that folder")
    groups = getattr(cfg, "groups", "")
    if groups and not cfg.images.startswith("imagenette:"):  # whose labels are numbered as its groups already
        group = read_groups(paths.given(groups))
        number = {name: i for i, name in enumerate(dict.fromkeys(group.values()))}
        data.labels = [number.get(group.get(label), -1) for label in data.labels]
    return data


def held_out(cfg: Any, classifier: Classifier) -> Embedded | Pictures:
    """``cfg.test_images`` images to evaluate on: of the embedded test part, or of ``cfg.images``; the part ``val`` where ``cfg.part`` says so."""
    part = getattr(cfg, "part", "test")
    if not cfg.images:
        return load_embedded(part, cfg.val_images if part == "val" else cfg.test_images, seed=cfg.seed)
    return parts(cfg, classifier)[part]


def split(cfg: Any, classifier: Classifier) -> tuple[Embedded | Pictures, Embedded | Pictures]:
    """Images to train on and `held_out` images: embedded ones, or ``cfg.images`` in parts that share none."""
    if not cfg.images:
        return load_embedded("train", cfg.train_images, seed=cfg.seed), held_out(cfg, classifier)
    found = parts(cfg, classifier, 1)
    return found["train"], found["test"]


def parts(cfg: Any, classifier: Classifier, needed: int = 0) -> dict[str, Pictures]:
    """``cfg.images`` as ``test``, ``val`` and ``train``, which share none: the images of the text files ``test_list`` and ``val_list``,
    or ``test_images`` and ``val_images`` drawn by ``split_seed``; the others train. Raises ValueError where they are too few."""
    checks.at_least(1, test_images=cfg.test_images)
    data = pictures(cfg, classifier)
    listed = {part: read_list(paths.given(name)) if (name := getattr(cfg, f"{part}_list", "")) else [] for part in ("test", "val")}
    chosen = {part: data.find(names) for part, names in listed.items()}
    if both := set(chosen["test"]) & set(chosen["val"]):
        raise ValueError(f"{cfg.test_list} and {cfg.val_list} share {len(both)} images, such as {data.names[min(both)]}: they must share none")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(getattr(cfg, "split_seed", cfg.seed))).tolist()
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
        raise FileNotFoundError(f"no list of images at {file}: check the path, or leave it empty to draw images by the seed")
    names = [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice or not names:
        raise ValueError(f"{file} lists {min(twice)} twice" if twice else f"{file} lists no images: write one name a line")
    return names


def _of_auxiliary(cfg: Any) -> tuple[str | Path | None, dict[str, Any]]:
    """The auxiliary's weights and options."""
    return _weights(getattr(cfg, "auxiliary_weights", "default")), _options(getattr(cfg, "auxiliary_options", ()))


def _weights(weights: str) -> str | Path | None:
    if weights in ("default", "none"):
        return None if weights == "none" else weights
    return paths.given(weights) if "/" in weights or "." in weights else weights  # a local file, or a name of torchvision's


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
