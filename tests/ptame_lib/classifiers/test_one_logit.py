"""A network of one logit decides between two classes: what the logit speaks for, and its complement."""

import numpy as np
import pytest
import torch
from helpers import plain, rand
from torch import nn

from ptame_lib import BlackBox, Classifier, decide, load_classifier, load_multilabel
from ptame_lib.classifiers.groups import GroupedClassifier
from ptame_lib.methods.gradients import integrated_gradients


def bright(bias=0.5):
    """A network whose one logit is positive for an image that is bright on the left."""
    net = nn.Sequential(nn.Conv2d(3, 1, 4, 4, bias=False), nn.Flatten(), nn.Linear(64, 1))
    nn.init.constant_(net[0].weight, 1 / 48)
    net[2].weight.data = torch.tensor([1.0] * 4 + [0.0] * 4).repeat(8)[None] / 4
    nn.init.constant_(net[2].bias, -8 * bias)
    return net.eval()


PIXELS = torch.cat([rand(1, 3, 32, 32) * 0.3, 0.7 + rand(1, 3, 32, 32) * 0.3])


@pytest.mark.parametrize("labels", [None, ["cat"], ["dog", "cat"]])
def test_two_classes(labels):
    net = bright()
    probability = net(PIXELS).sigmoid()[:, 0]
    boxes = [
        plain(net, labels=labels),
        BlackBox(net, 32, labels),
        BlackBox(net, 32, labels, 1 if labels is None else None),
        BlackBox(lambda pixels: net(pixels).sigmoid().detach().numpy(), 32, labels, probabilities=True),
    ]
    for classifier in boxes:
        answer = classifier(PIXELS).softmax(1)
        torch.testing.assert_close(answer, torch.stack([1 - probability, probability], 1))
        assert classifier.num_classes == 2
        assert decide(classifier, PIXELS).tolist() == [0, 1]
        assert classifier.labels == {None: None, 1: ("not cat", "cat"), 2: ("dog", "cat")}[labels and len(labels)]
    grouped = GroupedClassifier(plain(net), {0: "dark", 1: "bright"})
    torch.testing.assert_close(grouped(PIXELS).softmax(1)[:, 1], probability)


def test_both_classes_have_a_map():
    classifier = plain(bright())
    targets = torch.tensor([0, 1])
    maps = integrated_gradients(classifier, 8)(PIXELS, targets)
    assert maps.amax((1, 2)).eq(1).all()
    seen = PIXELS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(seen)[:, 0].sum(), seen)
    assert gradient.abs().sum() > 0


def test_several_labels_keep_their_one():
    classifier = Classifier(bright(), [0.0] * 3, [1.0] * 3, 32, ["cat"], multi_label=True)
    assert classifier(PIXELS).equal(bright()(PIXELS))
    assert (classifier.labels, classifier.num_classes) == (("cat",), 1)


def test_by_name():
    classifier = load_classifier("timm/resnet10t", weights=None, num_classes=1, labels=["cat"])
    assert classifier.labels == ("not cat", "cat")
    assert classifier(rand(1, 3, 64, 64)).shape == (1, 2)
    assert load_multilabel("resnet50", 1, None, ["cat"])(rand(1, 3, 64, 64)).shape == (1, 1)


def test_a_black_box_gets_a_copy():
    def spoil(pixels):
        pixels.mul_(0)
        return np.zeros((len(pixels), 2))

    for pixels in (rand(2, 3, 8, 8), rand(2, 3, 8, 8).double(), rand(2, 3, 8, 8).requires_grad_()):
        before = pixels.detach().clone()
        BlackBox(spoil, 8)(pixels)
        assert pixels.equal(before)
