"""LIME through captum: Ribeiro et al., "Why Should I Trust You?", KDD 2016."""

from __future__ import annotations

from collections.abc import Callable

from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import Lime
from torch import Tensor, nn

from .superpixels import explain_superpixels


def lime(classifier: nn.Module, samples: int = 200, segments: int = 50, seed: int = 0, batch_size: int = 50) -> Callable[[Tensor, Tensor], Tensor]:
    """A ridge regression of the target's probability on which of about ``segments`` superpixels are there, from ``samples`` random
    subsets weighted by their likeness to the image (captum's exponential kernel on cosine distance); maps (B,H,W) in [0,1]."""
    return explain_superpixels(lambda f: Lime(f, interpretable_model=SkLearnRidge(alpha=1.0)), classifier, segments, samples, seed, batch_size)
