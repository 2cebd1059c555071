"""The region loss: a region that moves to another image takes along the share of the decision that the map gives it.

The swap loss (`swaps`) looks at the pixels that a map puts first, so it says nothing about small things in between: a
background decides just as well without a twentieth of it. This loss draws the regions itself, without the map. It is
that of Shapley values in one pass (`shapley`), where what is missing comes from another image and is not black.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..masking import resize

CELLS = (2, 4, 8, 16)  # per side of the grids whose cells are drawn
SMALLEST, LARGEST = 0.01, 0.8  # shares of an image's pixels in a region of one colour
ALIKE = 0.7  # share of the regions that are of one colour; the others are cells of a grid
NEAR = (-2.0, 1.0)  # powers of ten: how much a squared distance, in sides, counts beside one of colours
COMMON = 1e-4  # added to squared distances of colours: in an image of one colour, all pixels are alike
LEAST = 1e-3  # of a difference between two images' decisions: below it, shares of it mean nothing


def draw_regions(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Regions (B,H,W) bool of images (B,3,H,W): pixels like a random one in colour and place, or cells of a grid.

    A pixel is drawn the more often, the further its colour is from the image's mean: so small things of a colour of
    their own are met, and alone. Colours are means of 3x3 pixels, black beyond the border. Of a half of the regions the
    rest of the image is taken. The ``generator`` is a CPU's; the regions are where the pixels are.
    """
    b, _, h, w = pixels.shape

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator).to(pixels.device)

    # what is like a random pixel: colours in a neighbourhood of 3x3, less for what is further away
    seen = F.avg_pool2d(pixels, 3, 1, 1)
    rare = ((seen - seen.mean((2, 3), keepdim=True)) ** 2).sum(1).flatten(1) + COMMON
    at = torch.multinomial(rare.cpu(), 1, generator=generator)[:, 0].to(pixels.device)
    colour = seen.flatten(2).gather(2, at[:, None, None].expand(b, 3, 1))[..., None]  # (B,3,1,1)
    y, x = torch.arange(h, device=pixels.device) / h, torch.arange(w, device=pixels.device) / w
    away = (y[:, None] - y[at // w][:, None, None]) ** 2 + (x - x[at % w][:, None, None]) ** 2  # (B,H,W)
    near = 10 ** (NEAR[0] + (NEAR[1] - NEAR[0]) * uniform(b, 1, 1))
    like = -((seen - colour) ** 2).sum(1) - near * away

    # cells of a grid that begins anywhere
    side = CELLS[int(torch.randint(len(CELLS), (1,), generator=generator))]
    cells = F.interpolate(uniform(b, 1, side, side), (h, w), mode="nearest")[:, 0]
    cells = cells.roll([int(n * torch.rand(1, generator=generator)) for n in (h, w)], (1, 2))

    # one of the two for each image, of a random size; of a half the rest
    low, high = torch.tensor([SMALLEST, LARGEST]).logit().tolist()
    alike = uniform(b) < ALIKE
    sizes = torch.where(alike, (low + (high - low) * uniform(b)).sigmoid(), uniform(b))
    field = torch.where(alike[:, None, None], like, cells).flatten(1)
    rank = (h * w * (1 - sizes)).long().clamp(0, h * w - 1)
    regions = field >= field.sort(1).values.gather(1, rank[:, None])
    return (regions ^ (uniform(b, 1) < 0.5)).view(b, h, w)


def moved_shares(mixed: Tensor, whole: Tensor, targets: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each decision a region took along (B,), and for which images (B,) bool that can be told.

    Probabilities (B,K): ``mixed``, of each image's region on its ``other`` image (indices (B,)), and ``whole``, of the
    images. Measured is the probability of the image's target less that of the other's: a share of 1 is as on the whole
    image, 0 as on the other one. Where both are decided alike nothing can be told.
    """
    rows = torch.arange(len(targets), device=targets.device)

    def ahead(answers: Tensor) -> Tensor:
        return answers[rows, targets] - answers[rows, targets[other]]

    most, least = ahead(whole), ahead(whole[other])
    told = (targets != targets[other]) & (most - least > LEAST)
    return ((ahead(mixed) - least) / (most - least).clamp_min(LEAST)).clamp(-0.1, 1.1), told


def region_loss(maps: Tensor, regions: Tensor, shares: Tensor, told: Tensor) -> Tensor:
    """The mean squared difference of a region's share in the map and the share of the decision that it took along.

    ``maps`` (B,h,w): raw, with any sign; softplus(map - 1) is summed, at the size of the ``regions`` (B,H,W) bool.
    ``shares`` (B,) and ``told`` (B,) bool: of `moved_shares`; the others do not count. 0 where none does.
    """
    values = F.softplus(resize(maps, tuple(regions.shape[-2:])) - 1)
    inside = (values * regions).sum((1, 2)) / values.sum((1, 2)).clamp_min(1e-6)
    return (told * (inside - shares) ** 2).sum() / told.sum().clamp_min(1)
