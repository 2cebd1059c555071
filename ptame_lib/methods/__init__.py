"""Explanation methods behind one signature.

Pixels (B,3,H,W) in [0,1] and targets (B,) int64 become maps (B,h,w) in [0,1]. `build_methods` makes methods of the
`CATALOGUE` by name. To add one, write its file here and its entry there.
"""

from .base import ASKING, BESIDE, CONTROLS, TRUTH, Budget, Explain, Method
from .cam import CAMS, cam, gradcam
from .catalogue import AS_PUBLISHED, CATALOGUE, build_methods, suited
from .controls import centred_gaussian, random_map
from .deep_lift import deep_lift
from .gradient_attention import gradient_attention
from .gradient_shap import gradient_shap
from .gradients import guided_backprop, integrated_gradients
from .legrad import legrad
from .lrp import lrp
from .occlusion import occlusion
from .opti_cam import opti_cam
from .rise import rise
from .rollout import attention_rollout
from .smooth_grad import smooth_grad
from .superpixels import kernel_shap, lime

__all__ = [
    "AS_PUBLISHED",
    "ASKING",
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
__all__ += ["attention_rollout", "centred_gaussian", "deep_lift", "gradient_attention", "gradient_shap"]
__all__ += ["guided_backprop", "integrated_gradients", "kernel_shap", "legrad", "lime", "lrp", "occlusion", "opti_cam"]
__all__ += ["random_map", "rise", "smooth_grad", "suited"]
