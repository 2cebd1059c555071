"""What LIME and KernelSHAP share: SLIC superpixels (scikit-image) and a loop over images, since each fits a model of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import KernelShap, Lime
from skimage.segmentation import slic
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_at_least, check_request


def superpixels(pixels: Tensor, segments: int = 50) -> Tensor:
    """About ``segments`` superpixels of each image (B,3,H,W): their numbers (B,H,W) int64, from 0 without gaps."""
    options = {"compactness": 20, "sigma": 1, "start_label": 0}  # grainy images, too, fall into about that many
    found = [
        torch.from_numpy(slic(image.permute(1, 2, 0).numpy(), segments, **options))
        for image in pixels.detach().cpu().double()
    ]
    return torch.stack([numbers.unique(return_inverse=True)[1] for numbers in found]).to(pixels.device)


def explain_superpixels(
    make: Callable[[Callable], object], classifier: nn.Module, segments: int, samples: int, seed: int, batch_size: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """A captum method, made of the classifier's probabilities, on superpixels against black; each image's samples are drawn from
    ``seed`` alone. Maps (B,H,W) in [0,1]: evidence for the class, min-max normalised; what speaks against it is 0."""
    check_at_least(1, segments=segments, samples=samples, batch_size=batch_size)
    method = make(lambda pixels: classifier(pixels).softmax(1))

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        maps, parts = [], superpixels(pixels, segments)
        for image, target, part in zip(pixels.split(1), targets, parts.split(1), strict=True):
            options = {"n_samples": samples, "perturbations_per_eval": batch_size, "baselines": 0}
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(seed)
                found = method.attribute(
                    image, target=int(target), feature_mask=part[:, None].expand(-1, 3, -1, -1), **options
                )
            maps.append(found[:, 0])
        return normalise(torch.cat(maps).clamp_min(0))

    return explain


def lime(
    classifier: nn.Module, samples: int = 200, segments: int = 50, seed: int = 0, batch_size: int = 50
) -> Callable[[Tensor, Tensor], Tensor]:
    """A ridge regression of the target's probability on which of about ``segments`` superpixels are there, from ``samples`` random
    subsets weighted by their likeness to the image (captum's exponential kernel on cosine distance); maps (B,H,W) in [0,1]."""
    return explain_superpixels(
        lambda f: Lime(f, interpretable_model=SkLearnRidge(alpha=1.0)), classifier, segments, samples, seed, batch_size
    )


def kernel_shap(
    classifier: nn.Module, samples: int = 200, segments: int = 50, seed: int = 0, batch_size: int = 50
) -> Callable[[Tensor, Tensor], Tensor]:
    """Shapley values of about ``segments`` superpixels for the target's probability, estimated from ``samples`` subsets; maps
    (B,H,W) in [0,1]."""
    return explain_superpixels(KernelShap, classifier, segments, samples, seed, batch_size)
