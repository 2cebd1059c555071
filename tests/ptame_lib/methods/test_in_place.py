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


def pair():
    """VGG-11 with its activations in place, and the same without."""
    torch.manual_seed(0)
    net = vgg11(weights=None, num_classes=5).eval()
    safe = copy.deepcopy(net)
    for part in safe.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    return [Classifier(each, IMAGENET_MEAN, IMAGENET_STD, 64) for each in (net, safe)]


def test_layer_features():
    unsafe, safe = pair()
    pixels = rand(2, 3, 64, 64)
    found = layer_features(unsafe, pixels, unsafe.model.features[8])
    assert found.min() < 0
    assert found.equal(layer_features(safe, pixels, safe.model.features[8]))


@pytest.mark.parametrize("name", CAMS)
def test_cams(name):
    unsafe, safe = pair()
    pixels, targets = rand(1, 3, 64, 64), torch.tensor([1])
    layer = 18 if name in ("Score-CAM", "Ablation-CAM") else 8
    wanted = cam(name, safe, safe.model.features[layer])(pixels, targets)
    assert cam(name, unsafe, unsafe.model.features[layer])(pixels, targets).equal(wanted)
    assert wanted.max() > 0
