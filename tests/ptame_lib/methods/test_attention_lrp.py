"""LRP for vision transformers: relevance passed on layer by layer, zennit's gamma rule, and what is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import rand
from torch import nn
from zennit.rules import Gamma

from ptame_lib import Classifier
from ptame_lib.classifiers.attention import listen
from ptame_lib.methods import lrp
from ptame_lib.methods.attention_lrp import GAMMAS, GradientRules, Weighted, attention_relevance, identity
from ptame_lib.methods.lrp import propagates

EPSILON = {"conv2d": 0.0, "linear": 0.0}


class Block(nn.Module):
    """A block of a transformer without biases, with one head."""

    def __init__(self, dim=6):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, bias=False), nn.LayerNorm(dim, bias=False)
        self.attn = nn.ModuleDict({name: nn.Linear(dim, dim, bias=False) for name in ("q", "k", "v", "out")})
        self.up, self.down = nn.Linear(dim, 2 * dim, bias=False), nn.Linear(2 * dim, dim, bias=False)
        self.between = F.gelu

    def forward(self, x):
        y = self.norm1(x)
        q, k, v = (self.attn[name](y)[:, None] for name in "qkv")
        x = x + self.attn["out"](F.scaled_dot_product_attention(q, k, v)[:, 0])
        return x + self.down(self.between(self.up(self.norm2(x))))


class Toy(nn.Module):
    """Two blocks on 2 x 2 patches of 4 x 4 pixels, whose mean is classified; nothing has a bias."""

    def __init__(self, dim=6):
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4, bias=False)
        self.blocks = nn.Sequential(Block(dim), Block(dim))
        self.head = nn.Linear(dim, 3, bias=False)

    def forward(self, x):
        return self.head(self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def toy():
    """In float64, with weights that are not small, and pixels of its size."""
    torch.manual_seed(0)
    net = Toy().double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    return Classifier(net, [0.5] * 3, [0.5] * 3, 8), rand(2, 3, 8, 8).double(), torch.tensor([0, 2])


def relevance_of(classifier, pixels, targets, gammas=EPSILON):
    with torch.enable_grad():
        return attention_relevance(classifier, pixels, targets, listen(classifier, pixels), gammas)


# relevance, layer by layer: each function takes that of an output and gives that of its inputs


def of_sum(a, b, relevance):
    return a / (a + b) * relevance, b / (a + b) * relevance


def of_linear(x, weight, relevance):
    return x * (relevance / (x @ weight.T) @ weight)


def of_norm(x, weight, relevance):
    """The mean is taken off, which is linear; then each value is scaled."""
    count = x.shape[-1]
    matrix = weight[:, None] * (torch.eye(count).double() - 1 / count)  # up to the deviation, which cancels
    return of_linear(x, matrix, relevance)


def of_product(a, b, relevance):
    """Of a @ b (N,M) x (M,P): each pair's part is halved."""
    parts = a[..., :, :, None] * b[..., None, :, :] * (relevance / (a @ b))[..., :, None, :] / 2
    return parts.sum(-1), parts.sum(-3)


def of_block(block, x, relevance):
    """The relevance of a block's tokens, and what the softmax takes up."""
    # forwards
    q, k, v = (block.attn[name](block.norm1(x)) for name in "qkv")
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    attention = scores.softmax(-1)
    mixed = attention @ v
    middle = x + block.attn["out"](mixed)
    normed = block.norm2(middle)
    hidden = block.up(normed)
    # backwards through the MLP; its activation passes relevance on as it is
    kept, branch = of_sum(middle, block.down(F.gelu(hidden)), relevance)
    branch = of_linear(F.gelu(hidden), block.down.weight, branch)
    branch = of_linear(normed, block.up.weight, branch)
    relevance = kept + of_norm(middle, block.norm2.weight, branch)
    # and through attention: the Taylor rule of the softmax, and products of which each factor has half
    kept, branch = of_sum(x, block.attn["out"](mixed), relevance)
    branch = of_linear(mixed, block.attn["out"].weight, branch)
    of_attention, of_values = of_product(attention, v, branch)
    of_scores = scores * (of_attention - attention * of_attention.sum(-1, keepdim=True))
    of_queries, of_keys = of_product(q, k.transpose(1, 2), of_scores)
    parts = zip("qkv", (of_queries, of_keys.transpose(1, 2), of_values), strict=True)
    branch = sum(of_linear(block.norm1(x), block.attn[name].weight, part) for name, part in parts)
    taken = (of_attention.sum((1, 2)) - of_scores.sum((1, 2))).detach()
    return (kept + of_norm(x, block.norm1.weight, branch)).detach(), taken


def test_two_blocks_layer_by_layer():
    """Nothing is lost: the pixels' relevance and what the softmaxes take up are the logit, from layer to layer."""
    classifier, pixels, targets = toy()
    net, image = classifier.model, (pixels - classifier.mean) / classifier.std
    tokens = [net.patches(image).flatten(2).transpose(1, 2)]
    for block in net.blocks:
        tokens.append(block(tokens[-1]))
    # the head's
    logits = net.head(tokens[-1].mean(1)).gather(1, targets[:, None])[:, 0].detach()
    wanted = net.head.weight[targets][:, None]
    relevance = (tokens[-1] * wanted / tokens[-1].shape[1]).detach()
    torch.testing.assert_close(relevance.sum((1, 2)), logits)
    # the blocks'
    for block, x in zip(reversed(net.blocks), reversed(tokens[:-1]), strict=True):
        before, taken = of_block(block, x, relevance)
        torch.testing.assert_close(before.sum((1, 2)) + taken, relevance.sum((1, 2)))
        assert taken.abs().min() > 1e-6
        relevance = before
    # the patches'
    patches = F.unfold(image, 4, stride=4).transpose(1, 2)
    pixelwise = of_linear(patches, net.patches.weight.flatten(1), relevance).transpose(1, 2)
    expected = F.fold(pixelwise, (8, 8), 4, stride=4).detach()
    torch.testing.assert_close(relevance_of(classifier, pixels, targets), expected, atol=1e-9, rtol=1e-6)


def test_all_relevance_reaches_the_pixels_if_the_softmax_takes_none():
    """With the queries 0 the attention is a mean that no image changes: half of it goes with the values."""
    classifier, pixels, targets = toy()
    for block in classifier.model.blocks:
        nn.init.zeros_(block.attn["q"].weight)
        nn.init.zeros_(block.attn["out"].weight)
    logits = classifier(pixels).gather(1, targets[:, None])[:, 0]
    for gammas in (EPSILON, GAMMAS):
        found = relevance_of(classifier, pixels, targets, gammas).sum((1, 2, 3))
        torch.testing.assert_close(found, logits.detach(), atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_other_precisions_have_almost_the_same_relevance(kind):
    classifier, pixels, targets = toy()
    expected = relevance_of(classifier, pixels, targets, GAMMAS)
    found = relevance_of(classifier.to(kind), pixels.to(kind), targets, GAMMAS).double()
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.99


# the gamma rule


@pytest.mark.parametrize("gamma", [0.05, 0.25, 10.0])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4), (3, 5, 6)),
        (nn.Conv2d(4, 6, 3, 2, 1, groups=2), (2, 4, 7, 7)),
        (nn.Linear(6, 4, False), (2, 6)),
    ],
)
def test_the_gamma_rule_is_zennits(layer, shape, gamma):
    torch.manual_seed(0)
    layer = copy.deepcopy(layer).double()
    x, relevance = torch.randn(shape).double().requires_grad_(), None
    with GradientRules(layer, {"linear": gamma, "conv2d": gamma}):
        output = layer(x)
    torch.testing.assert_close(output, layer(x))
    relevance = torch.randn_like(output)
    (gradient,) = torch.autograd.grad(output, x, relevance / output.detach())
    handles = Gamma(gamma, stabilizer=1e-12).register(layer)
    (expected,) = torch.autograd.grad(layer(x), x, relevance)
    handles.remove()
    torch.testing.assert_close(x.detach() * gradient, expected, atol=1e-6, rtol=1e-6)


def test_a_batch_norm_counts_as_part_of_its_convolution():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3, bias=False).double(), nn.BatchNorm2d(4).double().eval()
    for values in (norm.weight.data, norm.bias.data, norm.running_mean):
        values.normal_()
    norm.running_var.uniform_(0.5, 2)
    net, x = nn.Sequential(conv, norm), torch.randn(2, 3, 6, 6).double().requires_grad_()
    merged = torch.nn.utils.fuse_conv_bn_eval(conv.eval(), norm)
    with GradientRules(net):
        output = net(x)
    torch.testing.assert_close(output, net(x))
    expected = Weighted(F.conv2d, GAMMAS["conv2d"], x, merged.weight.detach(), merged.bias.detach()).output
    weights = torch.randn_like(output)
    found, wanted = (torch.autograd.grad(each, x, weights)[0] for each in (output, expected))
    torch.testing.assert_close(found, wanted)
    assert not wanted.equal(torch.autograd.grad(net(x), x, weights)[0])


# single operations


@pytest.mark.parametrize("function", [F.relu, F.gelu, F.silu, torch.tanh, torch.sigmoid, F.leaky_relu, F.rms_norm])
def test_what_a_value_is_multiplied_by_is_its_gradient(function):
    x = torch.tensor([[-2.0, -0.5, 0.0, 1e-9, 3.0]], requires_grad=True)
    more = ((5,),) if function is F.rms_norm else ()
    answer = identity(function, x, *more)
    torch.testing.assert_close(answer, function(x, *more))
    (gradient,) = torch.autograd.grad(answer.sum(), x)
    torch.testing.assert_close((x * gradient)[:, [0, 1, 4]], answer[:, [0, 1, 4]])
    assert gradient[0, 2:4].eq(0).all()


def test_parameters_are_constants_and_layers_share_a_product():
    """x y: each has half of it; x p: x has all of it, even if p is learnt."""
    net = nn.Module()
    net.scale = nn.Parameter(torch.tensor([2.0, -3.0]))
    x, y = (torch.tensor(values, requires_grad=True) for values in ([1.0, 5.0], [4.0, -1.0]))
    with GradientRules(net):
        found = torch.autograd.grad((x * y).sum(), (x, y))
        torch.testing.assert_close(found, (y.detach() / 2, x.detach() / 2))
        assert torch.autograd.grad((x * net.scale.expand(2)).sum(), x)[0].equal(net.scale.detach())
        assert torch.autograd.grad((x * x).sum(), x)[0].equal(x.detach())
        # a norm by hand
        root = x / x.square().mean().sqrt()
        torch.testing.assert_close(torch.autograd.grad(root.sum(), x)[0], (root.detach() / x.detach()))
    assert net.scale.grad is None


# what is refused


def changed_in_place(x):
    F.relu(x, inplace=True)
    return x


NO_RULE = {
    "sine": (torch.sin, "it calls sin on its layers"),
    "quotient": (lambda x: x / x.exp().sum(-1, keepdim=True), "it calls exp on its layers"),
    "denominator": (lambda x: x / x.mean(), "it calls .*div.* on its layers"),
    "batch norm": (lambda x: F.batch_norm(x, None, None, training=True), "a batch norm has no statistics of its own"),
    "in place": (changed_in_place, "it changes values in place that it needs again"),
}


@pytest.mark.parametrize("kind", NO_RULE)
def test_operations_without_a_rule_are_refused(kind):
    between, reason = NO_RULE[kind]
    classifier, pixels, targets = toy()
    assert propagates(classifier)
    classifier.model.blocks[0].between = between
    assert not propagates(classifier)
    with pytest.raises(ValueError, match=f"LRP's rules don't fit Toy .{reason}.: take integrated gradients"):
        lrp(classifier)(pixels, targets)
    assert not torch.overrides.has_torch_function((pixels,))
    assert not classifier.model._forward_pre_hooks
