"""Which class of an auxiliary each class of a classifier is, found from what both answer to the same images."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_ALIKE = "give logits (N,K) and (N,J) of the same N images, 2 or more"


def match_classes(answers: Tensor, known: Tensor) -> Tensor:
    """For each of K classes, which of J it is most like: (K,) int64, each of the J at most once where J >= K.

    ``answers`` (N,K) and ``known`` (N,J): logits of the classifier and of the auxiliary for the same images, which need
    no labels and no object of most classes. Two classes are alike where their logits, less each image's mean, rise and
    fall together (correlation over the images); the matching has the largest sum of correlations. With it,
    `PTAME.start_from_head` starts from ``head[match_classes(...)]``: from what the classifier answers, not from the
    numbers of its classes. Raises ValueError for other shapes and for logits that are not finite.
    """
    from scipy.optimize import linear_sum_assignment  # here, since scipy takes a while to load

    if answers.ndim != 2 or known.ndim != 2 or len(answers) != len(known) or len(answers) < 2:
        raise ValueError(f"got logits {tuple(answers.shape)} and {tuple(known.shape)}: {MOST_ALIKE}")
    if not (answers.isfinite().all() and known.isfinite().all()):
        raise ValueError("the logits are not finite: check the networks")
    alike = (_standardised(answers).T @ _standardised(known)).cpu().numpy()  # (K,J): correlations
    if alike.shape[0] > alike.shape[1]:
        return torch.from_numpy(alike.argmax(1))
    return torch.from_numpy(linear_sum_assignment(alike, maximize=True)[1])


def _standardised(logits: Tensor) -> Tensor:
    """Columns of mean 0 and norm 1, after each image's mean is taken off; a constant column is 0."""
    logits = logits.double()
    logits = logits - logits.mean(1, keepdim=True)
    logits = logits - logits.mean(0)
    return logits / logits.norm(dim=0).clamp_min(1e-12)
