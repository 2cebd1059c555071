"""Sanity checks: maps of spoiled classifiers, and classifiers whose evidence is known by construction.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018; layers are randomised in cascade from the input side,
as in P-TAME's evaluation.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from scipy.stats import rankdata
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from ..classifiers.wrapper import Classifier, device_of
from ..masking import normalise, resize


def randomise(classifier: Classifier, upto: str, seed: int = 0) -> Classifier:
    """A copy of the classifier, freshly initialised up to and including the module ``upto`` of its model.

    "Up to" is the order in which the model registers its modules. Parameters outside layers that can initialise
    themselves (such as position embeddings) are drawn from a normal distribution of their own deviation. Raises
    ValueError for an unknown module.
    """
    names = dict(classifier.model.named_modules())
    if upto not in names or not upto:
        known = ", ".join(n for n in names if n and "." not in n)
        raise ValueError(f"no module {upto!r} in {type(classifier.model).__name__}: it has {known}")
    spoiled = copy.deepcopy(classifier)
    order = [n for n, _ in spoiled.model.named_modules() if n]
    last = max(i for i, n in enumerate(order) if n == upto or n.startswith(f"{upto}."))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name in ["", *order[: last + 1]]:
            module = spoiled.model.get_submodule(name)
            # a module that also holds layers past the last one is no layer itself
            holds_others = not name or upto.startswith(f"{name}.")
            if hasattr(module, "reset_parameters") and not holds_others:
                module.reset_parameters()
                continue
            for parameter in module.parameters(recurse=False):
                parameter.normal_(std=parameter.std().item() if parameter.numel() > 1 else 1.0)
    return spoiled


class Permuted(nn.Module):
    """A network with its head permuted: logit k is the ``model``'s logit ``order[k]``."""

    def __init__(self, model: nn.Module, order: Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("order", order, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)[:, self.order]


def permute_head(classifier: Classifier, order: Tensor) -> Classifier:
    """The classifier with its head permuted: it says ``k`` for the reasons that made the original say ``order[k]``.

    An explanation of class k must then be the original's of class ``order[k]``. What does not follow the permutation
    shows what it knows of the classes, not what this classifier sees. ``order`` (K,): a permutation of the classes;
    ValueError for anything else. The classifier's network is shared, its labels stay where they were.
    """
    classes = classifier.num_classes or len(order)
    if order.ndim != 1 or sorted(order.tolist()) != list(range(classes)):
        raise ValueError(f"order must be a permutation of the {classes} classes, got {order.tolist()}")
    mean, std = (value.flatten().tolist() for value in (classifier.mean, classifier.std))
    about = (classifier.input_size, classifier.labels, classes, classifier.multi_label)
    return Classifier(Permuted(classifier.model, order), mean, std, *about).to(device_of(classifier))


def similarity(a: Tensor, b: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """How similar maps (B,h,w) are, per image: by rank correlation, and by structural similarity.

    Both are min-max normalised and resized to ``size``; both values are in [-1,1], Spearman's 0 where a map is
    constant.
    """
    a, b = (resize(normalise(maps.cpu()), size) for maps in (a, b))
    # Spearman's correlation is Pearson's of the ranks
    ranks = [torch.from_numpy(rankdata(maps.flatten(1).numpy(), axis=1)) for maps in (a, b)]
    ranks = [r - r.mean(1, keepdim=True) for r in ranks]
    spread = ranks[0].norm(dim=1) * ranks[1].norm(dim=1)
    spearman = torch.where(spread > 0, (ranks[0] * ranks[1]).sum(1) / spread.clamp_min(1e-12), 0.0)
    ssim = [structural_similarity(x.numpy(), y.numpy(), data_range=1.0) for x, y in zip(a, b, strict=True)]
    return spearman.float(), torch.tensor(ssim)


class OneQuadrant(nn.Module):
    """A network that sees one quadrant of its image; the rest is set to the mean colour.

    It takes normalised images (B,3,H,W), whose mean colour is 0. ``quadrant``: 0 upper left, 1 upper right, 2 lower
    left, 3 lower right.
    """

    def __init__(self, model: nn.Module, quadrant: int):
        super().__init__()
        self.model, self.quadrant = model, quadrant

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x * quadrant_mask(x.shape[-2:], self.quadrant).to(x))


def quadrant_mask(size: Sequence[int], quadrant: int) -> Tensor:
    """The quadrant's pixels (H,W) bool.

    >>> quadrant_mask((2, 4), 1).int()
    tensor([[0, 0, 1, 1],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    height, width = size
    rows, columns = torch.arange(height) >= height // 2, torch.arange(width) >= width // 2
    return (rows == bool(quadrant // 2))[:, None] & (columns == bool(quadrant % 2))


class PatchFinder(nn.Module):
    """A hand-made network that finds square patches of six pure colours, class k for colour k.

    ``side``: of the patches in pixels. Per colour a convolution, a ReLU and the best place. It takes pixels in [0,1] (a
    mean of 0, a deviation of 1).
    """

    COLOURS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1))

    def __init__(self, side: int = 8, strength: float = 8.0):
        super().__init__()
        colours = torch.tensor(self.COLOURS, dtype=torch.float32)
        # 1 at the colour itself, at most 0 at the other five and at grey of any brightness
        self.likeness = nn.Conv2d(3, 6, 1)
        on, off = colours.sum(1), 3 - colours.sum(1)
        weight = torch.where(colours > 0, 1 / on[:, None], -1 / off[:, None])
        self.likeness.weight.data = weight[..., None, None]
        self.likeness.bias.data.zero_()
        self.smooth = nn.Conv2d(6, 6, side, stride=side // 2, groups=6, bias=False)
        nn.init.constant_(self.smooth.weight, 1 / side**2)
        self.relu, self.strength = nn.ReLU(), strength

    def forward(self, x: Tensor) -> Tensor:
        found = self.smooth(self.relu(self.likeness(x)))
        return self.strength * found.amax((2, 3))


def plant_patches(pixels: Tensor, side: int = 8, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B,3,H,W) with 30 % of their colour left and one pure-coloured patch at a random place.

    Also returns the colours' numbers (B,) and the patches' pixels (B,H,W) bool.
    """
    generator = torch.Generator().manual_seed(seed)
    count, _, height, width = pixels.shape
    grey = 0.3 * pixels + 0.7 * pixels.mean(1, keepdim=True)
    colours = torch.randint(0, 6, (count,), generator=generator)
    step = side // 2
    top = torch.randint(0, (height - side) // step + 1, (count,), generator=generator) * step
    left = torch.randint(0, (width - side) // step + 1, (count,), generator=generator) * step
    # the patch's pixels
    y, x = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    top, left = top[:, None, None], left[:, None, None]
    truth = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
    paint = torch.tensor(PatchFinder.COLOURS, dtype=pixels.dtype)[colours][:, :, None, None]
    return torch.where(truth[:, None], paint, grey), colours, truth
