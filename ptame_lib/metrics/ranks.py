"""Ranks of a map's pixels: all of a map that a strictly increasing change of its values leaves as it was."""

from __future__ import annotations

import torch
from torch import Tensor

from ..validation import check_maps


def average_ranks(maps: Tensor) -> Tensor:
    """Each pixel's rank among those of its map, (B,H,W) float64 in (0,1): (rank - 1/2) / (H W), ties averaged.

    The highest value has the highest rank; a constant map has 1/2 everywhere. Raises ValueError for ``maps`` that are
    not (B,H,W) and finite.

    >>> average_ranks(torch.tensor([[[0.1, 0.9], [0.9, 0.3]]]))
    tensor([[[0.1250, 0.7500],
             [0.7500, 0.3750]]], dtype=torch.float64)
    """
    check_maps(maps, len(maps))
    flat = maps.flatten(1)
    n = flat.shape[1]
    values, order = flat.sort(1)
    # the first and the last place of each run of equal values
    place = torch.arange(n, device=flat.device).expand_as(order)
    edge = values[:, 1:] != values[:, :-1]
    ends = edge.new_ones(len(flat), 1)
    first = torch.where(torch.cat([ends, edge], 1), place, 0).cummax(1).values
    last = torch.where(torch.cat([edge, ends], 1), place, n).flip(1).cummin(1).values.flip(1)
    mean = ((first + last).double() / 2 + 0.5) / n
    return torch.empty_like(mean).scatter_(1, order, mean).view(maps.shape)
