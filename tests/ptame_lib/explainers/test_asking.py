"""Ways to ask the classifier about the image: what each costs, what it finds, and what it leaves as it was."""

import pytest
import torch
from helpers import SIDE, Counted, Quadrants, plain, quadrant_shares, rand, small_nets
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

from ptame_lib import BlackBox, resize
from ptame_lib.explainers.area_questions import areas_of, ask_about_areas
from ptame_lib.explainers.asking import WAYS, ask_if
from ptame_lib.explainers.averaged_questions import GRIDS, ask_averaged, enlarged
from ptame_lib.explainers.questions import objective, ranks

NEW = ["averaged", "areas"]  # test_questions.py has the same of the steps


@pytest.mark.parametrize("differentiable", [True, False])
@pytest.mark.parametrize(
    ("way", "each"), [("averaged", {True: (2, 2), False: (4, 0)}), ("areas", {True: (1, 0), False: (1, 0)})]
)
@pytest.mark.parametrize("questions", [0, 2, 5])
def test_the_passes_are_those_that_are_stated(asked, way, each, questions, differentiable):
    inside, pixels, targets, maps = asked
    classifier = Counted(inside, differentiable)
    found = ask_if(classifier, pixels, targets, maps, questions, way)
    passes = tuple(len(pixels) * questions * n for n in each[differentiable])
    assert (classifier.forwards, classifier.backwards) == passes
    assert found.equal(maps) == (not questions)


@pytest.mark.parametrize("way", WAYS)
def test_the_maps_values_are_handed_out_again(asked, way):
    classifier, pixels, targets, maps = asked
    found, large = ask_if(classifier, pixels, targets, maps, 4, way), resize(maps, (64, 64))
    assert found.flatten(1).sort(1).values.equal(large.flatten(1).sort(1).values)
    assert not found.equal(large)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("differentiable", [True, False])
def test_images_are_explained_by_themselves(asked, way, differentiable):
    inside, pixels, targets, maps = asked
    classifier = Counted(inside, differentiable)
    whole = ask_if(classifier, pixels, targets, maps, 3, way)
    parts = [[given[i : i + 1] for given in (pixels, targets, maps)] for i in range(4)]
    alone = torch.cat([ask_if(classifier, *part, 3, way) for part in parts])
    assert (alone - whole).abs().mean() < 1e-3  # rounding may swap neighbours


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_what_the_user_hands_over_stays_as_it_is(asked, way, mode):
    classifier, pixels, targets, maps = asked
    expected = ask_if(classifier, pixels, targets, maps, 3, way)
    given = [pixels.clone().requires_grad_(), targets.clone(), maps.clone().requires_grad_()]
    state = {key: value.clone() for key, value in classifier.state_dict().items()}
    random, training = torch.get_rng_state(), [module.training for module in classifier.modules()]
    with mode():
        found = ask_if(classifier, *given, 3, way)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    assert found.equal(expected)
    assert not found.requires_grad
    assert all(value.equal(before) for value, before in zip(given, (pixels, targets, maps), strict=True))
    assert given[0].grad is None
    assert given[2].grad is None
    assert all(p.grad is None for p in classifier.parameters())
    assert all(value.equal(state[key]) for key, value in classifier.state_dict().items())
    assert torch.get_rng_state().equal(random)
    assert [module.training for module in classifier.modules()] == training


@pytest.mark.parametrize("way", NEW)
def test_a_black_box_is_asked_without_gradients(asked, way):
    inside, pixels, targets, maps = asked
    box = BlackBox(lambda images: inside(images).detach().numpy(), 64)
    found = ask_if(box, pixels, targets, maps, 3, way)
    torch.testing.assert_close(found, ask_if(Counted(inside, False), pixels, targets, maps, 3, way))


@pytest.mark.parametrize("k", range(4))
def test_averaged_questions_find_the_right_quadrant_from_nowhere(k, noise):
    flat, targets = torch.linspace(0, 1, 64).view(8, 8).expand(3, 8, 8), torch.full((3,), k)
    found = ask_averaged(plain(Quadrants()), noise, targets, flat, 8, reach=1.0)
    assert found.shape == (3, SIDE, SIDE)
    assert quadrant_shares(found).argmax(1).eq(k).all()


def test_averaged_questions_help_at_all_areas(asked):
    classifier, pixels, targets, maps = asked

    def mean_objective(found):
        order = ranks(resize(found, (64, 64)))
        with torch.no_grad():
            areas = [objective(classifier, pixels, targets, order, area) for area in (0.05, 0.2, 0.5, 0.8)]
        return torch.stack(areas).mean()

    before, after = mean_objective(maps), mean_objective(ask_averaged(classifier, pixels, targets, maps, 5))
    assert after < 0.95 * before


def test_the_correction_reaches_as_far_as_is_said(asked):
    """No rank moves by more than twice the reach: up by it, while others go down by it."""
    classifier, pixels, targets, maps = asked
    start = ranks(resize(maps, (64, 64)))
    moved = {r: (ranks(ask_averaged(classifier, pixels, targets, maps, 3, reach=r)) - start).abs() for r in (0.1, 0.4)}
    assert moved[0.1].max() <= 0.2 + 1e-3
    assert moved[0.1].mean() < moved[0.4].mean()
    assert ask_averaged(classifier, pixels, targets, maps, 3, reach=0).equal(resize(maps, (64, 64)))


def test_the_grids_add_up():
    coarse, fine = rand(2, 8, 8), rand(2, 16, 16, seed=1)
    cells = torch.cat([coarse.flatten(1), fine.flatten(1)], 1)[:, None]
    assert GRIDS == (8, 16)
    torch.testing.assert_close(enlarged(cells, (40, 40)), resize(coarse, (40, 40)) + resize(fine, (40, 40)))


# areas


class Redness(nn.Module):
    """Class 0 if the image has red pixels, however few, class 1 otherwise."""

    num_classes, input_size = 2, (32, 32)

    def forward(self, pixels):
        red = (pixels[:, 0] - pixels[:, 1:].amax(1)).amax((1, 2))
        return torch.stack([8 * red, torch.full_like(red, 2.0)], 1)


@pytest.fixture
def flags():
    """Green images with two red spots that don't touch and a blue bar; and where the red is (2,32,32)."""
    pixels, red = torch.zeros(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.bool)
    pixels[:, 1] = 0.6
    pixels[:, :, :, 28:] = torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    for i, (y, x) in enumerate([(2, 3), (20, 15)]):
        red[i, y : y + 4, x : x + 4] = red[i, y + 6 : y + 9, x + 6 : x + 9] = True
    return torch.where(red[:, None], torch.tensor([0.9, 0.1, 0.1])[:, None, None], pixels), red


def test_areas_are_of_one_colour_wherever_they_are(flags):
    pixels, red = flags
    numbers = areas_of(pixels, 3, place=0.0)
    for image, one, inside in zip(pixels, numbers, red, strict=True):
        assert len(one[inside].unique()) == 1
        colours = [image[:, one == k].unique(dim=1).shape[1] for k in range(3)]
        assert colours == [1, 1, 1]
    assert areas_of(rand(1, 3, 2, 2), 8).unique().numel() <= 4


def test_areas_do_not_depend_on_the_number_of_threads():
    pixels = resize(rand(3, 20, 20), (200, 200))[None]
    with threadpool_limits(1):
        alone = areas_of(pixels, 8)
    with threadpool_limits(3):
        before = threadpool_info()
        assert areas_of(pixels, 8).equal(alone)
        assert threadpool_info() == before


def test_the_area_that_decides_moves_up(flags):
    """From a map that puts it last; both spots, though the map knows of none."""
    pixels, red = flags
    start = 1 - red.float() + 0.01 * rand(2, 32, 32)
    found = ask_about_areas(Redness(), pixels, torch.tensor([0, 0]), start, 8, reach=1.0)
    inside = torch.stack([ranks(m[None])[0][spot].min() for m, spot in zip(found, red, strict=True)])
    assert ranks(start)[red].max() < 0.1
    assert (inside > 0.8).all()
    # where nothing decides, nothing moves
    nothing = ask_about_areas(Redness(), pixels[:, [1, 1, 2]], torch.tensor([1, 1]), start, 8)
    assert nothing.equal(start)


def test_one_area_says_nothing(flags):
    pixels, _ = flags
    classifier, maps = Counted(Redness()), rand(2, 8, 8)
    assert ask_about_areas(classifier, pixels, torch.tensor([0, 1]), maps, 1).equal(maps)
    assert not classifier.forwards


def test_few_colours_are_no_warning(recwarn):
    numbers = areas_of(torch.full((1, 3, 16, 16), 0.5), 8, place=0.0)
    assert numbers.unique().numel() == 1
    assert not recwarn


# what is unusual


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_of_pixels(asked, way, dtype):
    classifier, pixels, targets, maps = asked
    found = ask_if(classifier, pixels.to(dtype), targets, maps, 2, way)
    assert found.dtype == torch.float32
    expected = ask_if(classifier, pixels.to(dtype).float(), targets, maps, 2, way)
    assert (found - expected).abs().mean() < 0.02


@pytest.mark.parametrize("way", WAYS)
def test_no_images_have_no_maps(asked, way):
    classifier, pixels, targets, maps = asked
    assert ask_if(classifier, pixels[:0], targets[:0], maps[:0], 2, way).shape == (0, 64, 64)


@pytest.mark.parametrize("way", WAYS)
def test_answers_and_maps_that_are_nan_are_refused(asked, way):
    classifier, pixels, targets, maps = asked

    class Broken(nn.Module):
        def forward(self, images):
            return classifier(images) * torch.nan

    with pytest.raises(FloatingPointError, match="the classifier"):
        ask_if(Broken(), pixels, targets, maps, 2, way)
    with pytest.raises(ValueError, match="map 0 has values that are not finite"):
        ask_if(classifier, pixels, targets, maps * torch.nan, 2, way)
    with pytest.raises(ValueError, match="one for each of 4 images"):
        ask_if(classifier, pixels, targets, maps[:3], 2, way)


@pytest.mark.parametrize("way", WAYS)
def test_a_bare_network_in_training_mode_is_asked_at_rest(way):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    means, random = net[1].running_mean.clone(), torch.get_rng_state()
    ask_if(net, rand(2, 3, 16, 16), torch.tensor([0, 1]), rand(2, 8, 8), 2, way)
    assert net.training
    assert net[1].running_mean.equal(means)
    assert torch.get_rng_state().equal(random)


class TwoLabels(nn.Module):
    """Two labels that have nothing to do with each other: something red, something blue."""

    num_classes, multi_label = 2, True

    def forward(self, pixels):
        return 20 * (pixels[:, [0, 2]].mean((2, 3)) - 0.1)


@pytest.mark.parametrize("way", WAYS)
def test_other_labels_of_an_image_are_not_pushed_down(way):
    """Where red is asked about, blue counts as little as nothing: it is not removed to leave more to red."""
    pixels = torch.full((1, 3, 32, 32), 0.02)
    pixels[0, :, 4:14, 4:14] = torch.tensor([1.0, 0, 0])[:, None, None]
    pixels[0, :, 18:28, 18:28] = torch.tensor([0.0, 0, 1])[:, None, None]
    start = torch.linspace(0, 1, 1024).view(1, 32, 32)
    found = ranks(ask_if(TwoLabels(), pixels, torch.tensor([0]), start, 5, way)) - ranks(start)
    red, blue, nothing = found[0, 4:14, 4:14], found[0, 18:28, 18:28], found[0, 18:28, 4:14]
    assert red.mean() > max(blue.mean(), nothing.mean()) + 0.005
    assert (blue.mean() - nothing.mean()).abs() < 0.1


# by name, and what is refused


@pytest.mark.parametrize("way", WAYS)
def test_an_explainer_asks_in_the_way_that_is_named(way):
    explainer, classifier = small_nets()
    pixels, targets = rand(2, 3, 64, 64), torch.tensor([1, 3])
    expected = WAYS[way](classifier, pixels, targets, explainer.explain(pixels, targets), 3)
    assert explainer.explain(pixels, targets, classifier=classifier, questions=3, asking=way).equal(expected)


@pytest.mark.parametrize("way", WAYS)
def test_questions_need_somebody_to_ask(way):
    explainer, classifier = small_nets()
    given = rand(1, 3, 64, 64), torch.tensor([1])
    with pytest.raises(ValueError, match="3 questions, but nobody to ask: pass the classifier"):
        explainer.explain(*given, questions=3, asking=way)
    with pytest.raises(ValueError, match=r"questions must be a whole number of at least 0, got -1"):
        explainer.explain(*given, classifier=classifier, questions=-1, asking=way)
    with pytest.raises(ValueError, match="unknown way of asking 'step': choose one of steps, averaged, areas"):
        explainer.explain(*given, asking="step")
    if way != "steps":
        with pytest.raises(ValueError, match="reach can't be -1"):
            WAYS[way](classifier, *given, rand(1, 8, 8), 2, reach=-1)
