"""SaCo: do the sizes of a map's values say how much the pixels matter?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..masking import resize
from ..validation import check_at_least, check_maps
from .curves import emptied
from .drop import confidence
from .ranking import ranked


@torch.no_grad()
def saco(
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    maps: Tensor,
    groups: int = 10,
    *,
    seed: int = 0,
    ranking: Tensor | None = None,
    whole: Tensor | None = None,
) -> Tensor:
    """Salience-guided faithfulness coefficient (B,) in [-1,1]; higher is better (Wu et al., CVPR 2024).

    The pixels are parted, in the map's order, into ``groups`` of equal size (as near as it goes, hence by their mean
    salience). The influence of a group is what the probability loses when it alone takes the image's mean colour. Each
    pair of groups counts by the difference of its saliences: for the map where the more salient one has at least the
    influence of the other, else against it; the sum is divided by that of all differences. 0 for a constant map.

    ``maps`` (B,h,w) are resized to the image; a factor or a constant changes nothing, a power does. ``seed`` orders
    ties. If known: ``ranking``, as `ranked` gives it, and the probability of the ``whole`` image (B,). Raises
    ValueError for fewer than two groups, and as `masked_confidence`.
    """
    check_at_least(2, groups=groups)
    check_maps(maps, len(pixels))
    maps = resize(maps.float(), pixels.shape[-2:])
    ranking = ranked(maps, seed=seed) if ranking is None else ranking
    whole = confidence(classifier, pixels, targets) if whole is None else whole
    values, empty, n = maps.flatten(1).double(), emptied(pixels), ranking.shape[1]
    salience, influence = [], []
    for k in range(groups):
        members = ranking[:, round(n * k / groups) : round(n * (k + 1) / groups)]
        if not members.shape[1]:
            continue  # fewer pixels than groups
        salience.append(values.gather(1, members).mean(1))
        chosen = torch.zeros_like(values, dtype=torch.bool).scatter_(1, members, True).view(-1, 1, *pixels.shape[-2:])
        influence.append(whole - confidence(classifier, torch.where(chosen, empty, pixels), targets))
    return _coefficient(torch.stack(salience, 1), torch.stack(influence, 1))


def _coefficient(salience: Tensor, influence: Tensor) -> Tensor:
    """The coefficient (B,) of groups (B,K) in descending order of their ``salience``."""
    i, j = torch.triu_indices(*[salience.shape[1]] * 2, offset=1, device=salience.device)
    weight = salience[:, i] - salience[:, j]
    signed = torch.where(influence[:, i] >= influence[:, j], weight, -weight).sum(1)
    total = weight.sum(1)
    return torch.where(total > 0, signed / total.clamp_min(1e-30), 0.0)
