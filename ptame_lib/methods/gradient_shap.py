"""GradientSHAP through captum: Lundberg & Lee, NeurIPS 2017; Erion et al., Nature Machine Intelligence 2021."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_amounts, check_at_least, check_request
from .base import Explain


def gradient_shap(classifier: nn.Module, samples: int = 50, noise: float = 0.1, seed: int = 0) -> Explain:
    """Maps (B,H,W) in [0,1]: evidence for the class, the mean of pixel times gradient at random points.

    ``samples`` points lie on the way from black to the image under ``noise`` (its standard deviation), both drawn from
    ``seed`` for each image. Evidence against the class is 0.
    """
    from captum.attr import GradientShap  # here, since it takes a while

    check_at_least(1, samples=samples)
    check_amounts(noise=noise)
    method = GradientShap(classifier)

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        maps = []
        for image, target in zip(pixels.detach().split(1), targets.tolist(), strict=True):
            with torch.enable_grad(), seeded(seed):
                black = torch.zeros_like(image)
                maps.append(method.attribute(image.clone(), black, samples, noise, target=target))
        return normalise(torch.cat(maps).detach().sum(1).clamp_min(0))

    return explain


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's and NumPy's global generators start from ``seed`` in the block and are then as they were."""
    before = np.random.get_state()  # noqa: NPY002 - captum draws from it
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
