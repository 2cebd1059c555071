"""Classes without a training image: their rows of P-TAME's fuser, predicted from the classifier's own head.

The last linear layer of a classifier has a row of weights for each class, the class's embedding. One linear map takes
embeddings to rows of the fuser. It is found by ridge regression on the classes that the explainer was trained on, as
Elhoseiny, Saleh, Elgammal, "Write a Classifier: Zero-Shot Learning Using Purely Textual Descriptions", ICCV 2013,
predict a classifier's weights from what describes a class.

    head = load_head("resnet50")                                       # (K,D), of the classifier that is explained
    with torch.no_grad():
        explainer.fuser.weight.copy_(rows_from_head(explainer, head, seen))

Between n seen classes the map has at most n - 1 directions. What a head has beside them is not used: where each class
has a direction of its own, as in a well-trained head of few classes, the prediction is about the mean of the seen rows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..validation import check_classes
from .ptame import PTAME

RIDGES = tuple(10.0**k for k in range(-9, 4))  # of the mean square of the embeddings around their mean
LEAST = 3  # seen classes: without one of them, a line still goes through two


def rows_from_head(explainer: PTAME, head: Tensor, seen: Tensor) -> Tensor:
    """Predict the fuser's rows of all classes but the seen ones; the weight (K,sum C_l,1,1), the explainer unchanged.

    ``head`` (K,D): the weight of the explained classifier's last linear layer. ``seen`` (n,) int64: the classes that
    the explainer was trained on, whose rows stay as they are. The ridge is the one of `RIDGES` with the least squared
    error for seen classes that are left out one by one. Adding a row to the whole head or scaling it changes nothing. A
    fuser's bias needs no prediction, since it cancels in `PTAME.explain`.

    Raises ValueError for a head of another shape, fewer than 3 seen classes, classes outside the range, and values that
    are not finite.
    """
    from sklearn.linear_model import RidgeCV  # here, since scikit-learn takes a while to load

    _check(explainer, head, seen)
    rows = explainer.fuser.weight.detach().clone()  # (K,C,1,1)
    known = torch.zeros(len(rows), dtype=torch.bool)
    known[seen.cpu()] = True
    if known.all():
        return rows

    # embeddings around the mean of the seen ones, whose mean square becomes 1
    embeddings = head.detach().cpu().double().numpy()
    embeddings = embeddings - embeddings[known].mean(0)
    spread = np.sqrt(np.square(embeddings[known]).sum(1).mean())
    embeddings = embeddings / max(spread, 1e-12)

    # without cv=, scikit-learn leaves the classes out one by one, in closed form
    targets = rows[known.to(rows.device), :, 0, 0].cpu().double().numpy()  # (n,C)
    fitted = RidgeCV(RIDGES).fit(embeddings[known], targets)
    predicted = fitted.predict(embeddings[~known]).reshape(-1, targets.shape[1])  # (K-n,C)
    rows[~known.to(rows.device), :, 0, 0] = torch.from_numpy(predicted).to(rows)
    return rows


def _check(explainer: PTAME, head: Tensor, seen: Tensor) -> None:
    """Raise ValueError as `rows_from_head` says."""
    if head.ndim != 2 or len(head) != explainer.num_classes:
        raise ValueError(
            f"the head must be ({explainer.num_classes},D), an embedding for each class, got {tuple(head.shape)}: "
            "pass the weight of the explained classifier's last linear layer"
        )
    check_classes(seen, explainer.num_classes)
    if (count := len(seen.unique())) < LEAST:
        raise ValueError(f"{count} seen classes are too few for a map from the head: name {LEAST} or more")
    for what, values in (
        ("head", head),
        ("fuser's row", explainer.fuser.weight[seen.to(explainer.fuser.weight.device)]),
    ):
        if not values.isfinite().all():
            raise ValueError(f"a {what} is not finite: check the weights")
