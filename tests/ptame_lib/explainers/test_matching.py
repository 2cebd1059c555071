"""Classes that are matched by answers: by hand, and for permuted and unequal numbers of classes."""

import pytest
import torch
from helpers import rand

from ptame_lib.explainers.matching import match_classes


def answers(n=40, classes=6):
    return rand(n, classes) * 4


def test_a_permutation_is_found_whatever_scale_and_offset():
    known, order = answers(), torch.tensor([3, 0, 5, 1, 4, 2])
    shifted = 2.5 * known[:, order] + torch.arange(40.0)[:, None]  # softmax does not see an image's offset
    assert match_classes(shifted, known).equal(order)
    assert match_classes(known, known).equal(torch.arange(6))


def test_each_class_is_taken_once_if_there_are_enough():
    known = answers()
    twice = known[:, [2, 2, 4]] + 0.01 * rand(40, 3)
    found = match_classes(twice, known).tolist()
    assert len(set(found)) == 3
    assert found[2] == 4
    assert match_classes(known, known[:, :4])[:4].equal(torch.arange(4))  # of too few, each has the most alike


def test_a_constant_class_harms_no_other():
    known = answers()
    known[:, 1] = known.mean(1)
    assert match_classes(known, known).equal(torch.arange(6))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 2), r"got logits \(3, 2\) and \(4, 2\): give logits"),
        (torch.zeros(3), torch.zeros(3, 2), "give logits"),
        (torch.zeros(1, 2), torch.zeros(1, 2), "2 or more"),
        (torch.full((3, 2), torch.nan), torch.zeros(3, 2), "not finite"),
    ],
)
def test_other_answers_are_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        match_classes(first, second)
