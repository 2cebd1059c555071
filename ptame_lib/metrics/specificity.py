"""Is a class's mask about that class? Masks of other classes applied to a class's images.

Stalder et al., "What You See is What You Classify", NeurIPS 2022, section 4: the class-specific test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..classifiers.wrapper import answers
from ..masking import blend, resize
from ..validation import check_answers, check_classes
from .localisation import THRESHOLDS


class Confusion(NamedTuple):
    """What `class_confusion` found for n classes.

    ``values`` (n,1+n): mean probability of the row's class over its images, in percent, NaN without images; the first
    column is the whole image, the others what each class's mask keeps. ``images`` (n,): how many there are of each
    class.
    """

    values: Tensor
    images: Tensor


@torch.no_grad()
def class_confusion(
    classifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    maps_of: Callable[[Tensor, Tensor], Tensor],
    classes: Sequence[int],
    *,
    colour: Tensor | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Confusion:
    """The probability of class i where the mask of class j keeps the image, for all pairs of ``classes``.

    ``batches`` of pixels (B,3,H,W) and labels (B,K); an image counts for each of its labels among the classes.
    ``maps_of(pixels, classes)``: maps (B,n,h,w) in [0,1] of n classes for every image, used as they are (`one_by_one`
    makes it from a method for one target). Each map is binarised (>= threshold), the rest takes ``colour`` (1,3,1,1),
    by default the classifier's mean; the softmax probability is averaged over the thresholds.

    Raises ValueError for maps of another shape, for a class the classifier does not have, and for a classifier without
    a mean where no colour is given; FloatingPointError where the classifier answers NaN.
    """
    colour = getattr(classifier, "mean", None) if colour is None else colour
    if colour is None:
        raise ValueError(f"{type(classifier).__name__} has no mean colour: pass colour=<tensor (1,3,1,1)>")
    wanted = torch.as_tensor(classes)
    n = len(wanted)
    total, count = torch.zeros(n, n + 1, dtype=torch.double), torch.zeros(n, dtype=torch.double)
    for pixels, labels in batches:
        here = wanted.to(pixels.device)
        maps = maps_of(pixels, here)
        if maps.shape[:2] != (len(pixels), n):
            shape = tuple(maps.shape)
            raise ValueError(f"maps_of gave {shape} for {len(pixels)} images and {n} classes: it must be (B,n,h,w)")
        # probabilities (B,n) of every class: on the whole image, then under each class's mask
        found = [_probability(classifier, pixels, here)]
        for j in range(n):
            mask = resize(maps[:, j].float(), pixels.shape[-2:])
            kept = (blend(pixels, (mask >= t).float(), colour) for t in thresholds)
            found.append(sum(_probability(classifier, images, here) for images in kept) / len(thresholds))
        # an image counts in the row of each of its labels
        present = (labels[:, here.to(labels.device)] > 0.5).double().cpu()  # (B,n)
        total += torch.einsum("bi,bij->ij", present, torch.stack(found, 2).cpu())
        count += present.sum(0)
    return Confusion(100 * total / count[:, None], count.long())


def specificity(values: Tensor) -> dict[str, float]:
    """Means of a `Confusion`'s values (n,1+n) over the classes, in percent; chance is 100 / K.

    ``whole``: on the whole image; ``own``: under the class's own mask; ``others``: under those of other classes;
    ``kept``: own as percent of whole. Classes without images are left out.
    """
    own = torch.eye(len(values), dtype=torch.bool)
    cells = {"whole": values[:, :1], "own": values[:, 1:][own], "others": values[:, 1:][~own]}
    known = {name: part[~part.isnan()].numpy() for name, part in cells.items()}
    means = {name: float(part.mean()) if len(part) else math.nan for name, part in known.items()}
    return means | {"kept": 100 * means["own"] / means["whole"]}


def one_by_one(explain: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A method (pixels, targets (B,)) -> maps (B,h,w) as ``maps_of`` for `class_confusion`.

    Its own ``maps`` if it has them, since many classes then cost what one does (`rise`), else it is asked once per
    class.
    """
    if hasattr(explain, "maps"):
        return explain.maps

    def maps_of(pixels: Tensor, classes: Tensor) -> Tensor:
        return torch.stack([explain(pixels, c.expand(len(pixels))) for c in classes], 1)

    return maps_of


@torch.no_grad()
def label_confidence(
    classifier: nn.Module, pixels: Tensor, labels: Tensor, masks: Tensor | None = None, colour: Tensor | None = None
) -> Tensor:
    """The sum (B,) of the softmax probabilities of an image's labels (B,K), each counted once.

    With masks (B,h,w), ``colour`` (by default the classifier's mean) replaces what they do not keep; it is what
    `saliency_metric` takes for several labels. Raises ValueError for labels of another shape, FloatingPointError where
    the classifier answers NaN.
    """
    if masks is not None:
        pixels = blend(pixels, masks, classifier.mean if colour is None else colour)
    logits = answers(classifier, pixels)
    check_answers(logits)
    if labels.shape != logits.shape:
        shapes = f"{tuple(logits.shape)}, got {tuple(labels.shape)}"
        raise ValueError(f"labels must be (B,K), one for each of the classifier's classes {shapes}")
    return (logits.double().softmax(1) * (labels > 0.5)).sum(1)


def _probability(classifier: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor:
    logits = answers(classifier, pixels)
    check_answers(logits)
    check_classes(classes, logits.shape[1])
    return logits.double().softmax(1)[:, classes]
