"""Folding changes no answer, or nothing at all."""

import pytest
import torch
from helpers import plain
from torch import nn

from ptame_lib import BlackBox, fold_batch_norms, load_classifier


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
