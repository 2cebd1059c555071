"""Occlusion through captum: Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014."""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import Occlusion
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_at_least, check_request


def occlusion(
    classifier: nn.Module, window: float = 1 / 4, stride: float = 1 / 8, batch: int = 8
) -> Callable[[Tensor, Tensor], Tensor]:
    """Maps (B,H,W) in [0,1]: how much of the target's probability a black square takes away, averaged over the squares that cover a
    pixel. ``window`` and ``stride`` are shares of the image's side; ``batch`` squares are asked for at a time."""
    check_at_least(1, batch=batch)
    method = Occlusion(lambda pixels: classifier(pixels).softmax(1))

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        height, width = pixels.shape[-2:]
        sides = (3, *(max(1, round(side * window)) for side in (height, width)))
        strides = (3, *(max(1, round(side * stride)) for side in (height, width)))
        with torch.no_grad():
            found = method.attribute(
                pixels,
                sliding_window_shapes=sides,
                strides=strides,
                target=targets,
                baselines=0,
                perturbations_per_eval=batch,
            )
        return normalise(found[:, 0].clamp_min(0))

    return explain


def squares(size: tuple[int, int], window: float = 1 / 4, stride: float = 1 / 8) -> int:
    """How many squares `occlusion` asks the classifier about, per image of ``size``; the whole image is asked for once more.

    >>> squares((64, 64))
    49
    """
    counts = [-(-(side - max(1, round(side * window))) // max(1, round(side * stride))) + 1 for side in size]
    return counts[0] * counts[1]
