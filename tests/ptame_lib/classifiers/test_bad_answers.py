"""Classifiers whose answers are not finite or have the wrong shape."""

import pytest
import torch
from refusals import INF, MAPS, NAN, PIXELS, TARGETS, Says, assert_answer, refused, toy_classifier
from torch import nn

from ptame_lib import BlackBox, decide
from ptame_lib.metrics import class_confusion, deletion, label_confidence, masked_confidence, road
from ptame_lib.metrics.evidence import evidence


def confused(classes, net=None):
    batches = [(PIXELS, torch.ones(2, 9))]
    return class_confusion(
        toy_classifier(net), batches, lambda pixels, wanted: torch.rand(2, len(wanted), 4, 4), classes
    )


# name: (what is done, what must come of it)
ROWS = {
    "NaN from the classifier": (
        lambda: decide(toy_classifier(Says(NAN)), PIXELS),
        refused("gave nan for image 1 of the batch: check its weights", FloatingPointError),
    ),
    "inf from the classifier": (
        lambda: decide(toy_classifier(Says(INF)), PIXELS),
        refused("gave inf for image 1 .*: check its weights", FloatingPointError),
    ),
    "-inf for one class is fine": (
        lambda: decide(toy_classifier(Says(-INF)), PIXELS),
        lambda found: found.tolist() == [0, 0],
    ),
    "-inf for every class": (
        lambda: decide(lambda x: torch.full((2, 3), -INF), PIXELS),
        refused("gave -inf for image 0 .*: check", FloatingPointError),
    ),
    "NaN on what the map keeps": (
        lambda: masked_confidence(toy_classifier(Says(NAN)), PIXELS, TARGETS, MAPS),
        refused("gave nan for image 1 .*: check", FloatingPointError),
    ),
    "NaN on imputed images": (
        lambda: road(toy_classifier(Says(NAN)), PIXELS, TARGETS, MAPS, "LeRF"),
        refused("gave nan for image 1 .*: check", FloatingPointError),
    ),
    "NaN in deletion": (
        lambda: deletion(toy_classifier(Says(INF)), PIXELS, TARGETS, MAPS),
        refused("gave inf for image 1 .*: check", FloatingPointError),
    ),
    "NaN in the class-specific test": (
        lambda: confused([0, 1], Says(NAN)),
        refused("gave nan for image 1 .*: check", FloatingPointError),
    ),
    "NaN for several labels": (
        lambda: label_confidence(toy_classifier(Says(NAN)), PIXELS, torch.ones(2, 3)),
        refused("gave nan for image 1 .*: check", FloatingPointError),
    ),
    "NaN in the evidence": (
        lambda: evidence(toy_classifier(Says(NAN)), PIXELS, TARGETS, MAPS),
        refused("gave nan for image 1", FloatingPointError),
    ),
    "NaN from a black box": (
        lambda: BlackBox(Says(NAN), 16)(PIXELS),
        refused("not finite for image 1 of the batch: check the function"),
    ),
    "a black box that gives a list": (
        lambda: BlackBox(lambda x: [1], 16)(PIXELS),
        refused("gave a list: it must give a tensor", TypeError),
    ),
    "a black box of another shape": (
        lambda: BlackBox(lambda x: torch.zeros(5, 3), 16)(PIXELS),
        refused(r"gave shape \(5, 3\) for 2 images: expected"),
    ),
    "logits as probabilities": (
        lambda: BlackBox(lambda x: torch.full((2, 3), 4.0), 16, probabilities=True)(PIXELS),
        refused(r"values in 4\.\.4, which are no probabilities: use probabilities=False"),
    ),
    "a network that gives maps": (
        lambda: toy_classifier(nn.Identity())(PIXELS),
        refused(r"Identity gave \(2, 3, 16, 16\): logits must be .*wrap it"),
    ),
    "a function that gives a tuple": (
        lambda: decide(lambda x: (x, x), PIXELS),
        refused("gave a tuple: logits must be .*wrap it"),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name):
    assert_answer(*ROWS[name])
