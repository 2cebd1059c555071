"""Methods on a transformer's attention: two blocks worked out by hand, the libraries' networks, and what is refused."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
import transformers
from helpers import plain, rand
from torch import nn

from ptame_lib import BlackBox, Classifier, load_classifier
from ptame_lib.classifiers.attention import Explicit, attended, attends
from ptame_lib.classifiers.huggingface import Logits
from ptame_lib.methods import attention_rollout, gradient_attention, legrad, lrp, suited
from ptame_lib.methods.attention_lrp import GradientRules

METHODS = {"attention rollout": attention_rollout, "gradient x attention": gradient_attention, "LeGrad": legrad}

# by hand


class TwoBlocks(nn.Module):
    """A class token of 0 and four patches of one number each; attention that no image changes; one head.

    In both blocks the patches attend to themselves alone. The class token's row is FIRST and SECOND. Each block adds
    what it attends to. The class token is the logit of class 0, its negative that of class 1.
    """

    FIRST, SECOND = (0.2, 0.4, 0.2, 0.1, 0.1), (0.6, 0.1, 0.1, 0.1, 0.1)

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(FixedAttention(self.FIRST), FixedAttention(self.SECOND))

    def forward(self, x):
        patches = F.avg_pool2d(x[:, :1], 4).flatten(1)
        tokens = self.blocks(torch.cat([torch.zeros_like(patches[:, :1]), patches], 1)[..., None])
        return torch.cat([tokens[:, 0], -tokens[:, 0]], 1)


class FixedAttention(nn.Module):
    def __init__(self, row):
        super().__init__()
        rows = torch.eye(5)
        rows[0] = torch.tensor(row)
        self.register_buffer("scores", rows.log())

    def forward(self, tokens):
        attention = (self.scores + 0 * tokens.sum((1, 2), keepdim=True)[:, None]).softmax(-1)
        return tokens + (attention @ tokens[:, None])[:, 0]


# The patches are 1, 0.5, 0, -1. After the first block the class token is 0.4 - 0.1 + 0.2 * 0.5 = 0.4, the patches are
# doubled. Rollout: half of each row is the identity, so the class token's second row is (.8, .05, .05, .05, .05), its
# first (.6, .2, .1, .05, .05), and its flow from the patches 0.8 * first + 0.05 = (.21, .13, .09, .09).
# Gradient x attention, class 0: A2 * dA2 is (.24, .2, .1, 0, <0) in the class token's row, with dA2 the tokens; and
# A1 * dA1 is 1.6 * (0, .4, .1, 0, <0) there, and .1 * (1, .5, 0, <0) on the patches' diagonal. Hence
# 1.24 * (.64, .16, 0, 0) + (.2 * 1.1, .1 * 1.05, 0, 0). Class 1: only the last patch is positive.
# LeGrad, class 0: every row's gradient is a fifth of the tokens, (1, .5, 0, <0) and (2, 1, 0, <0). Class 1: the last.
BY_HAND = {
    "attention rollout": [(1, 1 / 3, 0, 0), (1, 1 / 3, 0, 0)],
    "gradient x attention": [(1, (1.24 * 0.16 + 0.105) / (1.24 * 0.64 + 0.22), 0, 0), (0, 0, 0, 1)],
    "LeGrad": [(1, 0.5, 0, 0), (0, 0, 0, 1)],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_two_blocks_by_hand(name):
    classifier = Classifier(TwoBlocks(), [0.5] * 3, [0.5] * 3, 8)
    pixels = torch.tensor([[1.0, 0.75], [0.5, 0.0]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    maps = METHODS[name](classifier)(pixels.expand(2, 3, 8, 8), torch.tensor([0, 1]))
    torch.testing.assert_close(maps.flatten(1), torch.tensor(BY_HAND[name]), atol=1e-5, rtol=0)


def test_the_relevance_of_two_blocks_by_hand():
    """The logit is A2 A1 x of the class token, and of each product the tokens have half: A counts half.

    From the last block, the class token's share is 1 + .6 / 2 = 1.3, a patch's .05. From the first, a patch has
    1.3 * FIRST / 2 of the class token and 1.5 times its own: (.335, .205, .14, .14), times (1, .5, 0, -1).
    """
    classifier = Classifier(TwoBlocks(), [0.5] * 3, [0.5] * 3, 8)
    pixels = torch.tensor([[1.0, 0.75], [0.5, 0.0]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    maps = lrp(classifier)(pixels.expand(2, 3, 8, 8), torch.tensor([0, 1]))
    expected = torch.tensor([[[1, 0.1025 / 0.335], [0, 0]], [[0, 0], [0, 1]]])
    torch.testing.assert_close(maps, F.interpolate(expected[:, None], scale_factor=4)[:, 0], atol=1e-5, rtol=0)


# the libraries' networks

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "num_labels": 5}
SMALL |= {"image_size": 32, "patch_size": 8}


def from_timm(name="vit_tiny_patch16_224", **options):
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
    return timm.create_model(name, **small | options)


def from_hugging_face(kind, whole="ForImageClassification", **options):
    config = getattr(transformers, f"{kind}Config")(**SMALL | options)
    return Logits(getattr(transformers, kind + whole)(config))


def from_torchvision():
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)


# name: (network, tokens before the patches, tokens that the head reads)
FIRST, PATCHES = [0], [*range(1, 17)]
NETS = {
    "torchvision": (from_torchvision, 1, FIRST),
    "timm": (from_timm, 1, FIRST),
    "timm, mean": (lambda: from_timm(global_pool="avg"), 1, PATCHES),
    "timm, registers": (lambda: from_timm(reg_tokens=4), 5, FIRST),
    "timm, registers, mean": (lambda: from_timm(reg_tokens=4, global_pool="avg"), 5, [*range(5, 21)]),
    "timm, no class token": (lambda: from_timm(class_token=False, global_pool="avg"), 0, [*range(16)]),
    "timm, distilled": (lambda: from_timm("deit_tiny_distilled_patch16_224"), 2, [0, 1]),
    "timm, rotary": (lambda: from_timm("eva02_tiny_patch14_224"), 1, PATCHES),
    "timm, BEiT": (lambda: from_timm("beit_base_patch16_224"), 1, PATCHES),
    "ViT": (lambda: from_hugging_face("ViT"), 1, FIRST),
    "ViT, not square": (lambda: from_hugging_face("ViT", image_size=(32, 48)), 1, FIRST),
    "BEiT": (lambda: from_hugging_face("Beit"), 1, PATCHES),
    "DeiT": (lambda: from_hugging_face("DeiT"), 2, FIRST),
    "DeiT, distilled": (lambda: from_hugging_face("DeiT", "ForImageClassificationWithTeacher"), 2, [0, 1]),
    "DINOv2": (lambda: from_hugging_face("Dinov2"), 1, [0, *PATCHES]),
    "DINOv2, registers": (lambda: from_hugging_face("Dinov2WithRegisters"), 5, [0, *range(5, 21)]),
    "MSN": (lambda: from_hugging_face("ViTMSN"), 1, FIRST),
}


def made(name):
    """A network of `NETS` whose every parameter is drawn, so that no part of it answers 0."""
    torch.manual_seed(0)
    net = NETS[name][0]()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    size = (32, 48) if "not square" in name else (32, 32)
    return plain(net, size), rand(2, 3, *size), torch.tensor([1, 4])


@pytest.mark.parametrize("name", NETS)
def test_the_libraries_transformers(name):
    classifier, pixels, targets = made(name)
    _, prefix, read = NETS[name]
    expected = classifier(pixels)
    with attended(classifier, pixels) as seen:
        torch.testing.assert_close(seen.scores, expected, atol=1e-4, rtol=1e-4)
        assert len(seen.attention) == 2
        assert seen.blocks.prefix == prefix
        assert seen.blocks.read.nonzero().flatten().tolist() == read
        for attention in seen.attention:
            assert attention.shape[:2] == (2, 2)
            torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))
    for make in METHODS.values():
        maps = make(classifier)(pixels, targets)
        assert maps.shape == (2, 4, pixels.shape[-1] // 8)
        assert maps.amax((1, 2)).eq(1).all()
        torch.testing.assert_close(make(classifier)(pixels[1:], targets[1:]), maps[1:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NETS)
def test_relevance_in_the_libraries_transformers(name):
    """Of each pixel, by each image alone; parameters that are learnt change nothing."""
    classifier, pixels, targets = made(name)
    assert suited(classifier, ["LRP"]) == ["LRP"]
    maps = lrp(classifier)(pixels, targets)
    assert maps.shape == (2, *pixels.shape[-2:])
    assert maps.amax((1, 2)).eq(1).all()
    assert not maps[0].equal(maps[1])
    torch.testing.assert_close(lrp(classifier)(pixels[1:], targets[1:]), maps[1:], atol=1e-4, rtol=0)
    assert not lrp(classifier)(pixels, 4 - targets).equal(maps)
    classifier.requires_grad_()
    torch.testing.assert_close(lrp(classifier)(pixels, targets), maps, atol=1e-5, rtol=0)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in classifier.parameters())


@pytest.mark.parametrize("name", NETS)
def test_the_rules_change_no_answer(name):
    classifier, pixels, _ = made(name)
    expected = classifier(pixels)
    with GradientRules(classifier.model), Explicit():
        torch.testing.assert_close(classifier(pixels.clone().requires_grad_()), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ViT", "BEiT", "DeiT", "DINOv2, registers"])
def test_the_attention_is_what_hugging_face_says(name):
    classifier, pixels, _ = made(name)
    with attended(classifier, pixels) as seen:
        classifier.model.net.set_attn_implementation("eager")
        normalised = (pixels - classifier.mean) / classifier.std
        answer = classifier.model.net.eval()(pixel_values=normalised, output_attentions=True)
        for found, expected in zip(seen.attention, answer.attentions, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["torchvision", "timm", "timm, rotary", "timm, BEiT"])
def test_the_attention_is_what_the_blocks_use(name):
    """timm's unfused way goes through a dropout; torchvision's modules can be asked for what they attend to."""
    classifier, pixels, _ = made(name)
    kept, hooks, fused = [], [], [module for module in classifier.modules() if hasattr(module, "fused_attn")]

    def ask(module, inputs, _):
        kept.append(module.forward(*inputs, average_attn_weights=False)[1])

    for module in classifier.modules():
        if isinstance(module, nn.MultiheadAttention):
            hooks.append(module.register_forward_hook(ask))
    for module in fused:
        module.fused_attn = False
        hooks.append(module.attn_drop.register_forward_hook(lambda _, __, output: kept.append(output)))
    classifier(pixels)
    for hook in hooks:
        hook.remove()
    for module in fused:
        module.fused_attn = True
    expected = kept[-2:]
    with attended(classifier, pixels) as seen:
        for found, wanted in zip(seen.attention, expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_a_blocks_own_score_is_the_heads_of_its_mean_token():
    classifier, pixels, _ = made("torchvision")
    net, tokens = classifier.model, []
    for block in net.encoder.layers:
        block.register_forward_hook(lambda _, __, output: tokens.append(output))
    with torch.no_grad():
        classifier(pixels)
    expected = torch.stack([net.heads(net.encoder.ln(each.mean(1))) for each in tokens[-2:]])
    with attended(classifier, pixels, each_block=True) as seen:
        torch.testing.assert_close(seen.scores, expected, atol=1e-5, rtol=1e-5)


# what is refused

REFUSED = {
    "convolutions": lambda: load_classifier("embedded/vgg"),
    "windows": lambda: plain(torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=5), 32),
    "channels": lambda: plain(from_timm("xcit_nano_12_p16_224"), 32),
    "class attention": lambda: plain(from_timm("cait_xxs24_224"), 32),
    "pooling by attention": lambda: plain(from_timm(global_pool="map", class_token=False), 32),
    "two in a block": lambda: plain(from_timm("convit_tiny"), 32),
    "a black box": lambda: BlackBox(lambda pixels: pixels.mean((2, 3)), 32),
    "scripted": lambda: plain(torch.jit.trace(from_timm().eval(), rand(1, 3, 32, 32)), 32),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_others_are_refused_with_what_to_do(kind):
    classifier = REFUSED[kind]()
    pixels = rand(1, 3, *classifier.input_size)
    assert not attends(classifier)
    assert suited(classifier, ["LeGrad", "RISE", "P-TAME"]) == ["RISE", "P-TAME"]
    for make in METHODS.values():
        with pytest.raises(ValueError, match=r"is no plain vision transformer \(.+\): take a method for any network"):
            make(classifier)(pixels, torch.tensor([0]))
    if kind != "convolutions":
        assert suited(classifier, ["LRP"]) == []
        with pytest.raises(ValueError, match=r"is no plain vision transformer|LRP's rules don't fit"):
            lrp(classifier)(pixels, torch.tensor([0]))


def test_other_calls_of_attention_stay_as_they_are():
    """Causal, with masks, in groups, of other queries and not of batches: the same answers step by step or fused."""
    torch.manual_seed(0)
    q, k, v = rand(2, 4, 5, 6), rand(2, 4, 5, 6, seed=1), rand(2, 4, 5, 6, seed=2)
    mask, module = rand(5, 5) > 0.3, nn.MultiheadAttention(12, 3).eval()
    mask.fill_diagonal_(True)
    calls = [
        lambda: F.scaled_dot_product_attention(q, k, v),
        lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3),
        lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=rand(5, 5, seed=3)),
        lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda: F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], enable_gqa=True),
        lambda: module(x := rand(5, 2, 12), x, x)[0],
        lambda: module(rand(5, 2, 12), rand(7, 2, 12), rand(7, 2, 12))[1],
        lambda: module(x := rand(5, 2, 12), x, x, attn_mask=~mask, average_attn_weights=False)[1],
        lambda: module(x := rand(5, 12), x, x)[0],
    ]
    for number, call in enumerate(calls):
        expected = call()
        with Explicit():
            torch.testing.assert_close(call(), expected, atol=1e-5, rtol=1e-5, msg=f"call {number} differs")
    assert not torch.overrides.has_torch_function((q,))
