"""Occlusion through captum.

Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_at_least, check_request
from .base import Explain


def occlusion(classifier: nn.Module, window: float = 1 / 4, stride: float = 1 / 8, batch: int = 8) -> Explain:
    """Maps (B,H,W) in [0,1]: the probability that black squares over a pixel take from the target.

    ``window`` and ``stride`` are shares of the image's side; ``batch`` squares are asked for at a time.
    """
    from captum.attr import Occlusion  # here, since it takes a while

    check_at_least(1, batch=batch)
    method = Occlusion(lambda pixels: classifier(pixels).softmax(1))

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        sides, strides = ((3, *(_share(side, part) for side in pixels.shape[-2:])) for part in (window, stride))
        with torch.no_grad():
            found = method.attribute(pixels, sides, strides, 0, targets, perturbations_per_eval=batch)
        return normalise(found[:, 0].clamp_min(0))

    return explain


def squares(size: tuple[int, int], window: float = 1 / 4, stride: float = 1 / 8) -> int:
    """How many squares `occlusion` asks about per image of ``size``, besides the whole image.

    >>> squares((64, 64))
    49
    """
    rows, columns = (-(-(side - _share(side, window)) // _share(side, stride)) + 1 for side in size)
    return rows * columns


def _share(side: int, part: float) -> int:
    return max(1, round(side * part))
