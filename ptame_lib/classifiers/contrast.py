"""Why one class and not another: a classifier as one that decides between two of its classes.

    between = contrast(classifier, 9, 1)
    maps = cam("HiResCAM", between)(pixels, torch.zeros(len(pixels), dtype=torch.int64))   # why 9 and not 1

Any method that explains a class of it explains the difference of the two logits, as in Prabhushankar, Kwon, Temel,
AlRegib, "Contrastive explanations in neural networks", ICIP 2020. Evidence about these maps is in the probability of
one of the two classes against the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .black_box import BlackBox
from .wrapper import Classifier


class Contrast(Classifier):
    """A classifier of two classes: pixels (B,3,H,W) in [0,1] -> logits (B,2), half the difference and its negative.

    The softmax then gives ``one``'s probability among the two. The network is shared with ``classifier``.
    """

    def __init__(self, classifier: Classifier, one: int, other: int):
        mean, std = (value.flatten().tolist() for value in (classifier.mean, classifier.std))
        super().__init__(classifier.model, mean, std, classifier.input_size, _names(classifier, one, other))
        self.to(classifier.mean.device)
        self._whole, self.pair = (classifier,), (one, other)  # a tuple: the network is a part of this module already

    def forward(self, pixels: Tensor) -> Tensor:
        return _difference(self._whole[0](pixels), *self.pair)


def contrast(classifier: Classifier | BlackBox, one: int, other: int) -> Classifier | BlackBox:
    """The classifier as one of the classes ``one`` (now 0) and ``other`` (now 1), by the difference of their logits.

    Raises ValueError for one class twice and, where the number of classes is known, for one that there is not.
    """
    count = classifier.num_classes
    if one == other:
        raise ValueError(f"class {one} can't be contrasted with itself: give another class")
    if wrong := [c for c in (one, other) if c < 0 or (count is not None and c >= count)]:
        raise ValueError(f"the classifier has no class {wrong[0]}: it has 0..{'K' if count is None else count - 1}")
    if classifier.differentiable:
        return Contrast(classifier, one, other)
    names = _names(classifier, one, other)
    return BlackBox(lambda pixels: _difference(classifier(pixels), one, other), classifier.input_size, names)


def _difference(logits: Tensor, one: int, other: int) -> Tensor:
    """Logits (B,2) of the two classes against each other."""
    half = (logits[:, one] - logits[:, other]) / 2
    return torch.stack([half, -half], 1)


def _names(classifier: Classifier | BlackBox, one: int, other: int) -> tuple[str, str]:
    """Names of the two, each with the other: what is said of them must not be taken for what it has of all classes."""
    labels = classifier.labels
    first, second = (f"class {c}" if labels is None else labels[c] for c in (one, other))
    return f"{first} against {second}", f"{second} against {first}"
