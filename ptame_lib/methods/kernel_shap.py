"""KernelSHAP through captum: Lundberg & Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017."""

from __future__ import annotations

from collections.abc import Callable

from captum.attr import KernelShap
from torch import Tensor, nn

from .superpixels import explain_superpixels


def kernel_shap(
    classifier: nn.Module, samples: int = 200, segments: int = 50, seed: int = 0, batch_size: int = 50
) -> Callable[[Tensor, Tensor], Tensor]:
    """Shapley values of about ``segments`` superpixels for the target's probability, estimated from ``samples`` subsets; maps
    (B,H,W) in [0,1]."""
    return explain_superpixels(KernelShap, classifier, segments, samples, seed, batch_size)
