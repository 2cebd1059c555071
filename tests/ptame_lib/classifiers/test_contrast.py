"""Two classes against each other, on a classifier whose evidence is known by construction."""

import pytest
import torch
from helpers import Quadrants, plain, quadrant_shares, rand, small_classifier

from ptame_lib import BlackBox, load_classifier
from ptame_lib.classifiers.contrast import contrast
from ptame_lib.methods.cam import cam
from ptame_lib.methods.rise import rise
from ptame_lib.metrics.evidence import evidence

PIXELS = rand(3, 3, 32, 32)
FIRST = torch.zeros(3, dtype=torch.int64)


def test_the_probability_is_one_classes_among_the_two():
    classifier = small_classifier()
    pixels = rand(3, 3, 64, 64)
    p = classifier(pixels).double().softmax(1)
    expected = p[:, [5, 2]] / p[:, [5, 2]].sum(1, keepdim=True)
    torch.testing.assert_close(contrast(classifier, 5, 2)(pixels).double().softmax(1), expected)
    box = BlackBox(classifier, 64)
    box(pixels[:1])
    torch.testing.assert_close(contrast(box, 5, 2)(pixels).double().softmax(1), expected)
    assert contrast(box, 5, 2).differentiable is False


def test_names_are_those_of_the_two():
    assert contrast(plain(Quadrants(), labels="abcd"), 3, 1).labels == ("d against b", "b against d")
    assert contrast(plain(Quadrants()), 3, 1).labels[0] == "class 3 against class 1"


@pytest.mark.parametrize("make", [lambda c: cam("HiResCAM", c), lambda c: rise(c, masks=400)])
def test_maps_show_what_speaks_for_one_class_and_not_what_speaks_for_the_other(make):
    """On a grey image the logits of all quadrants are equal: their difference is in the two quadrants."""
    classifier = plain(Quadrants(scale=3.0), labels="abcd")
    shares = quadrant_shares(make(contrast(classifier, 0, 3))(torch.full_like(PIXELS, 0.5), FIRST).clamp_min(0))
    assert (shares.argmax(1) == 0).all()
    assert (shares.argmin(1) == 3).all() or (shares[:, 3] < 1e-6).all()


def test_what_both_classes_share_is_no_part_of_the_contrast():
    class Shared(Quadrants):
        """The second and third quadrant speak for all classes alike."""

        def forward(self, x):
            z = super().forward(x)
            return torch.stack([z[:, 0], z[:, 1], z[:, 1], z[:, 3]], 1) + 3 * z[:, 1:3].sum(1, keepdim=True)

    classifier = plain(Shared())
    bright = torch.full_like(PIXELS, 0.5)
    alone = quadrant_shares(cam("HiResCAM", classifier)(bright, FIRST))
    against = quadrant_shares(cam("HiResCAM", contrast(classifier, 0, 3))(bright, FIRST))
    assert alone[0, 1] > alone[0, 0]
    assert against[0, 0] > 0.9  # the rest is the border, where maps are interpolated


def test_evidence_is_about_the_two_alone():
    proof = evidence(contrast(plain(Quadrants(), labels="abcd"), 0, 3), PIXELS, FIRST, rand(3, 8, 8))
    logits = plain(Quadrants())(PIXELS).double()
    torch.testing.assert_close(proof.whole, (logits[:, 0] - logits[:, 3]).sigmoid())
    assert proof.text().startswith("a against d: ")


def test_nothing_of_the_classifier_changes():
    classifier = load_classifier("embedded/resnet")
    pixels = rand(2, 3, 64, 64)
    before, keys = classifier(pixels), set(classifier.state_dict())
    between = contrast(classifier, 1, 2)
    cam("HiResCAM", between)(pixels, FIRST[:2])
    assert classifier(pixels).equal(before)
    assert set(classifier.state_dict()) == keys == set(between.state_dict())
    assert classifier.num_classes == 10


@pytest.mark.parametrize(
    ("pair", "message"),
    [((2, 2), "class 2 can't be contrasted with itself: give another class"), ((0, 4), r"no class 4: it has 0\.\.3"),
     ((-1, 2), r"no class -1: it has 0\.\.3")],
)  # fmt: skip
def test_pairs_that_can_not_be_are_refused(pair, message):
    with pytest.raises(ValueError, match=message):
        contrast(plain(Quadrants(), labels="abcd"), *pair)
