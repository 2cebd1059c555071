"""The layer that CAM methods look at, in networks of unknown origin."""

import pytest
import torch
from helpers import SIDE, Quadrants, TokenNet, plain, rand
from torch import nn

from ptame_lib.classifiers.trunk import layer_features, target_layer
from ptame_lib.methods import CAMS, cam, gradcam, opti_cam

TARGETS = torch.tensor([0, 1])
PIXELS = rand(2, 3, SIDE, SIDE)


class Last(nn.Module):
    """Channels last: two convolutions and a mean; ``swap`` gives the module whose output CAM methods can read."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.swap = nn.Conv2d(3, 24, 4, 4), nn.Conv2d(24, 24, 1), Swap()
        self.mix, self.head = nn.Linear(24, 24), nn.Linear(24, 4)

    def forward(self, x):
        return self.head(self.mix(self.swap(self.two(self.one(x)).relu())).mean((1, 2)))


class Swap(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class ClassToken(nn.Module):
    """A transformer whose modules have names that nobody knows: after the mixing, only the class token counts."""

    def __init__(self):
        super().__init__()
        self.inner = TokenNet()
        self.before, self.after, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.inner.patch(x).flatten(2).transpose(1, 2)
        x = self.before(torch.cat([x.mean(1, keepdim=True), x], 1))
        return self.head(self.after(x + self.inner.mix(x, x, x)[0])[:, 0])


class Unused(nn.Module):
    """The last feature map is made for nothing."""

    def __init__(self, used=True):
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 5, 1), nn.Linear(6, 4)
        self.used = used

    def forward(self, x):
        x = self.one(x)
        self.two(x)
        return self.head(x.mean((2, 3)))


class Matrix(nn.Module):
    """Attention by hand: its weights (B,heads,16,16) look like a feature map with channels first."""

    def __init__(self):
        super().__init__()
        self.patch, self.attention, self.head = nn.Conv2d(3, 8, 8, 8), nn.Softmax(-1), nn.Linear(8, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        weights = self.attention((x @ x.transpose(1, 2))[:, None].expand(-1, 2, -1, -1))
        return self.head((weights.mean(1) @ x).mean(1))


@pytest.mark.parametrize(
    ("net", "layer", "layout"),
    [
        (Quadrants, "parts", "NCHW"),
        (TokenNet, "norm1", 1),
        (Last, "mix", "NHWC"),
        (ClassToken, "before", 1),
        (Unused, "one", "NCHW"),
        (Matrix, "patch", "NCHW"),
    ],
)
def test_the_layer(net, layer, layout):
    torch.manual_seed(0)
    net = net()
    assert target_layer(plain(net), PIXELS) == (net.get_submodule(layer), layout)
    maps = gradcam(plain(net))(PIXELS, TARGETS)
    assert maps.shape == (2, SIDE, SIDE)
    assert layer_features(plain(net), PIXELS).shape[:1] == (2,)


@pytest.mark.parametrize("name", CAMS)
def test_channels_last_are_read_as_such(name):
    """A map on a layer with channels last is that on the same layer with channels first."""
    torch.manual_seed(0)
    net = Last()
    last = cam(name, plain(net), net.swap)(PIXELS, TARGETS)
    assert last.any()
    torch.testing.assert_close(last, _with_relu(name, net), atol=1e-5, rtol=0)


def _with_relu(name, net):
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.relu = net, nn.ReLU()

        def forward(self, x):
            return net.head(net.mix(self.relu(net.two(net.one(x))).permute(0, 2, 3, 1)).mean((1, 2)))

    first = First()
    return cam(name, plain(first), first.relu)(PIXELS, TARGETS)


def test_a_layer_of_ones_own_may_be_tokens():
    torch.manual_seed(0)
    net = TokenNet()
    expected = gradcam(plain(net))(PIXELS, TARGETS)
    assert gradcam(plain(net), net.norm1)(PIXELS, TARGETS).equal(expected)
    expected = opti_cam(plain(net), steps=2)(PIXELS, TARGETS)
    assert opti_cam(plain(net), net.norm1, steps=2)(PIXELS, TARGETS).equal(expected)


def test_a_layer_without_gradient_is_refused():
    torch.manual_seed(0)
    net = ClassToken()
    with pytest.raises(ValueError, match=r"no gradient reaches the map of the layer Linear .*: choose an earlier"):
        gradcam(plain(net), net.after)(PIXELS, TARGETS)
    net = Unused()
    with pytest.raises(ValueError, match=r"no gradient reaches the map of the layer Conv2d .*: choose an earlier"):
        gradcam(plain(net), net.two)(PIXELS, TARGETS)


def test_a_layer_that_is_not_called_is_refused():
    net = ClassToken()
    for name in CAMS:
        with pytest.raises(ValueError, match=r"the layer LayerNorm (did not answer|was not called).*: choose"):
            cam(name, plain(net), net.inner.norm1)(PIXELS, TARGETS)


def test_without_any_layer_the_message_names_some():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.head = nn.Linear(SIDE, 1), nn.Linear(3 * SIDE, 4)

        def forward(self, x):
            return self.head(self.rows(x).flatten(1))

    with pytest.raises(
        ValueError, match=r"no feature map found in Flat: pass the layer for Grad-CAM, such as model\.ro"
    ):
        target_layer(plain(Flat()), PIXELS)


def test_all_layers_without_gradient_are_named():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(3, 4)

        def forward(self, x):
            self.one(x)
            return self.head(x.mean((2, 3)))

    with pytest.raises(
        ValueError, match=r"no gradient of Detached reaches model\.one: their maps would be empty; pass the"
    ):
        target_layer(plain(Detached()), PIXELS)


@pytest.mark.parametrize("pixels", [torch.zeros(1, 3, SIDE, SIDE), PIXELS])
def test_a_network_that_nothing_moves_keeps_its_layer(pixels):
    """All its gradients are zero, so that says nothing against a layer."""
    net = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    nn.init.zeros_(net[3].weight)
    assert target_layer(plain(net), pixels) == (net[0], "NCHW")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_switched_off_do_not_matter(mode):
    net = ClassToken()
    classifier = plain(net)
    with mode():
        assert target_layer(classifier, PIXELS) == (net.before, 1)
        assert layer_features(classifier, PIXELS).shape == (2, 8, 4, 4)


@pytest.mark.parametrize("name", CAMS)
def test_what_works_in_place_does_not_change_the_layers_map(name):
    torch.manual_seed(0)
    nets = [
        nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.ReLU(inplace=place), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        for head in [nn.Linear(6, 4)]
        for place in (False, True)
    ]
    nets[1].load_state_dict(nets[0].state_dict())
    expected, found = (cam(name, plain(net), net[0])(PIXELS, TARGETS) for net in nets)
    assert found.equal(expected)
    assert layer_features(plain(nets[1]), PIXELS, nets[1][0]).min() < 0


def test_finding_the_layer_changes_nothing():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 4, 4), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    before = {key: value.clone() for key, value in net.state_dict().items()}
    target_layer(net, PIXELS), layer_features(net, PIXELS), layer_features(net, PIXELS, net[0])
    assert all(value.equal(before[key]) for key, value in net.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
