"""Rows of unseen classes, predicted from a head: oracles, invariances, and what is refused."""

import numpy as np
import pytest
import torch
from helpers import rand

from ptame_lib import PTAME
from ptame_lib.explainers.unseen import RIDGES, rows_from_head

CLASSES, SEEN = 12, torch.tensor([0, 1, 2, 4, 5, 6, 8, 9, 10, 11])
UNSEEN = torch.tensor([3, 7])


def made(auxiliary, linear=True, dim=6):
    """An explainer whose rows of the seen classes are linear in the head, or not; the head; the linear rows of all."""
    torch.manual_seed(1)
    explainer, head = PTAME(auxiliary, CLASSES).eval(), torch.randn(CLASSES, dim)
    channels = explainer.fuser.weight.shape[1]
    rows = head @ torch.randn(dim, channels) + torch.randn(channels)
    noise = 0 if linear else 2 * torch.randn(CLASSES, channels)
    with torch.no_grad():
        explainer.fuser.weight[SEEN] = (rows + noise)[SEEN, :, None, None]
    return explainer, head, rows


def test_a_fuser_that_is_linear_in_the_head_is_recovered(auxiliary, pixels):
    explainer, head, rows = made(auxiliary)
    before = explainer.fuser.weight.detach().clone()
    found = rows_from_head(explainer, head, SEEN)
    torch.testing.assert_close(found[:, :, 0, 0], rows, rtol=1e-5, atol=1e-5)
    assert found[SEEN].equal(before[SEEN])
    assert explainer.fuser.weight.equal(before)
    assert not found.requires_grad
    # the maps of an unseen class are then those of the linear rows
    maps, targets = [], UNSEEN.repeat(2)
    for weight in (found, rows[:, :, None, None]):
        with torch.no_grad():
            explainer.fuser.weight.copy_(weight)
        maps.append(explainer.explain(pixels, targets))
    torch.testing.assert_close(*maps, rtol=0, atol=1e-3)


def test_the_ridge_is_the_best_for_classes_left_out(auxiliary):
    for dim in (6, 40):  # fewer dimensions than classes, and more
        explainer, head, _ = made(auxiliary, linear=False, dim=dim)
        targets = explainer.fuser.weight[SEEN, :, 0, 0].detach().double().numpy()
        known = head[SEEN].double().numpy()
        square = np.square(known - known.mean(0)).sum(1).mean()

        def predicted(train, rows, asked, ridge):
            """Ridge regression by its normal equations, with the intercept left free."""
            x, y = train - train.mean(0), rows - rows.mean(0)
            weight = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
            return (asked - train.mean(0)) @ weight + rows.mean(0)

        errors = []
        for ridge in RIDGES:
            without = [np.arange(len(SEEN)) != i for i in range(len(SEEN))]
            left_out = [predicted(known[w], targets[w], known[~w], ridge * square) - targets[~w] for w in without]
            errors.append(np.square(left_out).sum())
        best = RIDGES[int(np.argmin(errors))] * square
        wanted = predicted(known, targets, head[UNSEEN].double().numpy(), best)
        found = rows_from_head(explainer, head, SEEN)[UNSEEN, :, 0, 0]
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_neither_a_shift_nor_the_scale_of_the_head_counts(auxiliary):
    explainer, head, _ = made(auxiliary, linear=False)
    moved = 7 * (head + rand(1, head.shape[1]))
    torch.testing.assert_close(rows_from_head(explainer, moved, SEEN), rows_from_head(explainer, head, SEEN))


def test_nothing_that_a_head_says_alone_is_guessed(auxiliary):
    # each class has a direction of its own: what is predicted for all others is one row, about the mean of the seen
    explainer, _, _ = made(auxiliary, linear=False)
    found = rows_from_head(explainer, torch.eye(CLASSES), SEEN)[:, :, 0, 0]
    torch.testing.assert_close(found[3], found[7])
    torch.testing.assert_close(found[3], found[SEEN].mean(0), rtol=1e-3, atol=1e-3)
    # all embeddings alike
    found = rows_from_head(explainer, torch.ones(CLASSES, 5), SEEN)[:, :, 0, 0]
    torch.testing.assert_close(found[3], found[SEEN].mean(0))


def test_order_and_repetition_of_seen_classes_do_not_count(auxiliary):
    explainer, head, _ = made(auxiliary, linear=False)
    again = torch.cat([SEEN.flip(0), SEEN[:2]])
    assert rows_from_head(explainer, head, again).equal(rows_from_head(explainer, head, SEEN))
    assert rows_from_head(explainer, head, torch.arange(CLASSES)).equal(explainer.fuser.weight)


@pytest.mark.parametrize(
    ("head", "seen", "message"),
    [
        (torch.zeros(11, 6), SEEN, r"must be \(12,D\), an embedding for each class, got \(11, 6\)"),
        (torch.zeros(12), SEEN, "the explained classifier's last linear layer"),
        (torch.zeros(12, 6), torch.tensor([1, 4, 4]), "2 seen classes are too few .*: name 3 or more"),
        (torch.zeros(12, 6), torch.tensor([1, 4, 12]), "12"),
        (torch.zeros(12, 6), torch.tensor([True] * 12), "int64"),
        (torch.full((12, 6), torch.nan), SEEN, "a head is not finite"),
    ],
)
def test_what_gives_no_map_is_refused(auxiliary, head, seen, message):
    with pytest.raises(ValueError, match=message):
        rows_from_head(PTAME(auxiliary, CLASSES), head, seen)


def test_rows_that_are_not_finite_are_refused(auxiliary):
    explainer, head, _ = made(auxiliary)
    with torch.no_grad():
        explainer.fuser.weight[4] = torch.inf
    with pytest.raises(ValueError, match="a fuser's row is not finite"):
        rows_from_head(explainer, head, SEEN)
