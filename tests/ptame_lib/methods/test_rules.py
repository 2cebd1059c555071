"""LRP, DeepLIFT, SmoothGrad and GradientSHAP: zennit's own way for known networks, properties, and what is refused."""

import gc

import pytest
import timm
import torch
import torchvision
from helpers import Quadrants, plain, quadrant_shares, rand, small_transformer
from torch import nn
from zennit.composites import EpsilonPlusFlat
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from ptame_lib import BlackBox, load_classifier, normalise
from ptame_lib.methods import deep_lift, gradient_shap, lrp, smooth_grad
from ptame_lib.methods.deep_lift import has_own_activations
from ptame_lib.methods.lrp import propagated, propagates


def small_resnet():
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=5)


def bottlenecks():
    return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=5)


def settled(net):
    """With batch norms that are not the identity."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


ZENNITS = {
    "VGG": (lambda: torchvision.models.vgg11_bn(num_classes=5, init_weights=False), VGGCanonizer),
    "ResNet": (small_resnet, ResNetCanonizer),
    "bottlenecks": (bottlenecks, ResNetCanonizer),
}


@pytest.mark.parametrize("name", ZENNITS)
def test_lrp_is_zennits_with_its_canonizers(name):
    """zennit puts a module in the place of torchvision's sums; here the same rule is on the sums themselves."""
    make, canonizer = ZENNITS[name]
    torch.manual_seed(0)
    net, pixels, targets = settled(make()), rand(2, 3, 64, 64), torch.tensor([1, 4])
    classifier = plain(net, 64)
    with propagated(classifier, pixels, classifier(pixels[:1]).detach()) as (logits, start):
        logit = logits.gather(1, targets[:, None])
        (found,) = torch.autograd.grad(logit, start, logit.detach())
    x = ((pixels - classifier.mean) / classifier.std).requires_grad_()
    with EpsilonPlusFlat(canonizers=[canonizer()]).context(net) as ruled:
        logit = ruled(x).gather(1, targets[:, None])
        (expected,) = torch.autograd.grad(logit, x, logit.detach())
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_lrp_asks_the_same_network_whatever_the_eps_of_its_batch_norms():
    net = settled(small_resnet())
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.5
    classifier, pixels = plain(net, 64), rand(2, 3, 64, 64)
    expected = classifier(pixels)
    with propagated(classifier, pixels, expected[:1]) as (logits, _):
        torch.testing.assert_close(logits, expected)
    assert classifier(pixels).equal(expected)


def test_lrp_lets_go_of_the_layers():
    """The graph and zennit's rules hold each other, so that no garbage collector finds them."""
    explain, pixels = lrp(plain(settled(small_resnet()), 64)), rand(1, 3, 64, 64)

    def tensors():
        explain(pixels, torch.tensor([1]))
        gc.collect()
        return sum(type(kept) is torch.Tensor for kept in gc.get_objects())

    before = tensors()
    assert tensors() == before


def test_relevance_is_kept_and_divided_as_a_sum_is():
    """Two branches of 3 and 1 of what a pixel gives: three quarters of its logit's relevance come by the first."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.spread = nn.Conv2d(3, 2, 1, bias=False)
            nn.init.ones_(self.spread.weight)

        def forward(self, x):
            x = self.spread(x)
            self.kept = [3 * x[:, :1], x[:, 1:]]
            for branch in self.kept:
                if branch.requires_grad:
                    branch.retain_grad()
            return (self.kept[0] + self.kept[1]).mean((2, 3)).repeat(1, 2)

    net = Branches()
    classifier, pixels = plain(net, 4), torch.ones(1, 3, 4, 4)
    classifier.mean.zero_(), classifier.std.fill_(1)
    with propagated(classifier, pixels, classifier(pixels[:1]).detach()) as (logits, start):
        logits[0, 1].backward(logits[0, 1].detach())
    shares = torch.stack([branch.grad.sum() for branch in net.kept]) / logits[0, 1].detach()
    torch.testing.assert_close(shares, torch.tensor([0.75, 0.25]), atol=1e-4, rtol=0)
    assert start.grad.sum().item() == pytest.approx(logits[0, 1].item(), rel=1e-3)


class Turned(nn.Module):
    """Its batch norm is listed after its convolution, and comes before it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
        nn.init.normal_(self.norm.weight)

    def forward(self, x):
        return self.conv(self.norm(x)).mean((2, 3))


NO_RULE = {
    "products": (
        lambda: plain(timm.create_model("efficientnet_b0", num_classes=4), 32),
        "it multiplies or divides by its layers",
    ),
    "layer norms": (lambda: plain(timm.create_model("convnext_atto", num_classes=4), 32), "it calls layer_norm"),
    "batch norms elsewhere": (
        lambda: plain(settled(torchvision.models.DenseNet(8, (2, 2), 16, num_classes=4)), 32),
        "it has batch norms that don't follow a convolution",
    ),
    "another order": (lambda: plain(Turned(), 32), "it runs in another order than its modules are listed in"),
    "a black box": (lambda: BlackBox(lambda pixels: pixels.mean((2, 3)), 32), "it has no gradient"),
}


@pytest.mark.parametrize("kind", NO_RULE)
def test_lrp_refuses_what_has_no_rule(kind):
    make, reason = NO_RULE[kind]
    torch.manual_seed(0)
    classifier = make()
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    assert not propagates(classifier)
    with pytest.raises(ValueError, match=f"LRP's rules don't fit .*{reason}.*: take integrated gradients"):
        lrp(classifier)(rand(1, 3, 32, 32), torch.tensor([1]))
    assert [*classifier.state_dict()] == [*before]
    assert all(value.equal(before[key]) for key, value in classifier.state_dict().items())


def small_net(*activations):
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 6, 3, 2), activations[0], nn.Conv2d(6, 8, 3, 2), activations[1]]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


def test_deep_lifts_maps_add_up_to_the_difference_from_black():
    net, pixels, targets = small_net(nn.ReLU(), nn.ReLU(inplace=True)), rand(3, 3, 32, 32), torch.tensor([0, 2, 3])
    classifier = plain(net, 32)
    from captum.attr import DeepLift

    found = DeepLift(classifier).attribute(pixels, torch.zeros_like(pixels), targets).detach()
    rise = (classifier(pixels) - classifier(torch.zeros_like(pixels))).gather(1, targets[:, None])[:, 0].detach()
    torch.testing.assert_close(found.sum((1, 2, 3)), rise, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(deep_lift(classifier)(pixels, targets), normalise(found.sum(1).clamp_min(0)))


shared = nn.ReLU()
NOT_OWN = {
    "used twice": (lambda: small_net(shared, shared), "it uses one ReLU module more than once"),
    "functional": (lambda: TinyFunctional(), "of 1 operations that are not linear .Relu., 0 are modules it knows"),
    "unknown": (lambda: small_net(nn.ReLU(), nn.GELU()), "of 2 operations that are not linear .Gelu, Relu., 1 are"),
    "attention": (small_transformer, r"of \d+ operations that are not linear"),
}


class TinyFunctional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)

    def forward(self, x):
        return self.conv(x).relu().mean((2, 3))


@pytest.mark.parametrize("kind", NOT_OWN)
def test_deep_lift_refuses_what_captum_would_pass_over(kind):
    make, reason = NOT_OWN[kind]
    classifier = plain(make(), 32)
    assert not has_own_activations(classifier)
    with pytest.raises(ValueError, match=f"DeepLIFT can't explain .*{reason}.*Take integrated gradients"):
        deep_lift(classifier)(rand(1, 3, 32, 32), torch.tensor([0]))


def test_deep_lift_refuses_black_boxes():
    with pytest.raises(ValueError, match="it has no gradient"):
        deep_lift(BlackBox(lambda pixels: pixels.mean((2, 3)), 32))(rand(1, 3, 32, 32), torch.tensor([0]))


class Linear(nn.Sequential):
    """Every noisy image has the same gradient, and every point of a path, too."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3 * 8 * 8, 4, bias=False))


def test_smooth_grad_of_a_linear_classifier_is_its_weight():
    net, pixels, targets = Linear(), rand(2, 3, 8, 8), torch.tensor([1, 3])
    classifier = plain(net, 8)
    weight = (net[1].weight[targets].view(2, 3, 8, 8) / classifier.std).detach()
    found = smooth_grad(classifier, samples=4)(pixels, targets)
    torch.testing.assert_close(found, normalise(weight.sum(1).abs()), atol=1e-5, rtol=0)


def test_gradient_shap_of_a_linear_classifier_is_weight_times_pixel():
    net, pixels, targets = Linear(), rand(2, 3, 8, 8), torch.tensor([1, 3])
    classifier = plain(net, 8)
    weight = (net[1].weight[targets].view(2, 3, 8, 8) / classifier.std).detach()
    found = gradient_shap(classifier, samples=4, noise=0.0)(pixels, targets)
    torch.testing.assert_close(found, normalise((weight * pixels).sum(1).clamp_min(0)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", [smooth_grad, gradient_shap])
def test_noise_is_seeded_and_of_each_image_by_itself(method):
    classifier, pixels, targets = load_classifier("embedded/vgg"), rand(2, 3, 64, 64), torch.tensor([1, 3])
    explain = method(classifier, samples=3)
    whole = explain(pixels, targets)
    assert whole.equal(explain(pixels, targets))
    torch.testing.assert_close(explain(pixels[1:], targets[1:])[0], whole[1], atol=1e-4, rtol=0)
    assert not method(classifier, samples=3, seed=1)(pixels, targets).equal(whole)


@pytest.mark.parametrize("k", range(4))
def test_noisy_gradients_point_into_the_right_quadrant(k, noise):
    for method in (smooth_grad, gradient_shap):
        shares = quadrant_shares(method(plain(Quadrants()), samples=10)(noise, torch.full((3,), k)))
        assert shares.argmax(1).eq(k).all()
