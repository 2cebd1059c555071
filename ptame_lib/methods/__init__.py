"""Explanation methods behind one signature: pixels (B,3,H,W) in [0,1], targets (B,) int64 -> maps (B,h,w) in [0,1].

`build_methods` makes methods of the `CATALOGUE` by name; adding one means one file here and one entry there.
"""

from .base import CONTROLS, TRUTH, Budget, Explain, Method
from .cam import CAMS, cam, gradcam
from .catalogue import CATALOGUE, build_methods
from .controls import centred_gaussian, random_map
from .guided_backprop import guided_backprop
from .integrated_gradients import integrated_gradients
from .occlusion import occlusion
from .opti_cam import opti_cam
from .rise import rise
from .superpixels import kernel_shap, lime

__all__ = [
    "Budget",
    "CAMS",
    "CATALOGUE",
    "CONTROLS",
    "Explain",
    "Method",
    "TRUTH",
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
