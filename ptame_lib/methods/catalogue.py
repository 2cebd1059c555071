"""The catalogue: every method by its name in tables, with its cost and its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from ..classifiers.attention import attends
from ..classifiers.trunk import layer_features
from ..classifiers.wrapper import device_of
from ..explainers.loading import EXPLAINER, TRAINED
from .base import ASKING, BESIDE, EDGES, GAUSSIAN, RANDOM, TRUTH, Budget, Explain, Method
from .cam import CAMS, cam
from .controls import centred_gaussian, edges, random_map, truth_map
from .deep_lift import deep_lift, has_own_activations
from .extremal_perturbations import AREAS, extremal_perturbations
from .gradient_attention import gradient_attention
from .gradient_shap import gradient_shap
from .gradients import guided_backprop, integrated_gradients
from .igos import igos
from .legrad import legrad
from .lrp import lrp, propagates
from .occlusion import occlusion, squares
from .opti_cam import opti_cam
from .rise import rise
from .rollout import attention_rollout
from .smooth_grad import smooth_grad
from .superpixels import kernel_shap, lime

Made = tuple[Explain, int, int]  # what explains, and its forward and backward passes per image

TRANSFORMERS = "vision transformers"
RULED = "convolutional networks and vision transformers whose operations all have a rule"
OWN_ACTIVATIONS = "networks whose activations are modules of their own"
# whether a classifier is of a kind
CAN_EXPLAIN = {TRANSFORMERS: attends, RULED: propagates, OWN_ACTIVATIONS: has_own_activations}


class Entry(NamedTuple):
    """A method's source, and how it is made for a classifier within a budget.

    ``only``: the kind of networks it is for, of `CAN_EXPLAIN`; it refuses others. None for all networks.
    """

    source: str
    make: Callable[[nn.Module, Budget], Made]
    only: str | None = None


def _cam(name: str, classifier: nn.Module, budget: Budget) -> Made:
    """A CAM method; those without gradients ask once per channel of the layer."""
    explain, whole = cam(name, classifier), CAMS[name].whole
    if whole is None:
        return explain, 1, CAMS[name].backwards
    blank = torch.zeros(1, 3, *classifier.input_size, device=device_of(classifier))
    return explain, whole + layer_features(classifier, blank).shape[1], 0


def _extremal(c: nn.Module, b: Budget) -> Made:
    passes = b.perturbation_steps * len(AREAS)
    return extremal_perturbations(c, steps=b.perturbation_steps, fill="black"), passes, passes


def _igos(c: nn.Module, b: Budget) -> Made:
    passes = 4 * b.igos_steps * b.igos_path
    return igos(c, b.igos_steps, b.igos_path, fill="black", seed=b.seed), passes, passes


def _asking(name: str, trained: Mapping[str, nn.Module], classifier: nn.Module) -> Method:
    """A trained method with questions: a pass through its auxiliary; through the classifier one or four for each."""
    start, questions, way = ASKING[name]
    explain = partial(trained[start].explain, classifier=classifier, questions=questions, asking=way)
    if way == "areas":
        forwards, backwards = questions, 0
    elif getattr(classifier, "differentiable", True):
        forwards = backwards = 2 * questions
    else:
        forwards, backwards = 4 * questions, 0
    return Method(name, explain, 1 + forwards, backwards, f"{start}'s map, corrected by asking the classifier")


CATALOGUE: dict[str, Entry] = {
    **{name: Entry(kind.source, partial(_cam, name)) for name, kind in CAMS.items()},
    "Opti-CAM": Entry(
        "Zhang et al., CVIU 2024", lambda c, b: (opti_cam(c, steps=b.opti_steps), 1 + b.opti_steps, b.opti_steps)
    ),
    "RISE": Entry("Petsiuk et al., BMVC 2018", lambda c, b: (rise(c, masks=b.masks, seed=b.seed), b.masks, 0)),
    "integrated gradients": Entry(
        "Sundararajan et al., ICML 2017",
        lambda c, b: (integrated_gradients(c, b.path_steps), b.path_steps, b.path_steps),
    ),
    "guided backpropagation": Entry("Springenberg et al., ICLR workshop 2015", lambda c, _: (guided_backprop(c), 1, 1)),
    "SmoothGrad": Entry(
        "Smilkov et al., 2017",
        lambda c, b: (smooth_grad(c, b.noisy_samples, seed=b.seed), b.noisy_samples, b.noisy_samples),
    ),
    "GradientSHAP": Entry(
        "Lundberg & Lee, NeurIPS 2017",
        lambda c, b: (gradient_shap(c, b.noisy_samples, seed=b.seed), b.noisy_samples, b.noisy_samples),
    ),
    "DeepLIFT": Entry("Shrikumar et al., ICML 2017", lambda c, _: (deep_lift(c), 2, 2), only=OWN_ACTIVATIONS),
    "LRP": Entry(
        "Bach et al., PLoS ONE 2015; vision transformers: Achtibat et al., ICML 2024",
        lambda c, _: (lrp(c), 1, 1),
        only=RULED,
    ),
    "occlusion": Entry("Zeiler & Fergus, ECCV 2014", lambda c, _: (occlusion(c), 1 + squares(c.input_size), 0)),
    "LIME": Entry("Ribeiro et al., KDD 2016", lambda c, b: (lime(c, b.samples, b.segments, b.seed), b.samples, 0)),
    "KernelSHAP": Entry(
        "Lundberg & Lee, NeurIPS 2017", lambda c, b: (kernel_shap(c, b.samples, b.segments, b.seed), b.samples, 0)
    ),
    "extremal perturbations": Entry("Fong et al., ICCV 2019", _extremal),
    "iGOS++": Entry("Khorram et al., CHIL 2021", _igos),
    "attention rollout": Entry(
        "Abnar & Zuidema, ACL 2020", lambda c, _: (attention_rollout(c), 1, 0), only=TRANSFORMERS
    ),
    "gradient x attention": Entry(
        "Chefer et al., ICCV 2021", lambda c, _: (gradient_attention(c), 1, 1), only=TRANSFORMERS
    ),
    "LeGrad": Entry("Bousselham et al., ICCV 2025", lambda c, _: (legrad(c), 1, 1), only=TRANSFORMERS),
    EDGES: Entry("control: Sobel filter, ignores the classifier", lambda *_: (edges, 0, 0)),
    GAUSSIAN: Entry("control: ignores image and classifier", lambda *_: (centred_gaussian, 0, 0)),
    RANDOM: Entry("control: ignores image and classifier", lambda _, b: (random_map(b.seed), 0, 0)),
    TRUTH: Entry("control: the mask of the evidence", lambda *_: (truth_map, 0, 0)),
}

# As published, whatever the budget: so dear that they are made only where they are named.
AS_PUBLISHED = {
    "RISE 4000": Entry("Petsiuk et al., BMVC 2018", lambda c, b: (rise(c, masks=4000, seed=b.seed), 4000, 0))
}


def suited(classifier: nn.Module, names: Iterable[str] = CATALOGUE) -> list[str]:
    """Those of the ``names`` whose methods can explain this kind of classifier; it is asked about one black image.

    Names that are not in the `CATALOGUE` stay.
    """
    kinds = {name: CATALOGUE[name].only if name in CATALOGUE else None for name in names}
    refused = {kind for kind in {*kinds.values()} - {None} if not CAN_EXPLAIN[kind](classifier)}
    return [name for name, kind in kinds.items() if kind not in refused]


def build_methods(
    classifier: nn.Module,
    trained: Mapping[str, nn.Module] | None = None,
    names: Sequence[str] | None = None,
    budget: Budget = Budget(),
) -> list[Method]:
    """Methods for one classifier: its trained explainers, then those of the catalogue.

    ``trained``: explainers by their names in `TRAINED` or `BESIDE`, or ``NN-Explainer``; ``names``: those of the
    `CATALOGUE` (default: all that are `suited` to the classifier), of `AS_PUBLISHED`, of `ASKING`, which start from
    the trained method they name, and of ``trained`` those that don't come first. Raises ValueError for an unknown name,
    and for one of `BESIDE` or `ASKING` without what is to be given. A method that is named, but not suited to the
    classifier, raises ValueError when it is asked.
    """
    trained, known, entries = trained or {}, TRAINED | EXPLAINER | BESIDE, CATALOGUE | AS_PUBLISHED
    for name in trained:
        if name not in known:
            raise ValueError(f"unknown trained method {name!r}: choose from {', '.join(known)}")
    for name in names or ():
        if name in BESIDE and name not in trained:
            raise ValueError(f"{name!r} needs P-TAME's auxiliary or files: give it among the trained explainers")
        if name in ASKING and (start := ASKING[name].start) not in trained:
            raise ValueError(f"{name!r} starts from {start}'s map: give {start} among the trained explainers")
        if name not in entries and name not in trained and name not in ASKING:
            raise ValueError(f"unknown method {name!r}: choose from {', '.join([*entries, *ASKING])}")
    given = {name: Method(name, explainer.explain, 1, 0, known[name]) for name, explainer in trained.items()}
    methods = [method for name, method in given.items() if name not in (names or ())]
    for name in suited(classifier) if names is None else names:
        if name in given:
            methods.append(given[name])
            continue
        if name in ASKING:
            methods.append(_asking(name, trained, classifier))
            continue
        entry = entries[name]
        methods.append(Method(name, *entry.make(classifier, budget), entry.source, sees_truth=name == TRUTH))
    return methods
