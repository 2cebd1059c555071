"""SmoothGrad through captum: Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_amounts, check_at_least, check_request
from .base import Explain


def smooth_grad(
    classifier: nn.Module, samples: int = 50, noise: float = 0.15, seed: int = 0, batch_size: int = 50
) -> Explain:
    """Maps (B,H,W) in [0,1]: the magnitude of the logit's gradient, averaged over ``samples`` noisy images.

    ``noise``: its standard deviation, as a share of the pixels' range; drawn from ``seed`` for each image.
    """
    from captum.attr import NoiseTunnel, Saliency  # here, since it takes a while

    check_at_least(1, samples=samples, batch_size=batch_size)
    check_amounts(noise=noise)
    method = NoiseTunnel(Saliency(classifier))
    options = {"nt_samples": samples, "nt_samples_batch_size": batch_size, "stdevs": noise, "abs": False}

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        maps = []
        for image, target in zip(pixels.detach().split(1), targets.tolist(), strict=True):
            with torch.enable_grad(), torch.random.fork_rng():
                torch.manual_seed(seed)
                maps.append(method.attribute(image.clone(), nt_type="smoothgrad", target=target, **options))
        return normalise(torch.cat(maps).detach().sum(1).abs())

    return explain
