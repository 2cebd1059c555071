"""What an explanation is worth, on planted classifiers whose answers are known by hand."""

import matplotlib.pyplot as plt
import pytest
import torch
from helpers import Quarter
from torch import nn

from ptame_lib import Method, explain_with_evidence
from ptame_lib.methods.controls import truth_map
from ptame_lib.metrics import masked_confidence
from ptame_lib.metrics.drop import confidence
from ptame_lib.metrics.evidence import evidence
from ptame_study import figures

WHITE = torch.ones(1, 3, 10, 10)
BRIGHT = torch.tensor([1])


def ramp(top_left=True):
    """A map that puts the 25 pixels of the top left quarter first (or last), each value once."""
    order = torch.zeros(10, 10, dtype=torch.bool)
    order[:5, :5] = True
    values = torch.empty(10, 10)
    values[order == top_left] = torch.linspace(0.8, 1, 25 if top_left else 75)
    values[order != top_left] = torch.linspace(0, 0.1, 75 if top_left else 25)
    return values[None]


def test_the_three_probabilities_and_the_share_by_hand():
    found = evidence(Quarter(), WHITE, BRIGHT, ramp())
    kept = float(ramp()[0, :5, :5].mean())
    for name, brightness in {"whole": 1, "kept": kept, "rest": 1 - kept}.items():
        expected = torch.tensor([10 * (brightness - 0.5)], dtype=torch.float64).sigmoid()
        torch.testing.assert_close(getattr(found, name), expected, atol=1e-6, rtol=0)
    assert found.faithful.tolist() == [True]
    assert found.rest_too.tolist() == [False]
    # More than half of the 25 pixels are needed: 10 % of the image are 10 pixels, 15 % are 15.
    assert found.share.tolist() == [0.15]
    assert found.text() == (
        "bright: 99% on the whole image, 98% on what the map keeps, 2% on the rest; "
        "the first 15% of its pixels are enough for this decision."
    )
    assert found.warning() == ""


def test_a_map_that_misses_the_evidence_is_warned_about():
    found = evidence(Quarter(), WHITE, BRIGHT, ramp(top_left=False))
    assert found.faithful.tolist() == [False]
    assert found.rest_too.tolist() == [True]
    assert found.share.tolist() == [0.9]  # 75 pixels elsewhere, then 15 of the quarter
    assert (
        found.warning() == "Do not rely on this map: on what it keeps, the classifier decides for dark, not for bright."
    )


def test_a_constant_map_keeps_nothing_and_orders_nothing():
    found = evidence(Quarter(), WHITE, BRIGHT, torch.ones(1, 4, 4))
    assert found.faithful.tolist() == [False]
    assert found.share.isnan().tolist() == [True]
    assert "no part of it alone is enough" in found.text()


def test_the_smallest_share_is_found_where_answers_are_not_monotone():
    class Narrow(nn.Module):
        """Class 1 where between 4 and 12 pixels are white, or all."""

        def forward(self, pixels):
            n = (pixels[:, 0] == 1).sum((1, 2))
            yes = ((n >= 4) & (n <= 12)) | (n == 100)
            return torch.stack([~yes, yes], 1).float()

    values = torch.linspace(0, 1, 100).view(1, 10, 10)
    found = evidence(Narrow(), WHITE, BRIGHT, values)
    assert found.share.tolist() == [0.05]
    assert (
        found.warning()
        == "Do not rely on this map: on what it keeps, the classifier decides for class 0, not for class 1."
    )
    assert evidence(Narrow(), WHITE, BRIGHT, values, shares=(0.2, 0.5)).share.isnan().all()


@pytest.mark.parametrize(
    ("bias", "target", "map_", "message"),
    [
        (-1.0, 1, ramp(), "a black image as well"),
        (1.5, 1, ramp(), "decides for dark, not for bright"),
        (0.5, 0, ramp(top_left=False), "black image"),
        (0.2, 1, ramp() * 0.5 + ramp(False) * 0.5, "all the evidence: the rest of the image is decided for bright"),
    ],
)
def test_the_gravest_doubt_comes_first(bias, target, map_, message):
    assert message in evidence(Quarter(bias), WHITE, torch.tensor([target]), map_).warning()


def test_a_class_that_is_not_decided_for():
    class Three(nn.Module):
        """0: nothing; 1: the left half; 2: the right half, which counts a little more."""

        def forward(self, pixels):
            left, right = pixels[:, :, :, :5].mean((1, 2, 3)), pixels[:, :, :, 5:].mean((1, 2, 3))
            return torch.stack([torch.full_like(left, 0.1), left, 1.2 * right], 1)

    halves = torch.zeros(1, 10, 10)
    halves[:, :, :5] = torch.linspace(0.9, 1, 50).view(10, 5)
    found = evidence(Three(), WHITE, BRIGHT, halves)
    assert found.faithful.tolist() == [True]
    assert found.decisions.tolist() == [2]
    assert found.warning() == "The map explains class 1, but on the whole image the classifier decides for class 2."


def test_a_batch_is_its_images_one_by_one(classifier, pixels):
    maps = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(5))
    targets = torch.tensor([0, 3, 3, 6])
    whole = evidence(classifier, pixels, targets, maps)
    torch.testing.assert_close(whole.whole, confidence(classifier, pixels, targets))
    torch.testing.assert_close(
        whole.kept, masked_confidence(classifier, pixels, targets, maps)
    )  # what AD at 100 % is made of
    for i, one in enumerate(whole):
        alone = evidence(classifier, pixels[i : i + 1], targets[i : i + 1], maps[i : i + 1])
        assert (one.text(), one.warning()) == (alone.text(), alone.warning()) == (whole.text(i), whole.warning(i))
        torch.testing.assert_close(one.rest, alone.rest)
        torch.testing.assert_close(one.share, alone.share, equal_nan=True)
    assert i == 3
    assert len(whole[-1]) == 1


def test_the_number_of_questions_is_as_promised():
    net = Quarter()
    evidence(
        net,
        WHITE.expand(3, -1, -1, -1),
        torch.ones(3, dtype=torch.int64),
        ramp().expand(3, -1, -1),
        shares=(0.1, 0.15, 0.2, 0.5),
    )
    assert sum(net.asked) == 3 * 3 + 3 * 2 + 1  # 0.1 fails, 0.15 is enough
    net.asked.clear()
    evidence(net, WHITE, BRIGHT, torch.ones(1, 10, 10), shares=(0.1, 0.5))
    assert sum(net.asked) == 3 + 2 + 1


def test_any_method_is_explained_with_evidence():
    def right(pixels, targets):
        assert targets.tolist() == [1]
        return ramp()

    explainer = type("Explainer", (), {"explain": staticmethod(right)})()
    for method in (right, Method("right", right, 0, 0, "test"), explainer):
        maps, found = explain_with_evidence(method, Quarter(), WHITE)
        assert maps.equal(ramp())
        assert found.share.tolist() == [0.15]
    assert explain_with_evidence(lambda p, t: ramp(), Quarter(), WHITE, torch.tensor([0]))[1].targets.tolist() == [0]
    with pytest.raises(ValueError, match="'ground truth' is given the truth"):
        explain_with_evidence(Method("ground truth", truth_map, 0, 0, "control", sees_truth=True), Quarter(), WHITE)


@pytest.mark.parametrize(
    ("targets", "maps", "shares", "message"),
    [
        ([1, 1], torch.ones(1, 4, 4), (0.5,), r"1 targets .* got targets of shape \(2,\)"),
        ([1], torch.ones(1, 1, 4, 4), (0.5,), r"maps of \(1, 1, 4, 4\)"),
        ([2], torch.ones(1, 4, 4), (0.5,), r"0\.\.1, got 2"),
        ([1], torch.full((1, 4, 4), torch.nan), (0.5,), "not finite"),
        ([1], torch.ones(1, 4, 4), (0.5, 1.0), "between 0 and 1"),
    ],
)
def test_what_does_not_belong_together_is_refused(targets, maps, shares, message):
    with pytest.raises(ValueError, match=message):
        evidence(Quarter(), WHITE, torch.tensor(targets), maps, shares)


class Two(nn.Module):
    """Two labels, each decided alone: ``left`` if that half is brighter than 0.2, ``right`` if brighter than 0.4."""

    labels, multi_label = ("left", "right"), True

    def forward(self, pixels):
        halves = torch.stack([pixels[..., :5].mean((1, 2, 3)), pixels[..., 5:].mean((1, 2, 3))], 1)
        return 10 * (halves - torch.tensor([0.2, 0.4]))


def test_a_label_of_a_multi_label_classifier_is_judged_by_its_own_sigmoid():
    """A white image has both labels, with 8 and 6: a softmax would not decide for the second, its own sigmoid does."""
    both, half = torch.tensor([0, 1]), torch.zeros(2, 10, 10)
    half[0, :, :5], half[1, :, 5:] = 1, 1
    found = evidence(Two(), WHITE.expand(2, -1, -1, -1), both, half)
    for name, logits in {"whole": (8.0, 6.0), "kept": (8.0, 6.0), "rest": (-2.0, -4.0)}.items():
        torch.testing.assert_close(
            getattr(found, name), torch.tensor(logits, dtype=torch.float64).sigmoid(), atol=1e-6, rtol=0
        )
    assert (found.decided.tolist(), found.faithful.tolist(), found.rest_too.tolist()) == (
        [True] * 2,
        [True] * 2,
        [False] * 2,
    )
    assert [found.doubt(0), found.doubt(1)] == ["", ""]
    single = Two()
    single.multi_label = False
    assert evidence(single, WHITE, both[1:], half[1:]).doubt() == "not the decision"
    swapped = evidence(Two(), WHITE, both[1:], half[:1])  # the left half says nothing about the right one
    assert swapped.warning() == "Do not rely on this map: on what it keeps, the classifier does not find right."
    absent = WHITE.clone()
    absent[..., 5:] = 0.39  # just below what it needs
    told = evidence(Two(), absent, both[1:], half[1:])[0]
    assert (told.decided.tolist(), told.faithful.tolist(), told.multi_label) == ([False], [False], True)


def test_a_label_that_is_found_only_by_its_mask_is_not_the_decision():
    class Brightest(Two):
        """``left`` is there where nothing is right of it."""

        def forward(self, pixels):
            return torch.stack(
                [pixels[..., :5].mean((1, 2, 3)) - pixels[..., 5:].mean((1, 2, 3)) - 0.5, -torch.ones(len(pixels))], 1
            )

    half = torch.zeros(1, 10, 10)
    half[..., :5] = 1
    found = evidence(Brightest(), WHITE, torch.tensor([0]), half)
    assert found.decisions.tolist() == [0]  # its logit, -0.5, is the largest all the same
    assert found.doubt() == "not the decision"
    assert found.warning() == "The map explains left, but on the whole image the classifier does not find it."


def test_the_figure_shows_the_four_images_the_numbers_and_the_warning():
    bad = evidence(Quarter(), WHITE, BRIGHT, ramp(False))
    figure = figures.explanation(WHITE[0], ramp(False)[0], bad[0])
    assert [axis.get_title() for axis in figure.axes] == ["bright: 99%", "map", "kept: 1%", "rest: 99%"]
    shown = [axis.images[-1].get_array() for axis in figure.axes]
    torch.testing.assert_close(
        torch.as_tensor(shown[2]), ramp(False)[0][..., None].expand(-1, -1, 3).clamp(0, 1), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(torch.as_tensor(shown[2] + shown[3]), torch.ones(10, 10, 3), atol=1e-6, rtol=0)
    words = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert bad.text() in words
    assert bad.warning() in words
    plt.close(figure)
    good = evidence(Quarter(), WHITE, BRIGHT, ramp())
    figure = figures.explanation(WHITE[0], ramp()[0], good, labels=["no", "yes"])
    assert "yes" in figure.axes[0].get_title()
    assert len(figure.texts) == 1
    plt.close(figure)


def test_images_of_a_grid_are_annotated_with_their_own_evidence():
    both = evidence(Quarter(), WHITE.expand(2, -1, -1, -1), torch.tensor([1, 1]), torch.cat([ramp(), ramp(False)]))
    figure = figures.grid([list(WHITE.expand(2, -1, -1, -1)), [ramp()[0], ramp(False)[0]]], ["a", "b"])
    figures.annotate(figure.axes[2:], both)
    good, bad = figure.axes[2:]
    assert good.get_xlabel().split("\n") == ["whole 99%", "kept 98%, rest 2%", "15% enough", ""]
    assert bad.get_xlabel().split("\n") == ["whole 99%", "kept 1%, rest 99%", "90% enough", "not faithful"]
    assert (bad.xaxis.label.get_color(), good.xaxis.label.get_color() == figures.DOUBT) == (figures.DOUBT, False)
    figures.annotate(figure.axes[:1], both[1], whole=False)
    assert figure.axes[0].get_xlabel().startswith("kept 1%")
    plt.close(figure)
