"""Sanity checks: the spoiled networks are spoiled where they should be, and the made ones see what they should see."""

import sys

import pytest
import torch
from helpers import assert_caught, plain

from ptame_lib import Classifier, decide, load_classifier
from ptame_lib.methods import gradcam
from ptame_lib.metrics import pointing_game, sanity
from ptame_lib.metrics.sanity import (
    OneQuadrant,
    PatchFinder,
    permute_head,
    plant_patches,
    quadrant_mask,
    randomise,
    similarity,
)


@pytest.fixture(scope="module")
def pixels64():
    return torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("name", "upto", "kept"),
    [("embedded/resnet", "layer2", ("layer3", "layer4", "fc")), ("embedded/vgg", "features.4", ("features.6", "fc"))],
)
def test_only_the_first_layers_are_randomised(name, upto, kept):
    classifier = load_classifier(name)
    spoiled = randomise(classifier, upto)
    before, after = classifier.model.state_dict(), spoiled.model.state_dict()
    changed = {key for key in before if before[key].is_floating_point() and not before[key].equal(after[key])}
    assert changed
    assert not any(key.startswith(kept) for key in changed)
    weights = {key for key in before if key.endswith("weight") and before[key].ndim == 4}
    order = list(before)
    last = max(i for i, key in enumerate(order) if key.startswith(upto + "."))
    assert {key for key in weights if order.index(key) <= last} <= changed
    assert after.keys() == before.keys()


def test_all_of_a_transformer_can_be_randomised():
    """The position embedding, which no layer owns, too. Norms start as they would end: at 1 and 0."""
    before = load_classifier("embedded/vit")
    after = dict(randomise(before, "head").model.named_parameters())
    same = {name for name, value in before.model.named_parameters() if value.equal(after[name])}
    assert same == {"token_head.weight", "token_head.bias"}


def test_the_seed_decides_and_torchs_own_stream_goes_on():
    classifier = load_classifier("embedded/resnet")
    torch.manual_seed(3)
    a = randomise(classifier, "fc", seed=1)
    first = torch.rand(1)
    torch.manual_seed(3)
    assert torch.rand(1).equal(first)
    pixels = torch.rand(2, 3, 64, 64)
    assert a(pixels).equal(randomise(classifier, "fc", seed=1)(pixels))
    assert not a(pixels).equal(randomise(classifier, "fc", seed=2)(pixels))
    with pytest.raises(ValueError, match="no module 'layer9' in ResNetLike: it has stem, layer1"):
        randomise(classifier, "layer9")


def test_a_permuted_head_says_the_same_under_other_names(pixels64):
    classifier, order = load_classifier("embedded/resnet"), torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    permuted = permute_head(classifier, order)
    assert permuted(pixels64).equal(classifier(pixels64)[:, order])
    targets = decide(permuted, pixels64)
    assert order[targets].equal(decide(classifier, pixels64))
    torch.testing.assert_close(gradcam(permuted)(pixels64, targets), gradcam(classifier)(pixels64, order[targets]))


@pytest.mark.parametrize("order", [[0, 1], [*range(9), 8], [*range(1, 11)], [[0], [1]]])
def test_an_order_that_is_no_permutation_is_refused(order):
    with pytest.raises(ValueError, match="order must be a permutation of the 10 classes"):
        permute_head(load_classifier("embedded/vgg"), torch.tensor(order))


def test_similarity_by_hand():
    ramp = torch.linspace(0, 1, 64).view(1, 8, 8)
    for other, rank in ((ramp**3, 1.0), (1 - ramp, -1.0), (torch.ones(1, 8, 8), 0.0)):
        spearman, _ = similarity(ramp, other, (8, 8))
        assert spearman.item() == pytest.approx(rank, abs=1e-6)
    assert similarity(ramp, 5 * ramp + 2, (8, 8))[1].item() == pytest.approx(1)
    assert similarity(ramp, 1 - ramp, (8, 8))[1].item() < 0


def test_one_quadrant_sees_no_other():
    classifier = Classifier(OneQuadrant(load_classifier("embedded/resnet").model, 3), [0.36] * 3, [0.23] * 3, 64)
    pixels = torch.rand(2, 3, 64, 64)
    seen = quadrant_mask((64, 64), 3)
    assert seen.sum() == 32 * 32
    assert seen[32:, 32:].all()
    assert classifier(torch.where(seen, pixels, 0.0)).equal(classifier(pixels))
    assert not classifier(torch.where(seen, 0.0, pixels)).equal(classifier(pixels))


def test_the_patch_finder_finds_patches():
    images, colours, truth = plant_patches(torch.rand(30, 3, 64, 64))
    classifier = plain(PatchFinder(), 64)
    assert decide(classifier, images).equal(colours)
    assert truth.sum((1, 2)).tolist() == [64] * 30
    without = torch.where(truth[:, None], images.mean((1, 2, 3), keepdim=True), images)
    assert classifier(without).max() < 0.5 * classifier(images).amax(1).min()  # all the evidence is the patch
    logits = classifier(torch.eye(3).view(3, 3, 1, 1).expand(-1, -1, 64, 64))  # pure red, green, blue
    assert logits.argmax(1).tolist() == [0, 1, 2]
    assert logits.amax(1).tolist() == pytest.approx([8.0] * 3)
    assert classifier(torch.full((1, 3, 64, 64), 0.7)).abs().max() < 1e-5  # grey is nothing


def test_gradcam_points_at_the_patch():
    images, colours, truth = plant_patches(torch.rand(10, 3, 64, 64))
    classifier = plain(PatchFinder(), 64)
    maps = gradcam(classifier, classifier.model.smooth)(images, colours)
    assert pointing_game(maps, truth).mean() > 0.9


def spoiled():
    test_only_the_first_layers_are_randomised("embedded/resnet", "layer2", ("layer3", "layer4", "fc"))


HERE = sys.modules[__name__]

# name: (the check, (where, what is replaced, by what))
FAULTS = {
    "nothing is randomised": (spoiled, (HERE, "randomise", lambda classifier, upto, seed=0: classifier)),
    "all is randomised": (
        spoiled,
        (HERE, "randomise", lambda classifier, upto, seed=0: sanity.randomise(classifier, "fc", seed)),
    ),
    "values instead of ranks": (
        test_similarity_by_hand,
        ("ptame_lib.metrics.sanity.rankdata", lambda values, axis: values),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    assert_caught(monkeypatch, *FAULTS[fault])
