"""LIME and KernelSHAP through captum, on SLIC superpixels (scikit-image) against black.

LIME: Ribeiro et al., "Why Should I Trust You?", KDD 2016. KernelSHAP: Lundberg & Lee, "A Unified Approach to
Interpreting Model Predictions", NeurIPS 2017. SLIC: Achanta et al., IEEE TPAMI 2012. Both fit a linear model to each
image by itself. Both packages are imported where they are used, since they import much.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_at_least, check_request
from .base import Explain


def lime(classifier: nn.Module, samples: int = 200, segments: int = 50, seed: int = 0, batch_size: int = 50) -> Explain:
    """LIME: weights of about ``segments`` superpixels in a ridge regression of the target's probability.

    It is fitted to ``samples`` random subsets, weighted by their likeness to the image (captum's exponential kernel on
    cosine distance). Maps (B,H,W) in [0,1].
    """
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import Lime

    make = partial(Lime, interpretable_model=SkLearnRidge(alpha=1.0))
    return explain_superpixels(make, classifier, segments, samples, seed, batch_size)


def kernel_shap(
    classifier: nn.Module, samples: int = 200, segments: int = 50, seed: int = 0, batch_size: int = 50
) -> Explain:
    """KernelSHAP: Shapley values of about ``segments`` superpixels for the target's probability.

    They are estimated from ``samples`` subsets. Maps (B,H,W) in [0,1].
    """
    from captum.attr import KernelShap

    return explain_superpixels(KernelShap, classifier, segments, samples, seed, batch_size)


def explain_superpixels(
    make: Callable[[Callable], object], classifier: nn.Module, segments: int, samples: int, seed: int, batch_size: int
) -> Explain:
    """A captum method on superpixels, made from the classifier's probabilities; ``seed``: of each image.

    Maps (B,H,W) in [0,1]: evidence for the class, min-max normalised; evidence against it is 0.
    """
    check_at_least(1, segments=segments, samples=samples, batch_size=batch_size)
    method = make(lambda pixels: classifier(pixels).softmax(1))
    options = {"n_samples": samples, "perturbations_per_eval": batch_size, "baselines": 0}

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        maps, parts = [], superpixels(pixels, segments)[:, None].expand(-1, 3, -1, -1)
        for image, target, part in zip(pixels.split(1), targets, parts.split(1), strict=True):
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(seed)
                maps.append(method.attribute(image, target=int(target), feature_mask=part, **options)[:, 0])
        return normalise(torch.cat(maps).clamp_min(0))

    return explain


def superpixels(pixels: Tensor, segments: int = 50) -> Tensor:
    """The numbers (B,H,W) of about ``segments`` superpixels of each image, int64, from 0 without gaps."""
    from skimage.segmentation import slic

    images = pixels.detach().cpu().double().permute(0, 2, 3, 1).numpy()
    # compact and smoothed, so that grainy images, too, fall into about that many
    found = [torch.from_numpy(slic(image, segments, compactness=20, sigma=1, start_label=0)) for image in images]
    return torch.stack([numbers.unique(return_inverse=True)[1] for numbers in found]).to(pixels.device)
