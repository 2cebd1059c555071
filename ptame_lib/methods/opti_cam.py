"""Opti-CAM: Zhang et al., "Opti-CAM: Optimizing saliency maps for interpretability", CVIU 2024."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..classifiers.trunk import layer_features
from ..masking import keep, normalise
from ..validation import check_at_least, check_request
from .base import Explain


def opti_cam(classifier: nn.Module, layer: nn.Module | None = None, steps: int = 100, lr: float = 0.1) -> Explain:
    """Maps (B,h,w) in [0,1]: weighted channels of ``layer`` (default: `target_layer`), normalised.

    For every image, ``steps`` of Adam find the weights (a softmax over channels) with which the map keeps the highest
    logit of the target. Costs ``1 + steps`` forward and ``steps`` backward passes.
    """
    check_at_least(0, steps=steps)

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        features = layer_features(classifier, pixels, layer)  # (B,C,h,w)
        with torch.enable_grad():
            u = torch.zeros(features.shape[:2], device=pixels.device, requires_grad=True)  # (B,C); images don't mix
            optimizer = torch.optim.Adam([u], lr=lr)
            for _ in range(steps):
                logits = classifier(keep(pixels, _map(u, features)))
                (u.grad,) = torch.autograd.grad(-logits.gather(1, targets[:, None]).sum(), u)
                optimizer.step()
        return _map(u.detach(), features)

    return explain


def _map(u: Tensor, features: Tensor) -> Tensor:
    return normalise(torch.einsum("bc,bchw->bhw", u.softmax(1), features))
