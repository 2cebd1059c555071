"""Explanation methods behind one signature: pixels (B,3,H,W) in [0,1], targets (B,) int64 -> maps (B,h,w) in [0,1].

`build_methods` makes methods of the `CATALOGUE` by name; adding one means one file here and one entry there.
"""

from .catalogue import CATALOGUE, CONTROLS, TRAINED, TRUTH, Budget, Explain, Method, build_methods
from .controls import centred_gaussian, random_map
from .gradcam import CAMS, cam, gradcam
from .guided_backprop import guided_backprop
from .integrated_gradients import integrated_gradients
from .kernel_shap import kernel_shap
from .lime import lime
from .occlusion import occlusion
from .opti_cam import opti_cam
from .rise import rise

__all__ = [
    "Budget",
    "CAMS",
    "CATALOGUE",
    "CONTROLS",
    "Explain",
    "Method",
    "TRAINED",
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
