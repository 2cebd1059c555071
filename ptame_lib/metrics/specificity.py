"""Is a class's mask about that class? Masks of other classes applied to a class's images.

Stalder et al., "What You See is What You Classify", NeurIPS 2022, section 4: the class-specific test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from ..masking import blend, resize
from ..validation import check_answers, check_classes
from .localisation import THRESHOLDS

NONE = "none"  # in place of a mask's class: the whole image


@torch.no_grad()
def class_confusion(
    classifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    maps_of: Callable[[Tensor, Tensor], Tensor],
    classes: Sequence[int],
    names: Sequence[str] | None = None,
    *,
    colour: Tensor | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> pd.DataFrame:
    """What the classifier says of class i where the mask of class j keeps the image.

    ``batches`` of pixels (B,3,H,W) and labels (B,K): an image counts for each of its labels among ``classes`` (an image with two
    of them is in two rows). ``maps_of(pixels, classes)``: maps (B,n,h,w) in [0,1] of n classes for every image, used as they are;
    `one_by_one` makes it of a method that explains one target per image. Each map is binarised (>= threshold), the rest takes
    ``colour`` (1,3,1,1), by default the classifier's mean; the softmax probability over the logits is averaged over the thresholds.

    Returns rows image_class, mask_class (a name, or ``none`` for the whole image), probability in percent (mean over the images
    of the class; NaN without any) and images (how many). Names are ``names[i]`` for class i, else the number as text.
    Raises ValueError for a map's class count that doesn't fit, a class that the classifier has not, and for a classifier without a mean
    where no colour is given; FloatingPointError where the classifier answers NaN.
    """
    colour = getattr(classifier, "mean", None) if colour is None else colour
    if colour is None:
        raise ValueError(f"{type(classifier).__name__} has no mean colour: pass colour=<tensor (1,3,1,1)>")
    wanted = torch.as_tensor(classes)
    total, count = (
        torch.zeros(len(wanted), len(wanted) + 1, dtype=torch.double),
        torch.zeros(len(wanted), 1, dtype=torch.double),
    )
    for pixels, labels in batches:
        here = wanted.to(pixels.device)
        maps = maps_of(pixels, here)
        if maps.shape[:2] != (len(pixels), len(wanted)):
            raise ValueError(
                f"maps_of gave {tuple(maps.shape)} for {len(pixels)} images and {len(wanted)} classes: it must be (B,n,h,w)"
            )
        said = [_probability(classifier, pixels, here)]  # of each class (B,n): on the whole image, then by mask
        for j in range(len(wanted)):
            mask = resize(maps[:, j].float(), pixels.shape[-2:])
            said.append(
                sum(_probability(classifier, blend(pixels, (mask >= t).float(), colour), here) for t in thresholds)
                / len(thresholds)
            )
        present = (labels[:, here.to(labels.device)] > 0.5).double().cpu()  # (B,n)
        total += torch.einsum("bi,bij->ij", present, torch.stack(said, 2).cpu())
        count += present.sum(0)[:, None]
    named = [str(c) if names is None else names[c] for c in classes]
    values = 100 * total / count  # (n, 1 + n)
    return pd.DataFrame(
        [(a, b, values[i, j].item(), int(count[i])) for i, a in enumerate(named) for j, b in enumerate([NONE, *named])],
        columns=["image_class", "mask_class", "probability", "images"],
    )


def specificity(confusion: pd.DataFrame) -> dict[str, float]:
    """Means over the classes of `class_confusion`: on the whole image (``whole``), by its own class's mask (``own``) and by others'
    (``others``), in percent; ``kept``, own as percent of whole. Chance is 100 / K."""
    table = confusion.dropna(subset="probability")
    own, none = table.image_class == table.mask_class, table.mask_class == NONE
    whole, kept, others = (table.probability[rows].mean() for rows in (none, own, ~own & ~none))
    return {"whole": whole, "own": kept, "others": others, "kept": 100 * kept / whole}


def one_by_one(explain: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A method (pixels, targets (B,)) -> maps (B,h,w) as ``maps_of`` for `class_confusion`: its own ``maps`` where it has them, since many
    classes then cost what one does (`rise`), else it is asked once per class."""
    if hasattr(explain, "maps"):
        return explain.maps

    def maps_of(pixels: Tensor, classes: Tensor) -> Tensor:
        return torch.stack([explain(pixels, c.expand(len(pixels))) for c in classes], 1)

    return maps_of


@torch.no_grad()
def label_confidence(
    classifier: nn.Module, pixels: Tensor, labels: Tensor, masks: Tensor | None = None, colour: Tensor | None = None
) -> Tensor:
    """Sum (B,) of the softmax probabilities of an image's labels (B,K), each counted once, where the masks (B,h,w) keep it and
    ``colour`` (by default the classifier's mean) replaces the rest: what `saliency_metric` takes for several labels.

    Raises ValueError for labels of another shape, FloatingPointError where the classifier answers NaN."""
    if masks is not None:
        pixels = blend(pixels, masks, classifier.mean if colour is None else colour)
    logits = classifier(pixels)
    check_answers(logits)
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels must be (B,K), one for each of the classifier's classes {tuple(logits.shape)}, got {tuple(labels.shape)}"
        )
    return (logits.double().softmax(1) * (labels > 0.5)).sum(1)


def _probability(classifier: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor:
    logits = classifier(pixels)
    check_answers(logits)
    check_classes(classes, logits.shape[1])
    return logits.double().softmax(1)[:, classes]
