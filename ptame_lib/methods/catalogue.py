"""The catalogue: every method by its name in tables, with its cost and its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from ..classifiers.layers import layer_features
from ..classifiers.wrapper import device_of
from ..explainers.loading import EXPLAINER, TRAINED
from .base import TRUTH, Budget, Method
from .cam import cam
from .controls import centred_gaussian, edges, random_map, truth_map
from .extremal_perturbations import AREAS, extremal_perturbations
from .guided_backprop import guided_backprop
from .igos import igos
from .integrated_gradients import integrated_gradients
from .occlusion import occlusion, squares
from .opti_cam import opti_cam
from .rise import rise
from .superpixels import kernel_shap, lime


def _channels(classifier: nn.Module) -> int:
    """How many channels CAM methods look at: Score-CAM and Ablation-CAM ask once for each."""
    return layer_features(classifier, torch.zeros(1, 3, *classifier.input_size, device=device_of(classifier))).shape[1]


def _cam(name: str, source: str) -> Callable[[nn.Module, Budget], Method]:
    return lambda classifier, _: Method(name, cam(name, classifier), 1, 1, source)


def _channelwise(name: str, source: str, whole: int) -> Callable[[nn.Module, Budget], Method]:
    """A CAM method that asks once per channel, and ``whole`` times about the whole image."""
    return lambda classifier, _: Method(name, cam(name, classifier), whole + _channels(classifier), 0, source)


CATALOGUE: dict[str, Callable[[nn.Module, Budget], Method]] = {
    "Grad-CAM": _cam("Grad-CAM", "Selvaraju et al., ICCV 2017"),
    "Grad-CAM++": _cam("Grad-CAM++", "Chattopadhay et al., WACV 2018"),
    "LayerCAM": _cam("LayerCAM", "Jiang et al., IEEE TIP 2021"),
    "HiResCAM": _cam("HiResCAM", "Draelos & Carin, 2020"),
    "Score-CAM": _channelwise("Score-CAM", "Wang et al., CVPR workshops 2020", 1),
    "Ablation-CAM": _channelwise("Ablation-CAM", "Desai & Ramaswamy, WACV 2020", 2),
    "Opti-CAM": lambda c, b: Method(
        "Opti-CAM", opti_cam(c, steps=b.opti_steps), 1 + b.opti_steps, b.opti_steps, "Zhang et al., CVIU 2024"
    ),
    "RISE": lambda c, b: Method("RISE", rise(c, masks=b.masks, seed=b.seed), b.masks, 0, "Petsiuk et al., BMVC 2018"),
    "integrated gradients": lambda c, b: Method(
        "integrated gradients",
        integrated_gradients(c, b.path_steps),
        b.path_steps,
        b.path_steps,
        "Sundararajan et al., ICML 2017",
    ),
    "guided backpropagation": lambda c, _: Method(
        "guided backpropagation", guided_backprop(c), 1, 1, "Springenberg et al., ICLR workshop 2015"
    ),
    "occlusion": lambda c, _: Method(
        "occlusion", occlusion(c), 1 + squares(c.input_size), 0, "Zeiler & Fergus, ECCV 2014"
    ),
    "LIME": lambda c, b: Method(
        "LIME", lime(c, b.samples, b.segments, b.seed), b.samples, 0, "Ribeiro et al., KDD 2016"
    ),
    "KernelSHAP": lambda c, b: Method(
        "KernelSHAP", kernel_shap(c, b.samples, b.segments, b.seed), b.samples, 0, "Lundberg & Lee, NeurIPS 2017"
    ),
    "extremal perturbations": lambda c, b: Method(
        "extremal perturbations",
        extremal_perturbations(c, steps=b.perturbation_steps, fill="black"),
        b.perturbation_steps * len(AREAS),
        b.perturbation_steps * len(AREAS),
        "Fong et al., ICCV 2019",
    ),
    "iGOS++": lambda c, b: Method(
        "iGOS++",
        igos(c, b.igos_steps, b.igos_path, fill="black", seed=b.seed),
        4 * b.igos_steps * b.igos_path,
        4 * b.igos_steps * b.igos_path,
        "Khorram et al., CHIL 2021",
    ),
    "edges": lambda c, b: Method("edges", edges, 0, 0, "control: Sobel filter, ignores the classifier"),
    "centred Gaussian": lambda c, b: Method(
        "centred Gaussian", centred_gaussian, 0, 0, "control: ignores image and classifier"
    ),
    "random": lambda c, b: Method("random", random_map(b.seed), 0, 0, "control: ignores image and classifier"),
    TRUTH: lambda c, b: Method(TRUTH, truth_map, 0, 0, "control: the mask of the evidence", sees_truth=True),
}


def build_methods(
    classifier: nn.Module,
    trained: Mapping[str, nn.Module] | None = None,
    names: Sequence[str] | None = None,
    budget: Budget = Budget(),
) -> list[Method]:
    """Methods for one classifier: its ``trained`` explainers, by their names in `TRAINED` or ``Explainer``, then those of ``names`` (default:
    the whole `CATALOGUE`). Raises ValueError for an unknown name."""
    known = TRAINED | EXPLAINER
    for name in trained or {}:
        if name not in known:
            raise ValueError(f"unknown trained method {name!r}: choose from {', '.join(known)}")
    for name in names or ():
        if name not in CATALOGUE:
            raise ValueError(f"unknown method {name!r}: choose from {', '.join(CATALOGUE)}")
    made = [Method(name, explainer.explain, 1, 0, known[name]) for name, explainer in (trained or {}).items()]
    return made + [CATALOGUE[name](classifier, budget) for name in (CATALOGUE if names is None else names)]
