"""FastSHAP's loss: the weighted least squares of which Shapley values are the minimum.

Jethani, Sudarshan, Covert, Lee, Ranganath, "FastSHAP: Real-Time Shapley Value Estimation", ICLR 2022; for images in
patches Covert, Kim, Lee, "Learning to Estimate Shapley Values with Vision Transformers" (ViT-Shapley), ICLR 2023.

A game has d players, here patches of an image, and a worth v(S) of each coalition S of them, here a class's probability
with all other patches black. The Shapley values are the phi with sum(phi) = v(all) - v(none) that minimise
E (v(S) - v(none) - sum_S phi)^2 over coalitions drawn from the Shapley kernel (Charnes et al., 1988).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..validation import check_at_least


class ShapleyLoss(NamedTuple):
    """The total, which is the only term."""

    total: Tensor


def draw_coalitions(count: int, players: int, generator: torch.Generator) -> Tensor:
    """Coalitions (count,players) bool from the Shapley kernel, which gives size s the probability ~ 1 / (s (d - s)).

    Neither all nor none of the players are drawn. Raises ValueError for fewer than two players.
    """
    check_at_least(2, players=players)
    sizes = torch.arange(1, players)
    drawn = torch.multinomial(1 / (sizes * (players - sizes)), count, replacement=True, generator=generator)
    ranks = torch.rand(count, players, generator=generator).argsort(1).argsort(1)  # a random order of the players
    return ranks < sizes[drawn][:, None]


def as_masks(coalitions: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (B,H,W) of images of this size that keep the patches of the coalitions (B,h,w)."""
    return F.interpolate(coalitions[:, None].float(), size, mode="nearest-exact")[:, 0]


def efficient(values: Tensor, surplus: Tensor) -> Tensor:
    """The values (...,d), all moved by the same amount so that they add up to the ``surplus`` (...): v(all) - v(none).

    Additive efficient normalisation (Ruiz et al., 1998).

    >>> efficient(torch.tensor([0.1, 0.3]), torch.tensor(1.0))
    tensor([0.4000, 0.6000])
    """
    return values + ((surplus - values.sum(-1)) / values.shape[-1])[..., None]


def shapley_loss(values: Tensor, coalitions: Tensor, worths: Tensor, full: Tensor, empty: Tensor) -> ShapleyLoss:
    """The mean of (v(S) - v(none) - sum_S phi)^2, where phi are the `efficient` values (B,n,d) of n classes.

    ``coalitions`` (C,B,d) bool: C of each image; ``worths`` (C,B,n): theirs; ``full`` (B,n), ``empty`` (n,): those of
    all players and of none. Raises ValueError for shapes that don't match.
    """
    (b, n, d), c = values.shape, len(coalitions)
    sizes = {"coalitions": (coalitions, (c, b, d)), "worths": (worths, (c, b, n)), "full": (full, (b, n))}
    for name, (given, wanted) in (sizes | {"empty": (empty, (n,))}).items():
        if tuple(given.shape) != wanted:
            raise ValueError(f"{name} must be {wanted} for values {(b, n, d)}, got {tuple(given.shape)}")
    phi = efficient(values.float(), full - empty)
    return ShapleyLoss((worths - empty - torch.einsum("cbd,bnd->cbn", coalitions.to(phi), phi)).square().mean())
