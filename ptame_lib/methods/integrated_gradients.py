"""Integrated gradients through captum: Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017."""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_at_least, check_request


def integrated_gradients(
    classifier: nn.Module, steps: int = 50, batch_size: int = 64
) -> Callable[[Tensor, Tensor], Tensor]:
    """From a black image in ``steps`` gradients; maps (B,H,W) in [0,1]: the channels' sum, its absolute value, min-max normalised."""
    check_at_least(1, steps=steps, batch_size=batch_size)
    method = IntegratedGradients(classifier)

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        with torch.enable_grad():
            found = method.attribute(
                pixels, target=targets, n_steps=steps, internal_batch_size=max(batch_size, len(pixels))
            )
        return normalise(found.detach().sum(1).abs())

    return explain
