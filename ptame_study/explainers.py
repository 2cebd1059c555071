"""From a notebook's parameters to an explainer and its training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import timm
import torch
import torchvision
from torch.utils.data import Dataset

from ptame_lib.classifiers.black_box import BlackBox
from ptame_lib.classifiers.loading import TORCHVISION
from ptame_lib.classifiers.wrapper import Classifier, device_of
from ptame_lib.datasets import first
from ptame_lib.explainers.features import load_auxiliary
from ptame_lib.explainers.lcam import lcam
from ptame_lib.explainers.loading import LAST, OWN
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.explainers.ttame import LAYERS, ttame
from ptame_lib.losses.ptame import PTAMEWeights
from ptame_lib.methods.base import Method
from ptame_lib.training.black_box import train_black_box
from ptame_lib.training.ptame import TrainingConfig, lcam_config, train_ptame

from .classifiers import auxiliary_of, head_of, local_files
from .evaluation import evaluate
from .records import fingerprint


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
            raise ValueError(
                f"name the layers of {cfg.classifier} for T-TAME: only {', '.join(LAYERS)} have known ones"
            )
        return ttame(classifier, cfg.layers or LAYERS[cfg.classifier], num_classes, f"{OWN}:{cfg.classifier}")
    explainer = PTAME(auxiliary_of(cfg), num_classes)
    return explainer.start_from_head(head_of(cfg)) if getattr(cfg, "head", False) else explainer


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
    parameters = {
        key: value for key, value in asdict(cfg).items() if key not in ("profile", "checkpoint", "resume", "workers")
    }
    return fingerprint(*local_files(cfg), images_found=len(data), **parameters)


def usual_auxiliary(classifier: str) -> str:
    """The auxiliary for a classifier where none is named: the embedded one for embedded classifiers, else the paper's ResNet-18."""
    return "embedded/auxiliary" if classifier.startswith("embedded/") else "resnet18"


def fit_explainer(
    explainer: PTAME,
    classifier: Classifier | BlackBox,
    data: Dataset,
    config: TrainingConfig,
    queries_per_image: int = 300,
    **options: Any,
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


def try_variant(
    variant: Variant, seed: int, cfg: Any, classifier: Classifier, train: Dataset, test: Dataset
) -> tuple[pd.DataFrame, pd.DataFrame]:
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


def description(
    classifier: str, model: Classifier | BlackBox, config: TrainingConfig | None, weights: str = "default", **more: Any
) -> dict[str, Any]:
    """What `PTAME.save` is told about an explainer of ``model``, which is named ``classifier`` and has these ``weights``, trained with ``config``:
    the names of its classes, its image size, settings and seed, and ``more`` (profile, images, metrics ...), which goes with them."""
    with torch.no_grad():
        classes = model(torch.zeros(1, 3, *model.input_size, device=device_of(model))).shape[1]
    about = {
        "classifier": classifier,
        "weights": weights,
        "labels": model.labels or usual_labels(classifier, weights, classes),
    }
    return about | {
        "input_size": model.input_size,
        "training": config,
        "seed": None if config is None else config.seed,
        **more,
    }


def usual_labels(name: str, weights: str, classes: int) -> list[str] | None:
    """ImageNet's names of the classes where the pretrained weights of torchvision or timm have its 1000; else None."""
    if weights != "default" or classes != 1000:
        return None
    if name in TORCHVISION:
        return list(torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta["categories"])
    if (
        name.startswith("timm/")
        and timm.data.infer_imagenet_subset(timm.get_pretrained_cfg(name.removeprefix("timm/")).to_dict())
        == "imagenet-1k"
    ):
        info = timm.data.ImageNetInfo()
        return [info.index_to_description(i) for i in range(classes)]
    return None
