"""A trained map with a few questions whose slopes are averaged.

The questions are those of `ask_further`: what a soft mask of a given area keeps, and what it removes. What differs:
five questions are about areas from a twentieth of the image to most of it, so that the whole order of the pixels is
asked about and not its beginning alone. The correction goes along the mean of all slopes so far (Nesterov, "Primal-dual
subgradient methods for convex problems", Math. Program. 2009), because the slope of one area says little of another.
And it has two grids of cells, one coarse: what is true of a cell is mostly true of its neighbours. Nothing pulls
towards the map: the mean of several areas does not fit one mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..masking import resize
from ..validation import check_amounts, check_at_least
from .questions import checked_start, estimated_slope, exact_slope, objective, reordered

AREAS = (0.4, 0.1, 0.7, 0.2, 0.05)  # what the mask keeps, by question
GRIDS = (8, 16)  # cells per side: the correction is the sum of both


def ask_averaged(
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    maps: Tensor,
    questions: int,
    *,
    reach: float = 0.2,
    seed: int = 0,
) -> Tensor:
    """Maps (B,H,W) in [0,1]: the ``maps`` (B,h,w) in [0,1], corrected by so many ``questions`` to the classifier.

    ``reach``: the largest correction of the ranks in the end, as a share of all ranks; after the k-th of n questions it
    is k/n of that. A question costs four passes, as in `ask_further`, which also says what ``seed`` is, what no
    question gives, and what is refused.
    """
    check_at_least(0, questions=questions)
    check_amounts(reach=reach)
    pixels, large, start = checked_start(classifier, pixels, targets, maps)
    if not questions:
        return maps
    size, generator = tuple(start.shape[1:]), torch.Generator().manual_seed(seed)
    slope_of = exact_slope if getattr(classifier, "differentiable", True) else estimated_slope
    change = torch.zeros(len(pixels), 1, sum(n * n for n in GRIDS), device=pixels.device)  # the cells of all grids
    total = torch.zeros_like(change)  # of the slopes so far, each of which moves an image's ranks by 1 at most

    for number in range(questions):

        def losses(moved: Tensor, area: float = AREAS[number % len(AREAS)]) -> Tensor:
            return objective(classifier, pixels, targets, start + enlarged(moved, size), area)

        total = total + _scaled(slope_of(losses, change, generator), size)
        change = -reach * (number + 1) / questions * _scaled(total, size)
    return reordered(large, start + enlarged(change, size))


def enlarged(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """The correction (B,H,W) that the cells (B,1,N) of all grids are together."""
    grids = cells[:, 0].split([n * n for n in GRIDS], dim=1)
    return sum(resize(grid.unflatten(1, (n, n)), size) for grid, n in zip(grids, GRIDS, strict=True))


def _scaled(cells: Tensor, size: tuple[int, int]) -> Tensor:
    return cells / enlarged(cells, size).abs().amax((1, 2))[:, None, None].clamp_min(1e-12)
