"""Attribution to the right evidence: where several things could decide, does the map choose the one that does?"""

from __future__ import annotations

import torch
from torch import Tensor

from ..masking import resize
from ..validation import check_maps, check_truths


def mean_relevance(maps: Tensor, masks: Tensor) -> Tensor:
    """The mean (B,E) float64 of each map inside each of E masks; NaN for an empty mask.

    ``maps`` (B,h,w) are resized to the ``masks`` (B,E,H,W) bool. Raises ValueError for maps that are not (B,h,w) and
    finite, and for masks of another number or type.

    >>> mean_relevance(torch.tensor([[[0.25, 1.0]]]), torch.tensor([[[[True, False]], [[True, True]]]]))
    tensor([[0.2500, 0.6250]], dtype=torch.float64)
    """
    if masks.ndim != 4 or not masks.shape[1]:
        raise ValueError(f"masks must be (B,E,H,W), one per candidate, got {tuple(masks.shape)}")
    check_maps(maps, len(masks))
    check_truths(masks[:, 0], maps)
    values, inside = resize(maps.float(), masks.shape[-2:]).flatten(1).double(), masks.flatten(2)
    total = torch.einsum("bp,bep->be", values, inside.double())
    return total / inside.sum(2)  # 0 / 0 is NaN


def right_evidence(maps: Tensor, masks: Tensor, own: int | Tensor) -> Tensor:
    """1 where the map's mean relevance is highest in its ``own`` mask, (B,) float64; NaN where that mask is empty.

    ``maps`` (B,h,w); ``masks`` (B,E,H,W) bool, the candidates; ``own``: the number of the one that decides, for all
    images or (B,) for each. Candidates with equal means share the 1, so that a constant map gets 1/E, which is chance.
    Empty candidates are left out. Raises ValueError for a number that no mask has, and as `mean_relevance`.

    >>> masks = torch.tensor([[[[True, False]], [[False, True]]]])
    >>> right_evidence(torch.tensor([[[0.2, 1.0]]]), masks, 1), right_evidence(torch.ones(1, 1, 2), masks, 1)
    (tensor([1.], dtype=torch.float64), tensor([0.5000], dtype=torch.float64))
    """
    check_maps(maps, len(masks))
    means = mean_relevance(maps.float() - maps.float().amin((1, 2), keepdim=True), masks)  # so that constants tie
    numbers = torch.as_tensor(own, device=means.device).expand(len(means))
    if ((numbers < 0) | (numbers >= means.shape[1])).any():
        given = f"{int(numbers.min())} to {int(numbers.max())}"
        raise ValueError(f"own must be the number of a mask, 0 to {means.shape[1] - 1}, got {given}")
    chosen = means.nan_to_num(-torch.inf)
    best = chosen == chosen.amax(1, keepdim=True)
    ours = means.gather(1, numbers[:, None])[:, 0]
    share = best.gather(1, numbers[:, None])[:, 0].double() / best.sum(1)
    return torch.where(ours.isnan(), torch.nan, share)
