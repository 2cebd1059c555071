"""Guided backpropagation where its hooks can't work, and pixels that require a gradient."""

import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from functorch.compile import aot_module, nop
from helpers import rand, small_transformer
from torch import nn
from torchvision.models import googlenet, inception_v3

from ptame_lib import Budget, Classifier, build_methods
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.methods import CAMS, CATALOGUE, TRUTH, cam, gradcam, guided_backprop, opti_cam, random_map
from ptame_lib.methods.catalogue import TRANSFORMERS

SMALL = Budget(
    masks=4,
    path_steps=2,
    samples=8,
    segments=4,
    noisy_samples=2,
    opti_steps=2,
    perturbation_steps=2,
    igos_steps=1,
    igos_path=2,
)
TARGETS = torch.tensor([1, 3])


class Net(nn.Module):
    """Two convolutions, each with a ReLU as a module or a functional one."""

    def __init__(self, first=nn.ReLU, second=nn.ReLU):
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 8, 3, 2), nn.Linear(8, 4)
        self.first, self.second = (kind() if isinstance(kind, type) else kind for kind in (first, second))

    def forward(self, x):
        return self.head(self.second(self.two(self.first(self.one(x)))).mean((2, 3)))


def classifier_of(net, size=32):
    return Classifier(net, IMAGENET_MEAN, IMAGENET_STD, size)


def made(*relus):
    torch.manual_seed(0)
    return Net(*relus)


@pytest.mark.parametrize("relu", [F.relu, torch.relu_, lambda x: x.relu()])
def test_functional_relus_are_not_called_guided(relu):
    refused = "can't guide any of the 2 ReLUs, which are functional: give a network whose ReLUs are nn.ReLU modules"
    with pytest.raises(ValueError, match=refused):
        guided_backprop(classifier_of(made(relu, relu)))(rand(2, 3, 32, 32), TARGETS)


@pytest.mark.parametrize(("net", "size"), [(googlenet, 64), (inception_v3, 96)])
def test_torchvisions_functional_networks_are_refused(net, size):
    with torch.device("meta"):
        built = net(init_weights=False, **({"aux_logits": False} if net is googlenet else {}))
    built = built.to_empty(device="cpu")
    for value in built.state_dict().values():
        value.fill_(0.01)
    with pytest.raises(ValueError, match=r"guided backpropagation can't guide any of the \d+ ReLUs"):
        guided_backprop(classifier_of(built, size))(rand(1, 3, size, size), TARGETS[:1])


def test_some_functional_relus_are_told():
    with pytest.warns(UserWarning, match="guides 1 of 2 ReLUs, the others are functional"):
        guided_backprop(classifier_of(made(nn.ReLU, F.relu)))(rand(2, 3, 32, 32), TARGETS)


@pytest.mark.parametrize("relu", [nn.ReLU, lambda: nn.ReLU(inplace=True), nn.GELU, lambda: nn.Sequential(nn.ReLU())])
def test_ordinary_networks_are_guided_without_a_word(relu):
    net = made(relu(), relu())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = guided_backprop(classifier_of(net))(rand(2, 3, 32, 32), TARGETS)
    assert maps.amax((1, 2)).eq(1).all()


@pytest.mark.parametrize("method", [guided_backprop, gradcam, *(partial(cam, name) for name in CAMS), opti_cam])
@pytest.mark.parametrize("whole", [True, False])
def test_compiled_networks_are_explained_like_the_plain_one(method, whole):
    """aot_eager makes the same graph as the default compiler, without compiling C++."""
    net, pixels = made(), rand(2, 3, 32, 32)
    expected = method(classifier_of(net))(pixels, TARGETS)
    compiled = classifier_of(net) if whole else torch.compile(net, backend="aot_eager")
    compiled = torch.compile(compiled, backend="aot_eager") if whole else classifier_of(compiled)
    compiled(pixels)  # compiled before there are hooks that it could take along
    torch.testing.assert_close(method(compiled)(pixels, TARGETS), expected, atol=1e-5, rtol=0)
    torch._dynamo.reset()


def test_what_is_compiled_ahead_of_time_is_told():
    with pytest.raises(ValueError, match="guided backpropagation can't be done: the network is compiled"):
        guided_backprop(classifier_of(aot_module(made(), nop)))(rand(2, 3, 32, 32), TARGETS)


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != TRUTH])
def test_pixels_that_require_a_gradient_change_nothing(name):
    net = small_transformer() if CATALOGUE[name].only == TRANSFORMERS else made()
    classifier, pixels = classifier_of(net), rand(2, 3, 32, 32)
    (method,) = build_methods(classifier, names=[name], budget=SMALL)
    expected = method(pixels, TARGETS)
    learning = pixels.clone().requires_grad_()
    found = method(learning, TARGETS)
    assert found.equal(expected)
    assert not found.requires_grad
    assert learning.grad is None
    assert learning.requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_random_map_takes_every_precision(dtype):
    pixels = rand(2, 3, 8, 8).to(dtype)
    assert random_map()(pixels, TARGETS).equal(random_map()(pixels.clone(), TARGETS))
