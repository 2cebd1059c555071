"""Gradient methods through captum: integrated gradients and guided backpropagation.

Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017; Springenberg et al., "Striving for
Simplicity", ICLR workshop 2015.
"""

from __future__ import annotations

import warnings

import torch
from captum.attr import GuidedBackprop, IntegratedGradients
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_at_least, check_request
from .base import Explain


def integrated_gradients(classifier: nn.Module, steps: int = 50, batch_size: int = 64) -> Explain:
    """Maps (B,H,W) in [0,1]: the magnitude of ``steps`` gradients, integrated on the way from black."""
    check_at_least(1, steps=steps, batch_size=batch_size)
    method = IntegratedGradients(classifier)

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        at_once = max(batch_size, len(pixels))
        with torch.enable_grad():
            found = method.attribute(pixels, target=targets, n_steps=steps, internal_batch_size=at_once)
        return normalise(found.detach().sum(1).abs())

    return explain


def guided_backprop(classifier: nn.Module) -> Explain:
    """Maps (B,H,W) in [0,1]: the gradient's magnitude, negative parts stopped at every nn.ReLU.

    A network without such modules, like most transformers, gets plain gradients: the method is not defined for it.
    """
    method = GuidedBackprop(classifier)

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum warns at every call that it sets hooks
            found = method.attribute(pixels.detach().clone().requires_grad_(), target=targets)
        return normalise(found.detach().abs().sum(1))

    return explain
