"""A wrapped network answers as the bare one does, on its own terms, and stays as its owner made it."""

import copy
import pickle

import pytest
import torch
from helpers import TinyBackbone, plain, rand, small_cnn
from torch import nn
from torchvision.models import resnet18

from ptame_lib import (
    PTAME,
    Classifier,
    FeatureExtractor,
    TrainingConfig,
    load_auxiliary,
    load_classifier,
    train_ptame,
)
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.explainers.features import Hooked
from ptame_lib.training.queries import Surrogate

# the layout of memory


class Textbook(nn.Module):
    """A network of a textbook: it counts on the usual layout of memory."""

    def __init__(self, flat="view"):
        super().__init__()
        self.conv, self.relu, self.fc, self.flat = nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Linear(4 * 16 * 16, 5), flat

    def forward(self, x):
        x = self.relu(self.conv(x))
        if self.flat == "view":
            return self.fc(x.view(-1, 4 * 16 * 16))
        if self.flat == "memory":  # another answer, and no error
            return self.fc(torch.as_strided(x, (len(x), 4 * 16 * 16), (4 * 16 * 16, 1)))
        if x.is_contiguous(memory_format=torch.channels_last) and x.shape[1] > 1:
            raise KeyError("no such layout")
        return self.fc(x.flatten(1))


@pytest.mark.parametrize("flat", ["view", "memory", "refuses"])
@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_networks_that_count_on_the_layout(flat, owned, batch):
    torch.manual_seed(0)
    net, pixels = Textbook(flat).eval(), rand(batch, 3, 32, 32)
    expected = net(pixels)
    classifier = plain(net)
    if owned:
        classifier.own()
    assert classifier(pixels).equal(expected)
    assert classifier(pixels.contiguous(memory_format=torch.channels_last)).equal(expected)
    assert not classifier.channels_last
    layer = FeatureExtractor(net, ["relu"], (0.0,) * 3, (1.0,) * 3, 32)
    torch.testing.assert_close(layer(pixels)[0], net.relu(net.conv(pixels)))


def test_a_size_that_needs_the_other_layout():
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 8, 8), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.conv(x).view(-1, 4)).view(len(x), -1)

    classifier = plain(Either().eval(), 8)
    assert classifier(rand(2, 3, 8, 8)).shape == (2, 2)
    assert classifier.channels_last  # maps of one position have no layout
    pixels = rand(2, 3, 16, 16)
    assert classifier(pixels).equal(classifier.model(pixels))


@pytest.mark.parametrize("name", ["embedded/vgg", "embedded/resnet", "embedded/vit", "timm/resnet10t"])
def test_others_keep_the_faster_layout(name):
    torch.manual_seed(0)
    classifier = load_classifier(name, "default" if name.startswith("embedded") else None)
    pixels = rand(2, 3, *classifier.input_size)
    answer = classifier(pixels)
    assert classifier.channels_last
    weights = [p for p in classifier.model.parameters() if p.ndim == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    x = ((pixels - classifier.mean) / classifier.std).contiguous(memory_format=torch.channels_last)
    assert answer.equal(classifier.model(x))


def test_trying_the_layout_moves_nothing_of_the_callers():
    net, seen = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Dropout()), []
    net[0].register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    before = torch.random.get_rng_state()
    plain(net)(rand(5, 3, 32, 32))
    assert torch.random.get_rng_state().equal(before)
    assert seen == [5]


# the owner's network


def state(net):
    """All that an owner may notice of his network, besides its values."""
    modes = {name: part.training for name, part in net.named_modules()}
    ties = {name: (p, p.requires_grad, p.grad, p.stride(), p.data_ptr()) for name, p in net.named_parameters()}
    values = {name: value.clone() for name, value in net.state_dict().items()}
    return modes, ties, values, {name: dict(part._forward_hooks) for name, part in net.named_modules()}


def assert_as_before(net, before):
    for old, new in zip(before, state(net), strict=True):
        assert old.keys() == new.keys()
        for name in old:
            if isinstance(old[name], torch.Tensor):
                assert old[name].equal(new[name])
            elif isinstance(old[name], tuple):
                assert old[name][0] is new[name][0]
                assert old[name][2] is new[name][2]
                assert old[name][1::2] == new[name][1::2]
                assert old[name][4] == new[name][4]
            else:
                assert old[name] == new[name]


@pytest.fixture
def owned():
    """A network in the middle of its owner's training, partly frozen, with gradients."""
    torch.manual_seed(0)
    net = small_cnn()
    net.l1.requires_grad_(False)
    net.l2.eval()
    net(rand(4, 3, 32, 32)).sum().backward()
    return net


def wrappers(net):
    yield Classifier(net, IMAGENET_MEAN, IMAGENET_STD, 32)
    yield FeatureExtractor(net, ["l2", "l3"], IMAGENET_MEAN, IMAGENET_STD, 32)
    hooked = FeatureExtractor(Hooked(net, ["l2", "l3"]), None, IMAGENET_MEAN, IMAGENET_STD, 32)
    yield hooked


@pytest.mark.parametrize("which", [0, 1, 2])
def test_wrapping_asking_and_training_on_it_change_nothing(owned, which):
    before, pixels = state(owned), rand(3, 3, 32, 32).requires_grad_()
    frozen = list(wrappers(owned))[which].train().eval().train()
    assert_as_before(owned, before)
    answers = frozen(pixels)
    sum(answer.sum() for answer in ([answers] if which == 0 else answers)).backward()
    assert pixels.grad.abs().sum() > 0
    assert_as_before(owned, before)  # no gradient was added to the parameters
    with pytest.raises(RuntimeError):
        frozen(rand(1, 3, 1, 1).expand(1, 3, 0, 0))
    assert_as_before(owned, before)
    copy.copy(frozen)(pixels)
    assert_as_before(owned, before)
    explained = plain(owned) if which else frozen
    auxiliary = frozen if which else FeatureExtractor(owned, ["l2", "l3"], IMAGENET_MEAN, IMAGENET_STD, 32)
    data = [{"pixels": image} for image in rand(4, 3, 32, 32)]
    train_ptame(PTAME(auxiliary, 5), explained, data, TrainingConfig(steps=2, batch_size=2))
    assert_as_before(owned, before)


def test_the_owner_trains_and_the_wrappers_see_the_weights_alone(owned):
    frozen, pixels = list(wrappers(owned)), rand(3, 3, 32, 32)
    for part in frozen:
        part(pixels)
    owned.train().requires_grad_(True)
    optimizer = torch.optim.SGD(owned.parameters(), lr=0.1)
    owned(pixels).square().sum().backward()
    optimizer.step()
    owned.l3[0].weight.data.mul_(1.5)
    bare = copy.deepcopy(owned).eval()
    x = (pixels - frozen[0].mean) / frozen[0].std
    torch.testing.assert_close(frozen[0](pixels), bare(x))
    for part in frozen[1:]:
        torch.testing.assert_close(part(pixels)[1], bare[:3](x))
    assert all(part.training for part in owned.modules())


def test_the_wrapper_learns_where_it_is_told_to(owned):
    classifier = Classifier(owned.train(), IMAGENET_MEAN, IMAGENET_STD, 32)
    classifier.frozen = False
    owned.zero_grad()
    before = owned.l3[1].running_mean.clone()
    classifier(rand(4, 3, 32, 32)).sum().backward()
    assert owned.l3[0].weight.grad.abs().sum() > 0
    assert not owned.l3[1].running_mean.equal(before)


# copies


def frozen_parts():
    torch.manual_seed(0)
    yield "classifier", load_classifier("embedded/resnet")
    yield "owner's", Classifier(TinyBackbone(), IMAGENET_MEAN, IMAGENET_STD, 32)
    yield "graph", load_auxiliary("embedded/auxiliary")
    yield "torchvision", FeatureExtractor(resnet18(), ["layer1", "layer4"], IMAGENET_MEAN, IMAGENET_STD, 64)
    yield "timm", load_auxiliary("timm/resnet10t", weights=None)
    yield "hooked", FeatureExtractor(Hooked(small_cnn(), ["l2"]), None, IMAGENET_MEAN, IMAGENET_STD, 32)
    yield "explainer", PTAME(load_auxiliary("embedded/auxiliary"), 3).eval()


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda part: pickle.loads(pickle.dumps(part)),
    "moved": lambda part: copy.deepcopy(part).to("cpu", torch.float32),
    "trained": lambda part: nn.Sequential(copy.deepcopy(part)).train().eval()[0],
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(("name", "part"), frozen_parts(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_frozen_stays_so_in_copies(name, part, how):
    pixels = rand(2, 3, 64, 64)
    ask = (lambda part: part.maps(pixels)) if name == "explainer" else lambda part: part(pixels)
    with torch.no_grad():
        before, twin = ask(part), COPIES[how](part)
        buffers = {key: value.clone() for key, value in twin.named_buffers()}
        after = ask(twin)
    assert len(before) == len(after)
    assert all(old.equal(new) for old, new in zip(before, after, strict=True))
    assert not any(module.training for module in twin.modules())
    assert all(value.equal(buffers[key]) for key, value in twin.named_buffers())


def test_a_surrogates_features_keep_their_statistics():
    box = load_classifier("embedded/vgg")
    surrogate = Surrogate(box, load_auxiliary("embedded/auxiliary"), 10).train()
    assert not any(part.training for part in surrogate.features.modules())
    pixels, before = rand(4, 3, 64, 64), dict(surrogate.features.named_buffers())
    before = {key: value.clone() for key, value in before.items()}
    weight = next(surrogate.features.parameters()).clone()
    surrogate.imitate(pixels)
    surrogate.learn(pixels)
    assert all(value.equal(before[key]) for key, value in surrogate.features.named_buffers())
    assert not next(surrogate.features.parameters()).equal(weight)  # which do learn
