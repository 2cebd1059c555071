"""Guided backpropagation through captum: Springenberg et al., "Striving for Simplicity", ICLR workshop 2015."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from captum.attr import GuidedBackprop
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_request


def guided_backprop(classifier: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Maps (B,H,W) in [0,1]: the gradient's absolute value summed over channels, with negative gradients stopped at every nn.ReLU.

    A network without such modules, as most transformers, gets plain gradients: the method is not defined for it.
    """
    method = GuidedBackprop(classifier)

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum tells at every call that it sets hooks
            found = method.attribute(pixels.detach().clone().requires_grad_(), target=targets)
        return normalise(found.detach().abs().sum(1))

    return explain
