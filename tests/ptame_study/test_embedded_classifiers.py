"""The shipped classifiers are those of the protocol, and its way to choose a recipe."""

import hashlib
import re

import torch

from ptame_lib import files, load_embedded
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


def test_the_protocol_has_the_hashes_of_the_shipped_weights():
    text = (files.root() / "docs" / "protocol.md").read_text()
    told = dict(re.findall(r"^\| `data/embedded/([\w-]+\.safetensors)` \| `([0-9a-f]{64})` \|", text, re.MULTILINE))
    shipped = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files.embedded().iterdir()}
    assert told == shipped
