""""""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .wrapper import Classifier


class GroupedClassifier(Classifier):
    """A classifier of groups: pixels (B,3,H,W) in [0,1] -> logits (B,G), each the log-sum-exp of the logits of a group's classes.

    The softmax over these logits is then the probability of each group, as the softmax over all classes gives it, among the classes that
    are in any group. It shares the network of ``classifier``; ``groups`` (class number -> group's name) may leave classes out. The
    groups are numbered in the order in which they come first, and are its ``labels``.

    Raises ValueError for no groups, and for a class number that the classifier has not.
    """

    def __init__(self, classifier: Classifier, groups: Mapping[int, str]):
        mean, std = classifier.mean.flatten().tolist(), classifier.std.flatten().tolist()
        super().__init__(classifier.model, mean, std, classifier.input_size, tuple(dict.fromkeys(groups.values())))
        with torch.no_grad():
            count = self.run(torch.zeros(1, 3, *self.input_size, device=classifier.mean.device)).shape[1]
        wrong = [c for c in groups if not 0 <= c < count]
        if wrong or not groups:
            raise ValueError(
                f"the groups name class {wrong[0]}, but the classifier has 0..{count - 1}"
                if wrong
                else "there are no groups of classes"
            )
        self.members = [torch.tensor([c for c, name in groups.items() if name == label]) for label in self.labels]

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.run(pixels)
        return torch.stack([logits[:, classes.to(logits.device)].logsumexp(1) for classes in self.members], 1)
