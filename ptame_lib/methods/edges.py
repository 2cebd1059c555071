"""A control: where the image has edges, whatever the classifier says (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018)."""

from __future__ import annotations

import numpy as np
import torch
from skimage.color import rgb2gray
from skimage.filters import sobel
from torch import Tensor

from ..masking import normalise


def edges(pixels: Tensor, targets: Tensor) -> Tensor:
    """scikit-image's Sobel filter on each image's luminance, min-max normalised; (B,H,W) in [0,1]."""
    grey = rgb2gray(pixels.detach().cpu().double().permute(0, 2, 3, 1).numpy())
    return normalise(torch.from_numpy(np.stack([sobel(image) for image in grey])).to(pixels.device))
