"""Maps of any origin: the numbers are the suite's, the checks those of the library, and what can't be is refused."""

import json
import math

import pytest
import torch
from helpers import Images, Quadrants, plain, quadrant_shares, rand
from refusals import INF, MAPS, NAN, PIXELS, TARGETS, TRUTH, Items, assert_answer, refused, toy_classifier

from ptame_lib import BlackBox, Scores, decide, score
from ptame_lib.methods import gradcam
from ptame_lib.metrics.robustness import max_sensitivity, rank_stability
from ptame_lib.metrics.sanity import randomise, similarity
from ptame_lib.metrics.scores import MEANINGS, SCORES, _part, same_shape
from ptame_lib.metrics.statistics import mean_interval
from ptame_lib.metrics.suite import METRICS, measure

CLASSIFIER = plain(Quadrants(), labels="abcd")
N = 12
IMAGES = rand(N, 3, 32, 32, seed=3)
GIVEN = rand(N, 8, 8, seed=4)
MASKS = rand(N, 32, 32, seed=5) > 0.7


@pytest.fixture(scope="module")
def found():
    return score(CLASSIFIER, IMAGES, GIVEN, truth=MASKS, batch_size=5)


def test_every_metric_of_the_suite_is_there_with_its_interval(found):
    expected = measure(CLASSIFIER, IMAGES, decide(CLASSIFIER, IMAGES), GIVEN, MASKS)
    assert list(found.values) == list(METRICS)
    for name, values in expected.items():
        torch.testing.assert_close(found.values[name], values.double(), atol=1e-3, rtol=1e-4)
    for name, share in (("deletion", False), ("IC100", True)):
        low, high = mean_interval(found.values[name].numpy(), share=share)
        assert found[name] == (pytest.approx(found.values[name].mean().item()), low, high, N)


def test_json_and_text_have_them_all(found):
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert list(told["scores"]) == list(METRICS)
    assert told["scores"]["AD100"]["higher is better"] is False
    assert {_part(name) for name in SCORES} | {"100", "@"} == set(MEANINGS)
    table, meant = found.text().split("\nIn words:\n")
    lines = table.splitlines()
    assert "AD: Average Drop" in meant
    assert "max-sensitivity" not in meant  # it is not in the table
    assert [line.split("  ")[0] for line in lines] == [name for name, metric in METRICS.items() if metric.main]
    assert len(found.text(every=True).split("\nIn words:")[0].splitlines()) == len(METRICS)
    assert all(line.endswith(f" is better; {N} images") for line in lines)
    few = Scores({"AD100": torch.tensor([1.0, NAN], dtype=torch.float64), "SaCo": torch.tensor([NAN, INF])})
    assert few["AD100"].images == 1
    assert few["SaCo"].images == 0
    assert math.isnan(few["SaCo"].mean)
    assert few.as_dict()["scores"]["SaCo"]["mean"] is None
    assert "AD100      1.00 %  (no 95 % interval: fewer than 10 images differ); lower" in few.text()
    with pytest.raises(KeyError, match="no score 'AD10': there are AD100, SaCo"):
        few["AD10"]


def test_neither_batches_nor_maps_of_other_sizes_change_a_number():
    mixed = [GIVEN[0], rand(16, 16, seed=6), GIVEN[2]]
    together = score(CLASSIFIER, IMAGES[:3], mixed, curves=False)
    for i, map_ in enumerate(mixed):
        alone = score(CLASSIFIER, IMAGES[i : i + 1], map_[None], curves=False)
        for name, values in alone.values.items():
            torch.testing.assert_close(together.values[name][i : i + 1], values, atol=1e-4, rtol=1e-5)


def test_a_data_set_is_as_good_as_a_tensor():
    data, maps = Images(3), rand(3, 4, 4)
    a, b = (score(CLASSIFIER, images, maps, curves=False) for images in (data, data.pixels))
    assert a.as_dict() == b.as_dict()


def test_the_classes_asked_for_are_scored():
    targets = torch.tensor([3, 0, 1])
    found = score(CLASSIFIER, IMAGES[:3], GIVEN[:3], targets=targets, curves=False)
    expected = measure(CLASSIFIER, IMAGES[:3], targets, GIVEN[:3], curves=False)
    torch.testing.assert_close(found.values["AD100"], expected["AD100"].double())


def test_a_method_is_asked_again_and_on_a_randomised_classifier():
    targets, explain = decide(CLASSIFIER, IMAGES[:3]), gradcam(CLASSIFIER)
    maps = explain(IMAGES[:3], targets)
    found = score(CLASSIFIER, IMAGES[:3], maps, method=gradcam, curves=False, draws=2, seed=7)
    asked = (explain, IMAGES[:3], targets)
    expected = {"max-sensitivity": max_sensitivity(*asked, draws=2, seed=7)}
    expected["rank stability"] = 100 * rank_stability(*asked, draws=2, seed=7)
    other = gradcam(randomise(CLASSIFIER, "parts", 7))(IMAGES[:3], targets)
    alike = similarity(maps, other, (32, 32))
    expected |= {"randomised: correlation": 100 * alike[0], "randomised: SSIM": 100 * alike[1]}
    assert list(found.values)[-4:] == list(expected) == list(SCORES)[-4:]
    for name, values in expected.items():
        torch.testing.assert_close(found.values[name], values.double())
    assert found.notes == ()


def test_what_can_not_be_randomised_is_said():
    def fixed(pixels, targets):
        return pixels.mean(1)

    maps = IMAGES[:3].mean(1)
    found = score(CLASSIFIER, IMAGES[:3], maps, explain=fixed, curves=False, draws=2)
    assert found.notes == ("an explainer that does not ask the classifier is not tried on a randomised one",)
    assert "Note: an explainer" in found.text()
    box = BlackBox(CLASSIFIER, 32)
    found = score(box, IMAGES[:3], maps, method=lambda c: fixed, curves=False, draws=2)
    assert found.notes == ("a classifier without layers of its own can't be randomised",)
    assert "randomised: SSIM" not in found.values


def test_the_truth_scores_better_than_its_opposite():
    """The logit of a class is its quadrant's brightness: a map of it keeps the decision."""
    targets = decide(CLASSIFIER, IMAGES)
    right = torch.stack([quadrant_shares(torch.eye(4)[t].view(1, 2, 2)).view(2, 2) for t in targets])
    good, bad = (score(CLASSIFIER, IMAGES, maps, curves=True) for maps in (right, 1 - right))
    for name in ("AD@25", "IC@25", "MoRF confidence", "LeRF confidence", "insertion", "deletion"):
        better = good[name].mean - bad[name].mean
        assert better > 0 if SCORES[name].higher_is_better else better < 0


def test_nothing_that_is_given_changes():
    state, before, maps = torch.get_rng_state(), IMAGES.clone(), GIVEN.clone()
    CLASSIFIER.model.train()
    score(CLASSIFIER, IMAGES[:2], GIVEN[:2], method=gradcam, curves=False, draws=1)
    assert CLASSIFIER.model.training
    CLASSIFIER.model.eval()
    assert torch.get_rng_state().equal(state)
    assert (IMAGES.equal(before), GIVEN.equal(maps)) == (True, True)


@pytest.mark.parametrize(
    ("cells", "size", "same"),
    [((7, 7), (224, 224), True), ((224, 224), (224, 224), True), ((14, 15), (224, 224), True), ((3, 4), (32, 48), True),
     ((300, 400), (224, 224), False), ((7, 10), (224, 224), False), ((1, 9), (10, 90), True),
     ((9, 1), (10, 90), False)],
)  # fmt: skip
def test_a_map_has_the_shape_of_its_image_up_to_a_cell(cells, size, same):
    assert same_shape(cells, size) is same


def asked(images=PIXELS, maps=MAPS, **options):
    return score(toy_classifier(), images, maps, curves=False, **options)


ROWS = {
    "no images": (lambda: asked(PIXELS[:0], MAPS[:0]), refused("no images to score maps of: give at least one")),
    "too few maps": (lambda: asked(maps=MAPS[:1]), refused("1 maps for 2 images: give one for each")),
    "too many maps": (lambda: asked(maps=[*MAPS, MAPS[0]]), refused("3 maps for 2 images")),
    "a map with channels": (lambda: asked(maps=MAPS[:, None]), refused(r"map 0 is \(1, 4, 4\): a map is a tensor")),
    "a map that is a list": (lambda: asked(maps=[[1.0], [2.0]]), refused("map 0 is list: a map is a tensor")),
    "a map of another shape": (
        lambda: asked(maps=rand(2, 4, 8)),
        refused("map 0 is 4 x 8, of another shape than its image of 16 x 16: a map must show the same part"),
    ),
    "a map with NaN": (
        lambda: asked(maps=[MAPS[0], torch.full((4, 4), NAN)], names=["a.npy", "b.npy"]),
        refused("b.npy has 16 values that are NaN or infinite: check the method"),
    ),
    "a map with infinity": (lambda: asked(maps=MAPS.clone().fill_(INF)), refused("map 0 has 16 values that are NaN")),
    "complex maps": (lambda: asked(maps=MAPS.to(torch.complex64)), refused("map 0 has complex numbers")),
    "whole numbers": (lambda: asked(maps=(MAPS * 255).byte()), lambda found: found["AD100"].images == 2),
    "a constant map": (
        lambda: asked(maps=torch.ones(2, 4, 4)),
        lambda found: found.notes == ("2 of 2 maps are constant: they put no pixels first",),
    ),
    "targets of another number": (lambda: asked(targets=TARGETS[:1]), refused("one target per image: got")),
    "targets out of range": (lambda: asked(targets=TARGETS + 1), refused(r"classes must be .*, got 1\.\.3")),
    "too few masks": (lambda: asked(truth=TRUTH[:1]), refused("1 masks of the truth for 2 images")),
    "masks of another size": (
        lambda: asked(truth=TRUTH[:, ::2]),
        refused(r"the truth of map 0 must be \(16,16\) bool, got \(8, 16\)"),
    ),
    "masks of numbers": (lambda: asked(truth=TRUTH.float()), refused("the truth of map 0 must be .* got .*float32")),
    "names of another number": (lambda: asked(names=["a"]), refused("1 names for 2 images")),
    "images of another range": (lambda: asked(255 * PIXELS), refused(r"pixels must be in \[0,1\]")),
    "items that are images": (lambda: asked(Items()), lambda found: found["AD100"].images == 2),
    "no draws": (lambda: asked(draws=0), refused("draws must be a whole number of at least 1")),
    "no batch": (lambda: asked(batch_size=0), refused("batch_size must be a whole number of at least 1")),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name):
    assert_answer(*ROWS[name])
