"""From a notebook's parameters to an explainer and its training: what notebooks, commands and tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import Dataset

from . import paths
from .classifiers import Classifier
from .comparison import evaluate
from .datasets import Embedded, ImageFolder, first, load_embedded
from .features import load_auxiliary
from .losses import PTAMEWeights
from .methods import Method
from .methods.lcam import LCAM, lcam, lcam_config
from .methods.ttame import LAYERS, own_features, ttame
from .ptame import PTAME, saved_config
from .training import TrainingConfig, train_ptame

OWN, LAST = "own", "last"  # names of features that are the classifier's own: T-TAME's levels, L-CAM's last map


def new_explainer(cfg: Any, classifier: Classifier, num_classes: int) -> PTAME:
    """An untrained explainer of ``cfg.method``: P-TAME on ``cfg.auxiliary``, or T-TAME or L-CAM-Img on the classifier's own features.

    ``cfg.layers`` of the auxiliary or the classifier, empty for the published ones; ``cfg.auxiliary_weights``: ``default``, ``none``
    or a file. Raises ValueError for unknown names and layers.
    """
    if cfg.method == "L-CAM-Img":
        return lcam(classifier, num_classes, cfg.layers[0] if cfg.layers else None, f"{LAST}:{cfg.classifier}")
    if cfg.method == "T-TAME":
        if not cfg.layers and cfg.classifier not in LAYERS:
            raise ValueError(f"name the layers of {cfg.classifier} for T-TAME: only {', '.join(LAYERS)} have known ones")
        return ttame(classifier, cfg.layers or LAYERS[cfg.classifier], num_classes, f"{OWN}:{cfg.classifier}")
    return PTAME(load_auxiliary(cfg.auxiliary, cfg.layers or None, None if cfg.auxiliary_weights == "none" else cfg.auxiliary_weights), num_classes)


def load_explainer(
    file: str | Path, classifier: Classifier | None = None, auxiliary: str | None = None, auxiliary_weights: str | Path | None = "default"
) -> PTAME:
    """A trained explainer: ours (.safetensors), or the authors' (.ckpt), which needs the name (and weights) of its ``auxiliary``.

    T-TAME and L-CAM need the ``classifier`` they explain, whose features they use. Raises as `PTAME.load` and `PTAME.load_official_checkpoint`.
    """
    if Path(file).suffix == ".ckpt":
        return PTAME.load_official_checkpoint(file, load_auxiliary(auxiliary or "resnet18", weights=auxiliary_weights))
    about = saved_config(file)
    kind = {OWN: PTAME, LAST: LCAM}.get(about["auxiliary"].split(":")[0])
    if kind is None:
        return PTAME.load(file)
    if classifier is None:
        raise ValueError(f"{file} uses the features of the classifier it explains ({about['auxiliary']}): pass that classifier")
    return kind.load(file, own_features(classifier, json.loads(about["layers"]), about["auxiliary"]))


def training_config(cfg: Any) -> TrainingConfig:
    """The training settings among a notebook's parameters; L-CAM-Img has a loss of its own."""
    config = TrainingConfig(
        steps=cfg.steps,
        batch_size=cfg.batch_size,
        lr=cfg.lr,
        weight_decay=cfg.weight_decay,
        loss=PTAMEWeights(cfg.ce, cfg.area, cfg.smooth, cfg.border, cfg.p),
        seed=cfg.seed,
        optimizer=cfg.optimizer,
        precision=cfg.precision,
        workers=cfg.workers,
        mask=getattr(cfg, "mask", "sigmoid"),
        shares=tuple(getattr(cfg, "shares", (1.0,))),
        tied=getattr(cfg, "tied", False),
    )
    return lcam_config(config) if getattr(cfg, "method", None) == "L-CAM-Img" else config


@dataclass(frozen=True)
class Variant:
    """One thing of P-TAME changed: its ``auxiliary`` (`OWN`: T-TAME) or that one's ``weights``, the number of its last ``levels`` (0: all), or
    of the first training ``images`` (0: all)."""

    name: str
    auxiliary: str
    weights: str | None = "default"
    levels: int = 0
    images: int = 0


def try_variant(variant: Variant, seed: int, cfg: Any, classifier: Classifier, train: Dataset, test: Dataset) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train a variant with ``seed`` and evaluate it: per-image values (classifier, method, seed, image, metrics), and one row about it
    (method, seed, channels, resolution, contributions of the levels)."""
    torch.manual_seed(seed)
    num_classes = classifier(train[0]["pixels"][None]).shape[1]
    if variant.auxiliary == OWN:
        explainer = ttame(classifier, LAYERS[cfg.classifier], num_classes)
    else:
        auxiliary = load_auxiliary(variant.auxiliary, weights=variant.weights)
        if variant.levels:
            auxiliary = load_auxiliary(variant.auxiliary, auxiliary.layers[-variant.levels :], variant.weights)
        explainer = PTAME(auxiliary, num_classes)
    data = first(train, variant.images) if variant.images else train
    train_ptame(explainer, classifier, data, replace(training_config(cfg), seed=seed))
    values, _ = evaluate(classifier, Method(variant.name, explainer.explain, 1, 0, "P-TAME"), test, curves=cfg.curves)
    labels = {"method": variant.name, "seed": seed}
    about = {
        "channels": "/".join(map(str, explainer.auxiliary.channels)),
        "resolution": "{} x {}".format(*explainer.maps(train[0]["pixels"][None], torch.tensor([0])).shape[-2:]),
        "contributions": "/".join(f"{share:.4f}" for share in explainer.contributions().tolist()),
    }
    return values.assign(classifier=cfg.classifier, **labels), pd.DataFrame([labels | about])


def folder(images: str, classifier: Classifier) -> ImageFolder:
    """A folder's images at the classifier's size, resized and cropped in the paper's proportion (256 to 224)."""
    size = classifier.input_size[0]
    return ImageFolder(images, size, resize=size * 8 // 7)


def held_out(cfg: Any, classifier: Classifier) -> Embedded | ImageFolder:
    """``cfg.test_images`` images to evaluate on: of the embedded test part, or drawn from the folder ``cfg.images`` by the seed."""
    return load_embedded("test", cfg.test_images, seed=cfg.seed) if not cfg.images else _parts(cfg, classifier, 0)[1]


def split(cfg: Any, classifier: Classifier) -> tuple[Embedded | ImageFolder, Embedded | ImageFolder]:
    """Images to train on and `held_out` images: embedded ones, or the folder ``cfg.images`` in two parts that share none."""
    return _parts(cfg, classifier, 1) if cfg.images else (load_embedded("train", cfg.train_images, seed=cfg.seed), held_out(cfg, classifier))


def _parts(cfg: Any, classifier: Classifier, needed: int) -> tuple[ImageFolder, ImageFolder]:
    data = folder(cfg.images, classifier)
    if len(data) < cfg.test_images + needed:
        others = " and others to train on" if needed else ""
        raise ValueError(f"{cfg.images} has {len(data)} images, too few for test_images={cfg.test_images}{others}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(cfg.seed))
    parts = (order[cfg.test_images :], order[: cfg.test_images])
    names = [[str(data.files[i].relative_to(data.folder)) for i in part.sort().values] for part in parts]
    return tuple(ImageFolder(data.folder, data.size, data.resize, part) for part in names)


def trained_explainer(profile: str, classifier: str, method: str = "P-TAME") -> Path:
    """The explainer that notebook 02 trains for ``classifier``; where it is missing, 02 is executed first with the profile's settings."""
    return _trained(paths.explainer(profile, classifier, method), f"{method} for {classifier}", profile, "02_train_ptame", classifier, method=method)


def trained_masks(profile: str, classifier: str, loss: str = "explainer") -> Path:
    """The Explainer that notebook 07 trains with a ``loss`` (explainer or rtis), made as `trained_explainer` does."""
    return _trained(paths.masks(profile, classifier, loss), f"{loss} for {classifier}", profile, "07_explainer_train", classifier, loss=loss)


def _trained(file: Path, what: str, profile: str, notebook: str, classifier: str, **parameters: str) -> Path:
    if not file.is_file():
        print(f"no {what} yet: running {notebook}", file=sys.stderr)
        command = [sys.executable, "-m", "ptame_lib.study", "run", notebook, "--profile", profile, "--classifier", classifier]
        command += [text for name, value in parameters.items() for text in (f"--{name}", value)]
        subprocess.run(command, check=True, env={**os.environ, "PTAME_ROOT": str(paths.root())})
    return file
