"""Does a map stay when its image changes by what nobody sees?

    max_sensitivity(explainer.explain, pixels, targets)
    rank_stability(method, pixels, targets)

Both explain every image once more for each draw: for methods of a pass or two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..validation import check_amounts, check_at_least, check_images, check_maps
from .ranks import average_ranks

Explain = Callable[[Tensor, Tensor], Tensor]  # pixels (B,3,H,W), targets (B,) -> maps (B,h,w)
Noise = Callable[[torch.Size, torch.Generator], Tensor]


def max_sensitivity(
    explain: Explain, pixels: Tensor, targets: Tensor, radius: float = 0.02, *, draws: int = 10, seed: int = 0
) -> Tensor:
    """The most a map changes (B,) for ``pixels`` within ``radius``, relative to its norm; lower is better.

    Yeh et al., "On the (in)fidelity and sensitivity of explanations", NeurIPS 2019, estimated as there and in Captum:
    the largest |explain(x + d) - explain(x)| / |explain(x)| over ``draws`` of uniform noise d in [-radius, radius], in
    the Euclidean norm of all pixels of a map. 0 for a map of 0 that stays, infinite for one that does not.

    Raises ValueError for images, maps, a radius or a number of draws that cannot be.
    """
    check_amounts(radius=radius)

    def uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
        return radius * (2 * torch.rand(shape, generator=generator) - 1)

    before, changed = _explained(explain, pixels, targets, uniform, draws, seed)
    norm = before.flatten(1).norm(dim=1)
    most = torch.stack([(after - before).flatten(1).norm(dim=1) for after in changed]).amax(0)
    return torch.where(most > 0, most / norm, 0.0)


def rank_stability(
    explain: Explain, pixels: Tensor, targets: Tensor, noise: float = 0.02, *, draws: int = 10, seed: int = 0
) -> Tensor:
    """How much of a map's order stays (B,) under normal noise of deviation ``noise``, in [-1,1]; higher is better.

    The mean over ``draws`` of Spearman's correlation between the map's ranks and those on the noisy image, in the map's
    own size; 0 where one of them is constant. Raises as `max_sensitivity`.
    """
    check_amounts(noise=noise)

    def normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
        return noise * torch.randn(shape, generator=generator)

    before, changed = _explained(explain, pixels, targets, normal, draws, seed)
    ranks = average_ranks(before)
    return torch.stack([_correlation(ranks, average_ranks(after)) for after in changed]).mean(0)


def _explained(
    explain: Explain, pixels: Tensor, targets: Tensor, noise: Noise, draws: int, seed: int
) -> tuple[Tensor, Iterator[Tensor]]:
    """The maps (B,h,w) in float64, and those of each draw, whose noise is the same for every image of a batch."""
    check_images(pixels)
    check_at_least(1, draws=draws)
    generator = torch.Generator().manual_seed(seed)

    def maps(images: Tensor) -> Tensor:
        found = explain(images, targets)
        check_maps(found, len(pixels))
        return found.detach().double()

    return maps(pixels), (maps(pixels + noise(pixels.shape[1:], generator).to(pixels)) for _ in range(draws))


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation (B,) of maps (B,h,w); 0 where one of them is constant."""
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
    spread = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(spread > 0, (a * b).sum(1) / spread.clamp_min(1e-30), 0.0)
