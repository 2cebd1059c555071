"""From settings to an explainer and its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import Dataset

from ptame_lib.classifiers.black_box import BlackBox
from ptame_lib.classifiers.lite import imagenet_labels
from ptame_lib.classifiers.loading import TORCHVISION
from ptame_lib.classifiers.wrapper import Classifier, device_of
from ptame_lib.datasets import first
from ptame_lib.explainers.features import load_auxiliary
from ptame_lib.explainers.lcam import lcam
from ptame_lib.explainers.loading import LAST, ON_AUXILIARY, OWN, load_explainer, method_of
from ptame_lib.explainers.names import AUXILIARY_CAM, CHANNEL_MEAN
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.explainers.swap_tame import GATE
from ptame_lib.explainers.ttame import LAYERS, ttame
from ptame_lib.methods.base import Method
from ptame_lib.methods.controls import ChannelMean, auxiliary_cam
from ptame_lib.training.black_box import train_black_box
from ptame_lib.training.ptame import TrainingConfig, train_ptame

from .classifiers import count_classes, load_auxiliary_network, load_head
from .evaluation import evaluate
from .records import fingerprint
from .settings import AuxiliarySettings, ClassifierSettings


def new_explainer(
    method: str,
    explained: ClassifierSettings,
    auxiliary: AuxiliarySettings,
    classifier: Classifier | None,
    num_classes: int,
) -> PTAME:
    """An untrained explainer of a method.

    P-TAME, Swap-TAME and FastSHAP use the auxiliary's features, T-TAME and L-CAM-Img those of the ``classifier``'s
    own ``layers``. Swap-TAME that starts from the auxiliary's head has a gate alone. Raises ValueError for unknown
    names and layers, and for a head that does not fit.
    """
    if method == "L-CAM-Img":
        layer = auxiliary.layers[0] if auxiliary.layers else None
        return lcam(classifier, num_classes, layer, f"{LAST}:{explained.name}")
    if method == "T-TAME":
        if not auxiliary.layers and explained.name not in LAYERS:
            known = ", ".join(LAYERS)
            raise ValueError(f"name the layers of {explained.name} for T-TAME: only {known} have known ones")
        layers = auxiliary.layers or LAYERS[explained.name]
        return ttame(classifier, layers, num_classes, f"{OWN}:{explained.name}")
    gated = {"parts": (GATE,)} if auxiliary.head and method == "Swap-TAME" else {}
    explainer = ON_AUXILIARY[method](load_auxiliary_network(auxiliary), num_classes, **gated)
    return explainer.start_from_head(load_head(auxiliary)) if auxiliary.head else explainer


def load_trained(file: str | Path, classifier: Classifier | None, auxiliary: AuxiliarySettings) -> PTAME:
    """A trained explainer, on the ``auxiliary`` where its file does not tell how to load it.

    The authors' files (.ckpt) lack the auxiliary's name, and ours its local weights and options. Raises as
    `load_explainer`.
    """
    untold = auxiliary.options or auxiliary.weights != "default" or Path(file).suffix == ".ckpt"
    return load_explainer(file, classifier, load_auxiliary_network(auxiliary) if untold else None)


def check_method(file: str | Path, method: str) -> None:
    """Raise ValueError if a saved explainer is of another method than it is to be shown as; checkpoints don't tell."""
    if Path(file).suffix != ".ckpt" and (found := method_of(file)) != method:
        raise ValueError(f"{file} holds {found}, not {method}: name it in trained: [{found}]")


def load_beside(names: Sequence[str], explainer: PTAME, auxiliary: AuxiliarySettings) -> dict[str, Any]:
    """The ``names``d controls that share a trained P-TAME's auxiliary: its class activation map, its channel mean.

    The map is left out where the auxiliary's last linear layer does not fit, as where it knows other classes.
    """
    made: dict[str, Any] = {}
    if AUXILIARY_CAM in names:
        try:
            head = load_head(replace(auxiliary, name=explainer.auxiliary.name))
        except ValueError:  # no linear layer, such as a network of features only
            head = torch.empty(0)
        made[AUXILIARY_CAM] = auxiliary_cam(explainer, head)
    if CHANNEL_MEAN in names:
        made[CHANNEL_MEAN] = ChannelMean(explainer.auxiliary)
    return {name: control for name, control in made.items() if control is not None}


def training_origin(parameters: dict[str, Any], data: Dataset, local: Sequence[Path] = ()) -> dict[str, Any]:
    """What a training's weights depend on besides its config: parameters, images, ``local`` files, code.

    It is kept in the checkpoint, so that an interrupted training continues only where the same is trained.
    """
    free = ("profile", "checkpoint", "resume", "training")  # the checkpoint compares the training's settings itself
    counted = {name: value for name, value in parameters.items() if name not in free}
    return fingerprint(*local, images_found=len(data), **counted)


def default_auxiliary(classifier: str) -> str:
    """The auxiliary where none is named: one that needs no download if the classifier needs none, else ResNet-18."""
    if classifier.startswith(("embedded/", "zoo/")):
        return "embedded/auxiliary"
    if classifier.startswith("lite/"):
        return "lite/1" if classifier == "lite/0" else "lite/0"  # a second network, as the method has it
    return "resnet18"


def fit_explainer(
    explainer: PTAME,
    classifier: Classifier | BlackBox,
    data: Dataset,
    config: TrainingConfig,
    queries_per_image: int = 300,
    **options: Any,
) -> list[dict[str, float]]:
    """Train for any classifier and return the history.

    Calls `train_ptame`, or for a classifier without gradients `train_black_box` within ``queries_per_image``.
    """
    if classifier.differentiable:
        return train_ptame(explainer, classifier, data, config, **options)
    return train_black_box(explainer, classifier, data, config, queries_per_image=queries_per_image, **options)[0]


@dataclass(frozen=True)
class Variant:
    """P-TAME with one thing changed, for notebook 05.

    Its ``auxiliary`` (`OWN`: T-TAME) or that one's ``weights``, the number of its last ``levels`` (0: all), or of the
    first training ``images`` (0: all).
    """

    name: str
    auxiliary: str
    weights: str | None = "default"
    levels: int = 0
    images: int = 0


def try_variant(
    variant: Variant,
    explained: ClassifierSettings,
    classifier: Classifier,
    train: Dataset,
    test: Dataset,
    config: TrainingConfig,
    curves: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train a variant with ``config`` and evaluate it.

    Returns per-image values (classifier, method, seed, image, metrics), and one row about the variant (method, seed,
    channels, resolution, contributions of the levels).
    """
    # an explainer with the variant's features
    torch.manual_seed(config.seed)
    num_classes = count_classes(classifier, train[0]["pixels"])
    if variant.auxiliary == OWN:
        explainer = ttame(classifier, LAYERS[explained.name], num_classes)
    else:
        auxiliary = load_auxiliary(variant.auxiliary, weights=variant.weights)
        if variant.levels:
            auxiliary = load_auxiliary(variant.auxiliary, auxiliary.layers[-variant.levels :], variant.weights)
        explainer = PTAME(auxiliary, num_classes)

    # train on its images, and measure
    data = first(train, variant.images) if variant.images else train
    train_ptame(explainer, classifier, data, config)
    values, _ = evaluate(classifier, Method(variant.name, explainer.explain, 1, 0, "P-TAME"), test, curves=curves)
    labels = {"method": variant.name, "seed": config.seed}
    about = {
        "channels": "/".join(map(str, explainer.auxiliary.channels)),
        "resolution": "{} x {}".format(*explainer.maps(train[0]["pixels"][None], torch.tensor([0])).shape[-2:]),
        "contributions": "/".join(f"{share:.4f}" for share in explainer.contributions().tolist()),
    }
    return values.assign(classifier=explained.name, **labels), pd.DataFrame([labels | about])


def description(
    classifier: str, model: Classifier | BlackBox, config: TrainingConfig | None, weights: str = "default", **more: Any
) -> dict[str, Any]:
    """What `PTAME.save` stores about an explainer of ``model``, which is named ``classifier``.

    That is the names of its classes, its image size, the training's settings and seed, and ``more`` (profile, images,
    metrics ...).
    """
    classes = count_classes(model, torch.zeros(3, *model.input_size, device=device_of(model)))
    about = {
        "classifier": classifier,
        "weights": weights,
        "labels": model.labels or usual_labels(classifier, weights, classes),
        "input_size": model.input_size,
        "training": config,
        "seed": None if config is None else config.seed,
    }
    return about | more


def usual_labels(name: str, weights: str, classes: int) -> list[str] | None:
    """The names of ImageNet's 1000 classes for torchvision's and timm's pretrained weights; else None."""
    if weights != "default" or classes != 1000:
        return None
    if name in TORCHVISION:
        return imagenet_labels()
    if name.startswith("timm/"):
        import timm  # here, since it takes half a second

        config = timm.get_pretrained_cfg(name.removeprefix("timm/")).to_dict()
        if timm.data.infer_imagenet_subset(config) == "imagenet-1k":
            info = timm.data.ImageNetInfo()
            return [info.index_to_description(i) for i in range(classes)]
    return None
