"""The straightforward computations, in the papers' order of steps, which the fast ones must equal."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ptame_lib import PTAME, normalise


def all_maps(explainer: PTAME, pixels: Tensor) -> Tensor:
    """Raw maps (B,K,h,w) of all K classes: attend, upsample to the first level's size, concatenate, fuse."""
    with torch.no_grad():
        features = explainer.auxiliary(pixels)
    goal, attended = features[0].shape[-1], []
    for f, conv, bn in zip(features, explainer.convs, explainer.bns, strict=True):
        a = F.relu(bn(conv(f)) + f)
        while a.shape[-1] < goal:
            a = F.interpolate(a, scale_factor=2, mode="bilinear", align_corners=False)
        attended.append(a)
    return explainer.fuser(torch.cat(attended, 1))


@torch.no_grad()
def explain(explainer: PTAME, pixels: Tensor, targets: Tensor) -> Tensor:
    return normalise(all_maps(explainer, pixels)[torch.arange(len(pixels)), targets])


def loss_terms(masks: Tensor, border: float = 0.3, p: float = 0.3) -> Tensor:
    """Area and smoothness term as the formulas are written, weighted as for VGG-16."""
    area = (masks + 0.0005).pow(p).mean()
    dx, dy = masks[..., 1:] - masks[..., :-1], masks[..., 1:, :] - masks[..., :-1, :]
    lines = masks[..., 0, :], masks[..., -1, :], masks[..., :, 0], masks[..., :, -1]
    smooth = dx.abs().pow(2).sum() + dy.abs().pow(2).sum() + border * sum(line.pow(2).sum() for line in lines)
    return 0.977712 * area + 0.0001 * smooth / (2 * len(masks))


def class_area(logits: Tensor, labels: Tensor, smallest: float = 0.05, largest: float = 0.3) -> Tensor:
    """The Explainer's class-area term as published: each label's mask is sorted and compared with bounds."""
    total = logits.new_zeros(())
    for image, present in zip(logits, labels, strict=True):
        for c in present.nonzero()[:, 0]:
            falling = image[c].sigmoid().flatten().sort(descending=True).values
            low, high = torch.zeros_like(falling), torch.zeros_like(falling)
            low[: int(smallest * len(falling))] = 1
            high[: int(largest * len(falling))] = 1
            total = total + (F.relu(low - falling) + F.relu(falling - high)).mean()
    return total / len(logits)
