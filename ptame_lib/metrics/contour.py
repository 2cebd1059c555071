"""Does a map's first region have the outline of the truth? The boundary F-measure.

Martin et al., "Learning to detect natural image boundaries", TPAMI 2004; for regions Csurka et al., "What is a good
evaluation measure for semantic segmentation?", BMVC 2013.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..masking import resize
from ..validation import check_maps, check_truths


def boundary(regions: Tensor) -> Tensor:
    """The pixels of regions (B,H,W) bool with one of the 4 direct neighbours outside; the image's border is none.

    >>> boundary(torch.tensor([[[True, True, True, False]]]))
    tensor([[[False, False,  True, False]]])
    """
    padded = F.pad(regions[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0]
    beside = padded[:, :-2, 1:-1] * padded[:, 2:, 1:-1] * padded[:, 1:-1, :-2] * padded[:, 1:-1, 2:]
    return regions & (beside == 0)


def first_region(maps: Tensor, count: Tensor) -> Tensor:
    """The ``count`` (B,) pixels of each map (B,H,W) that rank first, (B,H,W) bool.

    Pixels tied at the last place are all in or all out, whichever comes nearer to the count (in, if both do): a random
    choice among them would draw a contour that the map does not have.
    """
    flat, count = maps.flatten(1), count[:, None]
    last = flat.sort(1, descending=True).values.gather(1, (count - 1).clamp_min(0))
    without, all_in = flat > last, flat >= last
    fewer, more = count - without.sum(1, keepdim=True), all_in.sum(1, keepdim=True) - count
    return torch.where((more <= fewer) & (count > 0), all_in, without & (count > 0)).view(maps.shape)


def contour(maps: Tensor, truth: Tensor, tolerance: float = 0.02) -> Tensor:
    """Boundary F-measure (B,) of the region that a map ranks first, as large as the truth, against the truth.

    ``maps`` (B,h,w) are resized to the truth (B,H,W) bool. Precision is the share of the region's boundary within
    ``tolerance`` of the image's diagonal (Euclidean, between pixels' centres) of the truth's boundary, recall the share
    of the truth's boundary within it of the region's. 0 for a region without a boundary, such as a constant map's; NaN
    for a truth without one: an empty truth, or the whole image. Raises ValueError for a negative tolerance.
    """
    if not tolerance >= 0:
        raise ValueError(f"the tolerance of a contour can't be {tolerance}: give a share of the diagonal, such as 0.02")
    check_maps(maps, len(truth))
    check_truths(truth, maps)
    size = truth.shape[-2:]
    return boundary_f(first_region(resize(maps.float(), size), truth.sum((1, 2))), truth, tolerance)


def boundary_f(regions: Tensor, truth: Tensor, tolerance: float = 0.02) -> Tensor:
    """Boundary F-measure (B,) of regions (B,H,W) bool against the truth (B,H,W) bool, as in `contour`."""
    found, wanted = boundary(regions), boundary(truth)
    reach = tolerance * math.hypot(*truth.shape[-2:])
    precision, recall = _near(found, wanted, reach), _near(wanted, found, reach)
    both = (precision + recall).nan_to_num()
    f = torch.where(both > 0, 2 * precision * recall / both.clamp_min(1e-12), 0.0)
    return torch.where(wanted.any(2).any(1), f, torch.nan)


def _near(pixels: Tensor, others: Tensor, reach: float) -> Tensor:
    """Of ``pixels`` (B,H,W) bool the share (B,) that has one of the ``others`` within ``reach``; NaN for none."""
    steps = min(int(reach), max(pixels.shape[-2:]) - 1)
    offsets = torch.arange(-steps, steps + 1, device=pixels.device)
    disc = (offsets[:, None] ** 2 + offsets**2 <= reach**2).float()
    near = F.conv2d(others[:, None].float(), disc[None, None], padding=steps)[:, 0] > 0.5
    return (pixels & near).sum((1, 2)).double() / pixels.sum((1, 2))
