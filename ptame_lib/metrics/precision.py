"""R-precision: how much of the truth the pixels hold that a map ranks first."""

from __future__ import annotations

import torch
from torch import Tensor

from ..masking import resize
from ..validation import check_maps, check_truths


def precision_at_truth(maps: Tensor, truth: Tensor) -> Tensor:
    """Among the |T| pixels ranked first, the share (B,) inside the truth T; NaN for an empty truth.

    ``maps`` (B,h,w) are resized to the truth (B,H,W) bool. Pixels tied at the last place share it: they count by the
    share of the truth among them, so a constant map gets the truth's area. R-precision of information retrieval
    (Manning et al., "Introduction to Information Retrieval", 2008, 8.4), with the ties of McSherry & Najork, ECIR 2008.

    >>> precision_at_truth(torch.tensor([[[0.9, 0.5], [0.5, 0.1]]]), torch.tensor([[[True, True], [False, False]]]))
    tensor([0.7500], dtype=torch.float64)
    """
    check_maps(maps, len(truth))
    check_truths(truth, maps)
    flat, inside = resize(maps.float(), truth.shape[-2:]).flatten(1), truth.flatten(1)
    count = inside.sum(1, keepdim=True)
    # the value at the last place, the pixels above it, and those that share it
    last = flat.sort(1, descending=True).values.gather(1, (count - 1).clamp_min(0))
    above, tied = flat > last, flat == last
    places = (count - above.sum(1, keepdim=True)).double()
    shared = places / tied.sum(1, keepdim=True) * (tied & inside).sum(1, keepdim=True)
    hits = (above & inside).sum(1, keepdim=True) + shared
    return torch.where(count > 0, hits / count.clamp_min(1), torch.nan)[:, 0]
