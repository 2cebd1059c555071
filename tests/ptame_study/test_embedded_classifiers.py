"""The recipe of a classifier is chosen by its accuracy."""

import torch

from ptame_lib import load_embedded
from ptame_study import embedded_classifiers


def test_the_recipe_with_the_best_accuracy_is_taken(monkeypatch):
    monkeypatch.setattr(embedded_classifiers, "RECIPES", {"resnet": [(1, 1e-9), (3, 4e-3), (1, 1e-8)]})
    train, val = load_embedded("train", 256), load_embedded("val", 100)
    net, trials = embedded_classifiers.train_by_accuracy("resnet", train, val)
    assert [(trial["epochs"], trial["lr"]) for trial in trials] == [(1, 1e-9), (3, 4e-3), (1, 1e-8)]
    best = max(trials, key=lambda trial: trial["accuracy"])
    assert embedded_classifiers.accuracy(net, val) == best["accuracy"]
    assert not net.training
    assert all(torch.isfinite(p).all() for p in net.parameters())
