"""P-TAME with a few questions: what they cost, what they change, and what they leave as it was."""

import pytest
import torch
from helpers import SIDE, Counted, Quadrants, explainer_on, plain, quadrant_shares, rand, small_nets
from torch import nn

from ptame_lib import BlackBox, build_methods, resize
from ptame_lib.explainers.questions import (
    AREAS,
    ask_further,
    estimated_slope,
    exact_slope,
    objective,
    ranks,
    reordered,
    soft_mask,
)
from ptame_lib.methods import ASKING


def all_areas(classifier, pixels, targets, maps):
    """The objective (B,), averaged over the areas that it is asked for."""
    order = ranks(resize(maps, tuple(pixels.shape[-2:])))
    with torch.no_grad():
        return torch.stack([objective(classifier, pixels, targets, order, area) for area in AREAS]).mean(0)


@pytest.mark.parametrize("differentiable", [True, False])
@pytest.mark.parametrize("questions", [0, 1, 5])
def test_the_passes_are_those_that_are_stated(asked, questions, differentiable):
    inside, pixels, targets, maps = asked
    classifier = Counted(inside, differentiable)
    ask_further(classifier, pixels, targets, maps, questions)
    each = (2, 2) if differentiable else (4, 0)
    assert (classifier.forwards, classifier.backwards) == tuple(len(pixels) * questions * n for n in each)


def test_no_question_changes_nothing():
    explainer, classifier = small_nets()
    pixels, targets = rand(2, 3, 64, 64), torch.tensor([1, 3])
    maps = explainer.explain(pixels, targets)
    assert explainer.explain(pixels, targets, classifier=classifier, questions=0).equal(maps)
    assert not explainer.explain(pixels, targets, classifier=classifier, questions=1).equal(resize(maps, (64, 64)))


@pytest.mark.parametrize("differentiable", [True, False])
def test_the_objective_does_not_get_worse(asked, differentiable):
    inside, pixels, targets, maps = asked
    classifier = Counted(inside, differentiable)
    before = all_areas(classifier, pixels, targets, maps)
    last = before
    for questions in (1, 8):
        found = ask_further(classifier, pixels, targets, maps, questions)
        after = all_areas(classifier, pixels, targets, found)
        assert after.mean() < before.mean()
        last = after
    assert last.mean() < 0.9 * before.mean() or not differentiable
    assert (last <= before + 0.05).all() or not differentiable


@pytest.mark.parametrize("k", range(4))
def test_questions_find_the_right_quadrant_from_nowhere(k, noise):
    """From maps that say nothing the answers alone lead there."""
    flat, targets = torch.zeros(3, 8, 8), torch.full((3,), k)
    found = ask_further(
        plain(Quadrants()), noise, targets, flat + torch.linspace(0, 1, 64).view(8, 8), 12, step=0.4, pull=0.0
    )
    assert found.shape == (3, SIDE, SIDE)
    assert quadrant_shares(found).argmax(1).eq(k).all()


def test_a_power_of_the_map_moves_no_pixels_place(asked):
    classifier, pixels, targets, maps = asked
    large = resize(maps, (64, 64))
    found, cubed = (ask_further(classifier, pixels, targets, each, 3) for each in (large, large**3))
    torch.testing.assert_close(found**3, cubed, atol=1e-6, rtol=1e-4)


def test_the_pull_keeps_the_map(asked):
    classifier, pixels, targets, maps = asked
    start = ranks(resize(maps, (64, 64)))

    def away(pull):
        return (ranks(ask_further(classifier, pixels, targets, maps, 10, pull=pull)) - start).abs().mean()

    assert away(100.0) < away(1.0) < away(0.0)


def test_a_real_black_box_is_asked_without_gradients(asked):
    inside, pixels, targets, maps = asked
    box = BlackBox(lambda images: inside(images).detach().numpy(), 64)
    found = ask_further(box, pixels, targets, maps, 2)
    assert found.equal(ask_further(Counted(inside, False), pixels, targets, maps, 2))
    assert not found.equal(ask_further(box, pixels, targets, maps, 2, seed=1))


# its parts by hand


def test_ranks_and_their_values():
    maps = torch.tensor([[[0.1, 0.9], [0.5, 0.5]]])
    torch.testing.assert_close(ranks(maps), torch.tensor([[[0.125, 0.875], [0.5, 0.5]]]))
    torch.testing.assert_close(ranks(torch.zeros(1, 2, 2)), torch.full((1, 2, 2), 0.5))
    new = torch.tensor([[[4.0, 1.0], [2.0, 3.0]]])
    torch.testing.assert_close(reordered(maps, new), torch.tensor([[[0.9, 0.1], [0.5, 0.5]]]))


@pytest.mark.parametrize("area", AREAS)
def test_a_soft_mask_is_above_a_half_on_its_area(area):
    masks = soft_mask(ranks(rand(2, 20, 20)), area)
    torch.testing.assert_close((masks > 0.5).float().mean((1, 2)), torch.full((2,), area), atol=0.01, rtol=0)


def test_the_objective_by_hand():
    """The target's probability is a sigmoid of the mean pixel: what is kept of a white image is the mask's mean."""

    class Mean(nn.Module):
        def forward(self, x):
            z = x.mean((1, 2, 3))
            return torch.stack([z, torch.zeros_like(z)], 1)

    order = ranks(rand(2, 10, 10))
    kept = soft_mask(order, 0.25).mean((1, 2))
    expected = -kept.sigmoid().log() - (1 - (1 - kept).sigmoid()).log()
    found = objective(Mean(), torch.ones(2, 3, 10, 10), torch.tensor([0, 0]), order, 0.25)
    torch.testing.assert_close(found, expected)


def test_the_estimated_slope_is_right_on_average():
    weight, generator = rand(2, 4, 4), torch.Generator().manual_seed(0)

    def losses(change):
        return (weight * change).sum((1, 2))

    torch.testing.assert_close(exact_slope(losses, torch.zeros(2, 4, 4), generator), weight)
    found = torch.stack([estimated_slope(losses, torch.zeros(2, 4, 4), generator) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(found, weight, atol=0.15, rtol=0)


# by name, and what is refused


@pytest.mark.parametrize("differentiable", [True, False])
def test_methods_by_name_state_their_cost(differentiable):
    explainer, inside = small_nets()
    classifier = Counted(inside, differentiable)
    trained = {"P-TAME": explainer, "Swap-TAME": explainer_on(explainer.auxiliary, 7)}
    methods = build_methods(classifier, trained, [*ASKING])
    assert [method.name for method in methods] == ["P-TAME", "Swap-TAME", *ASKING]
    pixels, targets = rand(2, 3, 64, 64), torch.tensor([1, 3])
    for method in (methods[2], methods[3], *methods[-3:]):
        classifier.forwards = classifier.backwards = 0
        assert method(pixels, targets).shape == (2, 64, 64)
        # one pass through the auxiliary, the others through the classifier
        assert (classifier.forwards, classifier.backwards) == (2 * (method.forwards - 1), 2 * method.backwards)
        start, questions, way = ASKING[method.name]
        expected = trained[start].explain(pixels, targets, classifier=classifier, questions=questions, asking=way)
        assert method(pixels, targets).equal(expected)


def test_questions_need_somebody_to_ask():
    explainer, classifier = small_nets()
    pixels, targets = rand(1, 3, 64, 64), torch.tensor([1])
    with pytest.raises(ValueError, match="3 questions, but nobody to ask: pass the classifier"):
        explainer.explain(pixels, targets, questions=3)
    with pytest.raises(ValueError, match="questions must be a whole number of at least 0, got -1"):
        explainer.explain(pixels, targets, classifier=classifier, questions=-1)
    with pytest.raises(ValueError, match="pull can't be -1"):
        ask_further(classifier, pixels, targets, rand(1, 8, 8), 1, pull=-1)
    with pytest.raises(ValueError, match=r"'P-TAME\+5' starts from P-TAME's map: give P-TAME among the trained"):
        build_methods(classifier, {}, ["P-TAME+5"])
    with pytest.raises(
        ValueError, match=r"'Swap-TAME\+2' starts from Swap-TAME's map: give Swap-TAME among the trained"
    ):
        build_methods(classifier, {"P-TAME": explainer}, ["Swap-TAME+2"])
