"""Explanation methods behind one signature.

Pixels (B,3,H,W) in [0,1] and targets (B,) int64 become maps (B,h,w) in [0,1]. `build_methods` makes methods of the
`CATALOGUE` by name. To add one, write its file here and its entry there.
"""

from .base import BESIDE, CONTROLS, TRUTH, Budget, Explain, Method
from .cam import CAMS, cam, gradcam
from .catalogue import CATALOGUE, build_methods, suited
from .controls import centred_gaussian, random_map
from .gradient_attention import gradient_attention
from .gradients import guided_backprop, integrated_gradients
from .legrad import legrad
from .occlusion import occlusion
from .opti_cam import opti_cam
from .rise import rise
from .rollout import attention_rollout
from .superpixels import kernel_shap, lime

__all__ = [
    "BESIDE",
    "Budget",
    "CAMS",
    "CATALOGUE",
    "CONTROLS",
    "Explain",
    "Method",
    "TRUTH",
    "build_methods",
    "cam",
    "gradcam",
]
__all__ += ["attention_rollout", "centred_gaussian", "gradient_attention", "guided_backprop", "integrated_gradients"]
__all__ += ["kernel_shap", "legrad", "lime", "occlusion", "opti_cam", "random_map", "rise", "suited"]
