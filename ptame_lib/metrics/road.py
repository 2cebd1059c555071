"""ROAD: remove the most (MoRF) or least (LeRF) relevant pixels, impute them, ask the classifier again.

Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..classifiers.wrapper import answers
from ..masking import resize
from ..validation import check_answers, check_maps, check_targets
from .imputation import linear_imputation
from .ranking import ranked

SHARES = (0.1, 0.3, 0.5, 0.7)
Impute = Callable[[Tensor, Tensor], Tensor]  # pixels (B,C,H,W), known (B,H,W) bool -> pixels


def known_pixels(
    maps: Tensor, share: float, order: str, *, seed: int = 0, official: bool = False, ranking: Tensor | None = None
) -> Tensor:
    """Which pixels stay, (B,H,W) bool, when a map's highest (MoRF) or lowest (LeRF) ``share`` is removed.

    Exactly round(N share) pixels of each map (B,H,W) are removed, ties in a random order drawn from ``seed``.
    ``official=True`` is the original's rule, for parity: thresholds with all their ties, so that MoRF removes one pixel
    more and a constant map loses everything. ``ranking``: as `ranked` gives it, if known. Raises ValueError for another
    order or a share outside [0, 1].
    """
    if order not in ("MoRF", "LeRF") or not 0 <= share <= 1:
        raise ValueError(f"order must be MoRF or LeRF and share in [0, 1], got {order!r} and {share}")
    flat = maps.flatten(1)
    n = flat.shape[1]
    # the original: thresholds
    if official:
        ordered = flat.sort(1).values
        above, below = ordered[:, int(n * share) - 1, None], ordered[:, int(n * (1 - share)) - 1, None]
        return (flat > above if order == "LeRF" else flat < below).view(maps.shape)
    # here: the first or last of the ranking
    ranking = ranked(maps, seed=seed) if ranking is None else ranking
    count = round(n * share)
    removed = ranking[:, :count] if order == "MoRF" else ranking[:, n - count :]
    return torch.ones_like(flat, dtype=torch.bool).scatter_(1, removed, False).view(maps.shape)


def telea_imputation(pixels: Tensor, known: Tensor, radius: int = 3) -> Tensor:
    """Fill missing pixels by TELEA's inpainting (OpenCV), as the original; the image is cut to 8 bits."""
    import cv2  # here, since all who import a metric import this file

    filled = []
    for image, mask in zip(pixels.cpu(), known.cpu(), strict=True):
        levels = (image.float().permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        result = cv2.inpaint(np.ascontiguousarray(levels), (~mask).numpy().astype(np.uint8), radius, cv2.INPAINT_TELEA)
        filled.append(torch.from_numpy(result).view(*levels.shape).permute(2, 0, 1) / 255)
    return torch.stack(filled).to(pixels)


@torch.no_grad()
def road(
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    maps: Tensor,
    order: str,
    shares: Sequence[float] = SHARES,
    impute: Impute = linear_imputation,
    *,
    seed: int = 0,
    official: bool = False,
    ranking: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Per image and share (B,S): whether the decision is still the target (1 or 0), and its probability.

    ``maps`` (B,h,w) are resized to the image. After MoRF low values are good, after LeRF high ones. ``seed``,
    ``official`` and ``ranking`` as in `known_pixels`. Raises as it and as `masked_confidence`.
    """
    check_maps(maps, len(pixels))
    # remove each share of the pixels
    masks = resize(maps.float(), pixels.shape[-2:])
    ranking = ranked(masks, seed=seed) if ranking is None and not official else ranking
    known = [known_pixels(masks, share, order, seed=seed, official=official, ranking=ranking) for share in shares]
    # impute all at once, since small images are solved faster side by side
    filled = impute(pixels.repeat(len(shares), 1, 1, 1), torch.cat(known))
    # ask the classifier again
    logits = torch.cat([answers(classifier, images) for images in filled.split(len(pixels))])  # (S B,K)
    decided, asked = check_answers(logits), targets.repeat(len(shares))
    check_targets(asked, *logits.shape)
    accuracy = (decided == asked).double()
    confidence = logits.double().softmax(1).gather(1, asked[:, None])[:, 0]
    return accuracy.view(len(shares), -1).T, confidence.view(len(shares), -1).T


def summary(values: Tensor, shares: Sequence[float] = SHARES) -> Tensor:
    """The area (B,) under a `road` curve (B,S), which starts from 1 and ends at 0, by trapezoids."""
    n = len(shares)
    if values.ndim != 2 or values.shape[1] != n:
        shape = tuple(values.shape)
        raise ValueError(f"a curve (B,{n}) belongs to {n} shares, got {shape}: pass the shares of the curve")
    whole = torch.cat([values.new_ones(len(values), 1), values, values.new_zeros(len(values), 1)], 1)
    return torch.trapezoid(whole, torch.tensor([0.0, *shares, 1.0], dtype=values.dtype, device=values.device))
