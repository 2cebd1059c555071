"""From a notebook's parameters to an explainer and its training: what notebooks, commands and tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import Dataset

from . import paths
from .blackbox import BlackBox
from .classifiers import Classifier
from .comparison import evaluate
from .datasets import first
from .features import load_auxiliary
from .losses import PTAMEWeights
from .methods import Method
from .methods.lcam import LCAM, lcam, lcam_config
from .methods.ttame import LAYERS, own_features, ttame
from .ptame import PTAME, saved_config
from .queries import train_black_box
from .sources import auxiliary_of, head_of, is_special, local_files
from .sources import folder as folder  # notebooks and commands call these three by this module's name
from .sources import held_out as held_out
from .sources import split as split
from .study import fingerprint
from .training import TrainingConfig, train_ptame

OWN, LAST = "own", "last"  # names of features that are the classifier's own: T-TAME's levels, L-CAM's last map


def new_explainer(cfg: Any, classifier: Classifier, num_classes: int) -> PTAME:
    """An untrained explainer of ``cfg.method``: P-TAME on ``cfg.auxiliary``, or T-TAME or L-CAM-Img on the classifier's own features.

    ``cfg.layers`` of the auxiliary or the classifier, empty for the published ones; ``cfg.auxiliary_weights``: ``default``, ``none``
    or a file. With ``cfg.head`` P-TAME starts from the auxiliary's own classes (`PTAME.start_from_head`). Raises ValueError for unknown names
    and layers, and for a head that does not fit.
    """
    if cfg.method == "L-CAM-Img":
        return lcam(classifier, num_classes, cfg.layers[0] if cfg.layers else None, f"{LAST}:{cfg.classifier}")
    if cfg.method == "T-TAME":
        if not cfg.layers and cfg.classifier not in LAYERS:
            raise ValueError(f"name the layers of {cfg.classifier} for T-TAME: only {', '.join(LAYERS)} have known ones")
        return ttame(classifier, cfg.layers or LAYERS[cfg.classifier], num_classes, f"{OWN}:{cfg.classifier}")
    explainer = PTAME(auxiliary_of(cfg), num_classes)
    return explainer.start_from_head(head_of(cfg)) if getattr(cfg, "head", False) else explainer


def load_explainer(
    file: str | Path,
    classifier: Classifier | None = None,
    auxiliary: str | None = None,
    auxiliary_weights: str | Path | None = "default",
    *,
    cfg: Any = None,
) -> PTAME:
    """A trained explainer: ours (.safetensors), or the authors' (.ckpt), which needs the name (and weights) of its ``auxiliary``.

    T-TAME and L-CAM need the ``classifier`` they explain, whose features they use. With a notebook's ``cfg`` the authors' auxiliary, and
    one of local weights or options, is the one it says. Raises as `PTAME.load` and `PTAME.load_official_checkpoint`.
    """
    if Path(file).suffix == ".ckpt":
        theirs = auxiliary_of(cfg) if cfg is not None else load_auxiliary(auxiliary or "resnet18", weights=auxiliary_weights)
        return PTAME.load_official_checkpoint(file, theirs)
    about = saved_config(file)
    kind = {OWN: PTAME, LAST: LCAM}.get(about["auxiliary"].split(":")[0])
    if kind is None:
        return PTAME.load(file, auxiliary_of(cfg) if cfg is not None and is_special(cfg) else None)
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
        warmup=getattr(cfg, "warmup", 0.3),
        mask=getattr(cfg, "mask", "sigmoid"),
        shares=tuple(getattr(cfg, "shares", (1.0,))),
        tied=getattr(cfg, "tied", False),
    )
    return lcam_config(config) if getattr(cfg, "method", None) == "L-CAM-Img" else config


def training_origin(cfg: Any, data: Dataset) -> dict[str, Any]:
    """What a training's weights depend on beside its `TrainingConfig`: a notebook's parameters, the number of images, weights files, code.

    Kept in the checkpoint, so that an interrupted training is continued only where the same is trained.
    """
    parameters = {key: value for key, value in asdict(cfg).items() if key not in ("profile", "checkpoint", "resume", "workers")}
    return fingerprint(*local_files(cfg), images_found=len(data), **parameters)


def usual_auxiliary(classifier: str) -> str:
    """The auxiliary for a classifier where none is named: the embedded one for embedded classifiers, else the paper's ResNet-18."""
    return "embedded/auxiliary" if classifier.startswith("embedded/") else "resnet18"


def train(
    explainer: PTAME, classifier: Classifier | BlackBox, data: Dataset, config: TrainingConfig, queries_per_image: int = 300, **options: Any
) -> list[dict[str, float]]:
    """Train for any classifier and return the history: `train_ptame`, or for one without gradients `train_black_box`, within
    ``queries_per_image``. Other ``options`` and what is raised as there."""
    if classifier.differentiable:
        return train_ptame(explainer, classifier, data, config, **options)
    return train_black_box(explainer, classifier, data, config, queries_per_image=queries_per_image, **options)[0]


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


def trained_explainer(profile: str, classifier: str, method: str = "P-TAME", seed: int = 0) -> Path:
    """The explainer that notebook 02 trains for ``classifier``; where it is missing, 02 is executed first with the profile's settings."""
    file, more = paths.explainer(profile, classifier, method, seed), {"seed": str(seed)} if seed else {}
    return _trained(file, f"{method} for {classifier}", profile, "02_train_ptame", classifier, method=method, **more)


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
