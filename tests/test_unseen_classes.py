"""The measurement of unseen classes: its five metrics are the suite's, and its rows are those of the right classes."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from helpers import rand

from ptame_lib import PTAME, load_auxiliary, load_classifier
from ptame_lib.metrics import suite

SPEC = spec_from_file_location(
    "unseen_classes", Path(__file__).resolve().parent.parent / "workflow" / "unseen_classes.py"
)


@pytest.fixture(scope="module")
def unseen_classes():
    module = module_from_spec(SPEC)
    SPEC.loader.exec_module(module)
    return module


def test_its_metrics_are_the_suites(unseen_classes):
    classifier, pixels, maps = load_classifier("embedded/vgg"), rand(3, 3, 64, 64), rand(3, 16, 16, seed=1)
    targets, truth = torch.tensor([1, 0, 7]), rand(3, 64, 64, seed=2) > 0.8
    answers = suite.ask(classifier, pixels, targets, curves=False)
    found = unseen_classes.measure(classifier, pixels, targets, maps, truth, answers=answers, curves=False)
    wanted = suite.measure(classifier, pixels, targets, maps, truth, only_ranked=True)
    assert list(found) == ["AD@25", "deletion", "precision@truth", "pointing", "AP"]
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name])


def test_only_rows_of_unseen_classes_are_replaced(unseen_classes):
    explainer = PTAME(load_auxiliary("embedded/auxiliary"), 10).eval()
    rows, seen, pixels = (
        explainer.fuser.weight.detach().clone(),
        torch.tensor([1, 2, 3, 4, 6, 7, 8, 9]),
        rand(2, 3, 64, 64),
    )
    methods = {m.name: m for m in unseen_classes.methods_of(explainer, seen, "embedded/vgg")}
    assert explainer.fuser.weight.equal(rows)
    predicted, mean = methods[unseen_classes.PREDICTED], methods[unseen_classes.MEAN]
    known, unknown = torch.tensor([3, 8]), torch.tensor([0, 5])
    assert predicted(pixels, known).equal(explainer.explain(pixels, known))
    assert not predicted(pixels, unknown).allclose(explainer.explain(pixels, unknown), atol=1e-2)
    # the mean knows no class
    assert mean(pixels, known).equal(mean(pixels, unknown))
