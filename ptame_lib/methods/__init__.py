"""Explanation methods behind one signature: pixels (B,3,H,W) in [0,1], targets (B,) int64 -> maps (B,h,w) in [0,1].

`build_methods` makes every method for one classifier; adding one means one file here and one entry there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ..ptame import PTAME
from .controls import centred_gaussian, random_map
from .gradcam import CAMS, cam, gradcam
from .guided_backprop import guided_backprop
from .integrated_gradients import integrated_gradients
from .kernel_shap import kernel_shap
from .lime import lime
from .occlusion import occlusion
from .opti_cam import opti_cam
from .rise import rise

Explain = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Method:
    """A method for one classifier. ``forwards``: passes through the classifier (or, for P-TAME, its auxiliary) per image;
    ``backwards``: backward passes; ``source``: where it was published."""

    name: str
    explain: Explain
    forwards: int
    backwards: int
    source: str

    def __call__(self, pixels: Tensor, targets: Tensor) -> Tensor:
        return self.explain(pixels, targets)


def build_methods(classifier: nn.Module, explainer: PTAME | None = None, *, rise_masks: int = 500, seed: int = 0) -> list[Method]:
    """P-TAME (where its trained explainer is given), Grad-CAM, RISE and the two controls, for one classifier."""
    methods = [] if explainer is None else [Method("P-TAME", explainer.explain, 1, 0, "Ntrougkas et al., OJSP 2025")]
    return [
        *methods,
        Method("Grad-CAM", gradcam(classifier), 1, 1, "Selvaraju et al., ICCV 2017; grad-cam package"),
        Method("RISE", rise(classifier, masks=rise_masks, seed=seed), rise_masks, 0, "Petsiuk et al., BMVC 2018"),
        Method("centred Gaussian", centred_gaussian, 0, 0, "control: ignores image and classifier"),
        Method("random", random_map(seed), 0, 0, "control: ignores image and classifier"),
    ]


__all__ = [
    "CAMS",
    "Explain",
    "Method",
    "build_methods",
    "cam",
    "centred_gaussian",
    "gradcam",
    "guided_backprop",
    "integrated_gradients",
    "kernel_shap",
    "lime",
    "occlusion",
    "opti_cam",
    "random_map",
    "rise",
]
