"""Controls that ignore the classifier: what a method must beat to say anything.

Beside P-TAME (`BESIDE`): the class activation map of its auxiliary, the mean of the auxiliary's channels, and the
P-TAME of another classifier. A score that these reach says nothing about the classifier.

A Gaussian at the centre, noise, edges (the Sobel filter of scikit-image, as Adebayo et al., NeurIPS 2018, compare with
an edge detector), the truth itself, and constant masks as the baselines of the segmentation table.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..explainers.features import FeatureExtractor
from ..explainers.ptame import PTAME
from ..masking import normalise
from .base import TRUTH, Explain, Method


def centred_gaussian(pixels: Tensor, targets: Tensor) -> Tensor:
    """A Gaussian at the centre, its deviation a quarter of the side; maps (B,H,W) in [0,1], all the same."""
    height, width = pixels.shape[-2:]
    y = torch.linspace(-2, 2, height, device=pixels.device)
    x = torch.linspace(-2, 2, width, device=pixels.device)
    bump = torch.exp(-(y[:, None] ** 2 + x**2) / 2)
    return normalise(bump).expand(len(pixels), -1, -1)


def random_map(seed: int = 0) -> Explain:
    """Uniform noise (B,H,W) in [0,1], drawn from ``seed`` and the image: an image always gets the same."""

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        maps = []
        for image in pixels.detach().cpu().float():
            generator = torch.Generator().manual_seed(crc32(image.contiguous().numpy().tobytes(), seed))
            maps.append(torch.rand(image.shape[-2:], generator=generator))
        return normalise(torch.stack(maps).to(pixels.device))

    return explain


def truth_map(pixels: Tensor, truth: Tensor) -> Tensor:
    """The truth mask as an explanation: what a map gains by showing where the evidence is, no more.

    It takes the images' ``truth`` (B,H,W) bool instead of targets; maps (B,H,W) in {0,1}, float32. Raises ValueError
    for truths of another size than the images.
    """
    if truth.shape != (len(pixels), *pixels.shape[-2:]):
        raise ValueError(
            f"one truth mask per image and of its size: got {tuple(truth.shape)} for images {tuple(pixels.shape)}"
        )
    return truth.float()


class ChannelMean:
    """The mean over the channels of one ``level`` of an auxiliary's features: no training, no class.

    ``level``: by default the second one, or the only one.
    """

    def __init__(self, auxiliary: FeatureExtractor, level: int = 1):
        self.auxiliary, self.level = auxiliary, min(level, len(auxiliary.channels) - 1)

    def explain(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Maps (B,h,w) in [0,1], min-max normalised, at the level's size; ``targets`` change nothing."""
        with torch.no_grad():
            return normalise(self.auxiliary(pixels)[self.level].float().mean(1))


def auxiliary_cam(explainer: PTAME, head: Tensor) -> PTAME | None:
    """The class activation map of an explainer's auxiliary: P-TAME's untrained start from a ``head`` (K,C_L).

    None for a head that does not fit the classes and the auxiliary's last level (see `PTAME.start_from_head`).
    """
    if tuple(head.shape) != (explainer.num_classes, explainer.auxiliary.channels[-1]):
        return None
    with torch.random.fork_rng([]):  # the weights drawn here are replaced
        cam = PTAME(explainer.auxiliary, explainer.num_classes).to(explainer.fuser.weight)
    return cam.start_from_head(head).eval()


def edges(pixels: Tensor, targets: Tensor) -> Tensor:
    """The Sobel filter on each image's luminance, min-max normalised; (B,H,W) in [0,1]."""
    from skimage.color import rgb2gray  # here, since scikit-image imports much of SciPy
    from skimage.filters import sobel

    grey = rgb2gray(pixels.detach().cpu().double().permute(0, 2, 3, 1).numpy())
    return normalise(torch.from_numpy(np.stack([sobel(image) for image in grey])).to(pixels.device))


def baselines() -> list[Method]:
    """Masks of 0, 0.5 and 1 everywhere, and the objects' own pixels."""

    def flat(value: float) -> Method:
        def explain(pixels: Tensor, _: Tensor) -> Tensor:
            return torch.full_like(pixels[:, 0], value)

        return Method(f"all {value:g}", explain, 0, 0, "baseline: a constant mask", normalised=False)

    return [*map(flat, (0.0, 0.5, 1.0)), Method(TRUTH, truth_map, 0, 0, "baseline: the objects", sees_truth=True)]
