"""What a layer answered is what methods see, even if an operation in place follows."""

import copy

import pytest
import torch
from helpers import rand
from torch import nn
from torchvision.models import vgg11

from ptame_lib import Classifier
from ptame_lib.classifiers.trunk import layer_features
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.methods.cam import CAMS, cam


def small_vgg():
    """VGG's pattern with 8 channels, since some methods ask once per channel."""
    features, inside = [], 3
    for _ in range(3):
        features += [nn.Conv2d(inside, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        inside = 8
    return nn.Sequential(nn.Sequential(*features), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5))


def pair(make=small_vgg):
    """A network with its activations in place, and the same without."""
    torch.manual_seed(0)
    net = make().eval()
    safe = copy.deepcopy(net)
    for part in safe.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    return [Classifier(each, IMAGENET_MEAN, IMAGENET_STD, 64) for each in (net, safe)]


def test_layer_features():
    unsafe, safe = pair(lambda: vgg11(weights=None, num_classes=5))
    pixels = rand(2, 3, 64, 64)
    found = layer_features(unsafe, pixels, unsafe.model.features[8])
    assert found.min() < 0
    assert found.equal(layer_features(safe, pixels, safe.model.features[8]))


@pytest.mark.parametrize("name", CAMS)
def test_cams(name):
    unsafe, safe = pair()
    pixels, targets = rand(1, 3, 64, 64), torch.tensor([1])
    wanted = cam(name, safe, safe.model[0][6])(pixels, targets)
    assert cam(name, unsafe, unsafe.model[0][6])(pixels, targets).equal(wanted)
    assert wanted.max() > 0
