"""A classifier of groups of classes, made from a classifier of the classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .wrapper import Classifier


class GroupedClassifier(Classifier):
    """A classifier of groups: pixels (B,3,H,W) in [0,1] -> logits (B,G).

    The logit of a group is the log-sum-exp of the logits of its classes, so that the softmax gives each group's
    probability among the classes that are in a group. ``groups`` maps class numbers to group names, and may leave
    classes out; the names, in order of first appearance, are the ``labels``. The network is shared with ``classifier``.

    Raises ValueError for no groups, and for a class number that the classifier does not have.
    """

    def __init__(self, classifier: Classifier, groups: Mapping[int, str]):
        mean, std = classifier.mean.flatten().tolist(), classifier.std.flatten().tolist()
        super().__init__(classifier.model, mean, std, classifier.input_size, tuple(dict.fromkeys(groups.values())))
        if classifier.owned:
            self.own()
        with torch.no_grad():
            count = self.logits(torch.zeros(1, 3, *self.input_size, device=classifier.mean.device)).shape[1]
        if not groups:
            raise ValueError("there are no groups of classes")
        if wrong := [c for c in groups if not 0 <= c < count]:
            raise ValueError(f"the groups name class {wrong[0]}, but the classifier has 0..{count - 1}")
        self.members = [torch.tensor([c for c, name in groups.items() if name == label]) for label in self.labels]

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.logits(pixels)
        return torch.stack([logits[:, classes.to(logits.device)].logsumexp(1) for classes in self.members], 1)
