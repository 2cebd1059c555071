"""Folding changes no answer, or nothing at all."""

import pytest
import torch
from helpers import plain, rand
from torch import fx, nn
from torchvision.models import resnet18

from ptame_lib import BlackBox, FeatureExtractor, fold_batch_norms, load_classifier
from ptame_lib.classifiers.folding import fold_graph


def norms(classifier):
    return [module for module in classifier.model.modules() if isinstance(module, nn.BatchNorm2d)]


def unlike_identity(classifier):
    """Batch norms of an untrained network change next to nothing: give them something to do."""
    generator = torch.Generator().manual_seed(0)
    for norm in norms(classifier):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return classifier


@pytest.mark.parametrize("name", ["embedded/vgg", "embedded/resnet", "embedded/vit", "resnet50"])
def test_the_answers_stay(name):
    classifier = load_classifier(name) if name.startswith("embedded") else unlike_identity(load_classifier(name, None))
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    folded = fold_batch_norms(classifier)
    assert norms(classifier)
    assert not norms(folded)
    pixels = torch.rand(2, 3, *classifier.input_size, generator=torch.Generator().manual_seed(1))
    wanted = classifier(pixels)
    torch.testing.assert_close(folded(pixels), wanted, atol=1e-4 * wanted.abs().max().item(), rtol=0)
    assert all(value.equal(before[key]) for key, value in classifier.state_dict().items())
    assert [name for name, _ in folded.model.named_modules()] == [name for name, _ in classifier.model.named_modules()]
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_one_network_by_hand():
    conv, norm = nn.Conv2d(3, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0)
    conv.weight.data = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    norm.running_mean[:], norm.running_var[:] = 4.0, 25.0
    norm.weight.data[:], norm.bias.data[:] = 10.0, 7.0
    folded = fold_batch_norms(plain(nn.Sequential(conv, norm, nn.Flatten()), 1)).model[0]
    assert folded.weight.flatten().tolist() == [2.0, 4.0, 6.0]  # times 10 / sqrt(25)
    assert folded.bias.item() == 7.0 - 4.0 * 2.0


class OtherOrder(nn.Module):
    """Registers the batch norm after the convolution and uses it before."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.norm(x)).flatten(1)


def test_what_cannot_be_folded_comes_back():
    classifier = unlike_identity(plain(OtherOrder(), 8))
    assert fold_batch_norms(classifier) is classifier
    box = BlackBox(lambda pixels: pixels.mean((2, 3)), 8)
    assert fold_batch_norms(box) is box


@pytest.mark.parametrize(
    "norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_computed_weights_stay_and_the_others_are_folded(norm):
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Flatten()]
    norm(convs[0])
    net = nn.Sequential(*convs)
    net(torch.rand(2, 3, 8, 8)).sum().backward()  # in training, where the weight has a history
    classifier = unlike_identity(plain(net, 8))
    folded = fold_batch_norms(classifier)
    assert [type(part) for part in folded.model][1] is nn.BatchNorm2d
    assert [type(part) for part in folded.model][4] is nn.Identity
    pixels = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(folded(pixels), classifier(pixels), atol=1e-4, rtol=1e-4)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


class Uses(nn.Module):
    """Convolutions and batch norms in pairs; ``how`` says what else happens to them."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.norm, self.how = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), how
        if how == "computed":
            nn.utils.parametrizations.weight_norm(self.conv)
        if how == "another":
            self.norm.track_running_stats, self.norm.running_mean, self.norm.running_var = False, None, None

    def forward(self, x):
        y = self.conv(x)
        if self.how == "twice":
            return self.norm(self.conv(self.norm(y)))
        if self.how == "norm twice":
            return self.norm(self.norm(y))
        return self.norm(y) + y if self.how == "both" else self.norm(y).relu()


@pytest.mark.parametrize("how", ["once", "twice", "norm twice", "both", "computed", "another"])
def test_a_graphs_norm_is_folded_where_nothing_else_sees_the_convolution(how):
    torch.manual_seed(0)
    net = Uses(how).eval()
    for norm in (part for part in net.modules() if isinstance(part, nn.BatchNorm2d) and part.track_running_stats):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    pixels, graph = rand(2, 3, 8, 8), fx.symbolic_trace(net)
    wanted, before = net(pixels), dict(net.named_modules())
    replaced = fold_graph(graph)
    assert set(replaced) == ({"conv", "norm"} if how == "once" else set())
    torch.testing.assert_close(graph(pixels), wanted, atol=1e-6, rtol=1e-5)
    assert dict(net.named_modules()) == before  # the network itself is another's
    assert net(pixels).equal(wanted)


@pytest.mark.parametrize("layers", [["layer1", "layer4"], ["conv1", "layer2"], ["bn1", "layer2.0.conv1"]])
def test_owned_features_are_folded_and_those_of_others_are_not(layers):
    torch.manual_seed(0)
    net = resnet18().eval()
    for norm in (part for part in net.modules() if isinstance(part, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    pixels, kept = rand(2, 3, 64, 64), {key: value.clone() for key, value in net.state_dict().items()}
    features = FeatureExtractor(net, layers, (0.5,) * 3, (0.25,) * 3, 64)
    wanted = features(pixels)
    assert norms(features)
    learnable = features.own().learnable()
    # a convolution whose own answer is wanted keeps its batch norm
    assert len(norms(features)) == sum("conv" in layer and layer != "layer2.0.conv1" for layer in layers)
    for old, new, free in zip(wanted, features(pixels), learnable(pixels), strict=True):
        torch.testing.assert_close(new, old, atol=1e-5 * old.abs().max().item(), rtol=0)
        torch.testing.assert_close(free, old, atol=1e-6 * old.abs().max().item(), rtol=0)
    # a copy that learns has all of them, and the network that was wrapped is as it was
    assert norms(learnable)
    assert all(parameter.requires_grad for parameter in learnable.parameters())
    assert not any(part.training for part in learnable.modules())
    assert all(value.equal(kept[key]) for key, value in net.state_dict().items())
