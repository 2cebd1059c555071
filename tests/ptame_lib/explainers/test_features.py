"""The frozen auxiliary: which features, in which order, never moving."""

import pytest
import timm
import torch
from helpers import rand, small_cnn
from safetensors.torch import save_file
from torch import nn
from torchvision.models import mobilenet_v3_small

from ptame_lib import PTAME, FeatureExtractor, load_auxiliary
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.explainers.features import Hooked


def extractor(layers, net=None, size=64):
    return FeatureExtractor(net or small_cnn(), layers, IMAGENET_MEAN, IMAGENET_STD, size)


def shapes(auxiliary, *size):
    with torch.no_grad():
        return [tuple(level.shape[1:]) for level in auxiliary(torch.rand(1, 3, *size))]


def test_features_are_those_of_the_stages(pixels):
    net = small_cnn().eval()
    auxiliary = extractor(["l1", "l3"], net)
    x = (pixels - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    first, third = auxiliary(pixels)
    torch.testing.assert_close(first, net.l1(x))
    torch.testing.assert_close(third, net.l3(net.l2(net.l1(x))))
    assert auxiliary.channels == (4, 16)


@pytest.mark.parametrize("named", [["l3", "l1", "l4", "l2"], ["l4", "l3", "l2", "l1"]])
def test_features_come_in_execution_order(named, pixels):
    net = small_cnn()
    auxiliary, sorted_ = extractor(named, net), extractor(["l1", "l2", "l3", "l4"], net)
    assert auxiliary.channels == (4, 8, 16, 32)
    assert auxiliary.layers == ("l1", "l2", "l3", "l4")
    for a, b in zip(auxiliary(pixels), sorted_(pixels), strict=True):
        assert a.equal(b)


def test_nothing_is_computed_past_the_last_wanted_layer(pixels):
    assert not any(key.startswith(("l3", "l4", "head")) for key, _ in extractor(["l1", "l2"]).model.named_parameters())


def test_frozen_and_in_eval_mode(auxiliary, pixels):
    nn.Sequential(auxiliary).train()
    assert not any(m.training for m in auxiliary.modules())
    assert not any(p.requires_grad for p in auxiliary.parameters())
    before = [level.clone() for level in auxiliary(pixels)]
    auxiliary(1 - pixels)
    assert all(a.equal(b) for a, b in zip(before, auxiliary(pixels), strict=True))


@pytest.mark.parametrize("size", [(37, 53), (64, 64), (16, 16), (33, 128), (97, 31)])
def test_odd_input_sizes(auxiliary, size):
    half = [tuple(-(-side // 2 ** (level + 1)) for side in size) for level in range(4)]
    assert shapes(auxiliary, *size) == [(c, *hw) for c, hw in zip((4, 8, 16, 32), half, strict=True)]
    explainer = PTAME(auxiliary, 3).eval()
    assert explainer.explain(torch.rand(2, 3, *size), torch.tensor([0, 2])).shape == (2, *half[0])


def test_a_wrong_layer_name_names_those_there_are():
    with pytest.raises(ValueError, match=r"no layer 'layer9' in Sequential: it has l1, .*l4.*head"):
        extractor(["l1", "layer9"])
    with pytest.raises(ValueError, match=r"no layer 'layer9' in ResNetLike: it has stem.*layer1"):
        load_auxiliary("embedded/auxiliary", layers=["layer9"])


def test_a_layer_that_gives_no_feature_map_is_named():
    for named in (["l1", "head"], ["head", "l1"]):
        with pytest.raises(
            ValueError, match=r"layer 'head' of Sequential gives shape \(1, 5\): a feature map is \(B,C,H,W\)"
        ):
            extractor(named)


def test_the_embedded_auxiliary():
    auxiliary = load_auxiliary("embedded/auxiliary")
    assert auxiliary.name == "embedded/auxiliary"
    assert shapes(auxiliary, 64, 64) == [(16, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4)]
    assert load_auxiliary("embedded/auxiliary", layers=["layer3", "layer2"]).channels == (32, 64)


def test_torchvision_with_weights_of_a_local_file(tmp_path, pixels):
    net = mobilenet_v3_small().eval()
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    auxiliary = load_auxiliary("mobilenet_v3_small", weights=tmp_path / "own.safetensors")
    assert auxiliary.layers == ("features.9", "features.10", "features.11", "features.12")
    x = (pixels - auxiliary.mean) / auxiliary.std
    torch.testing.assert_close(auxiliary(pixels)[-1], net.features(x), atol=1e-4, rtol=1e-4)


def test_resnet18_has_the_papers_levels():
    assert shapes(load_auxiliary("resnet18", weights=None), 224, 224) == [
        (64, 56, 56),
        (128, 28, 28),
        (256, 14, 14),
        (512, 7, 7),
    ]


def test_timm_features_only():
    auxiliary = load_auxiliary("timm/test_resnet", weights=None)
    assert auxiliary.channels == (32, 48, 192, 96)  # the last four of five levels
    assert [shape[1:] for shape in shapes(auxiliary, 160, 160)] == [(40, 40), (20, 20), (10, 10), (5, 5)]
    assert auxiliary.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert not any(m.training for m in nn.Sequential(auxiliary).train()[0].modules())
    assert load_auxiliary("timm/test_resnet", layers=[0, 2], weights=None).channels == (32, 48)
    assert load_auxiliary("timm/test_vit", weights=None).channels[-1] == 64
    explainer = PTAME(auxiliary, 3).eval()
    assert explainer.explain(torch.rand(1, 3, 101, 77), torch.tensor([1])).shape[0] == 1


def test_a_timm_model_as_an_object(pixels):
    net = timm.create_model("test_resnet", features_only=True, pretrained=False).eval()
    auxiliary = FeatureExtractor(net, None, (0.5,) * 3, (0.5,) * 3, 64)
    assert auxiliary.layers == ("act1", "layer1", "layer2", "layer3", "layer4")
    torch.testing.assert_close(auxiliary(pixels)[2], net((pixels - 0.5) / 0.5)[2])


def test_unknown_names_are_refused_with_a_remedy():
    with pytest.raises(
        ValueError,
        match=r"unknown auxiliary 'resnet19': choose embedded/auxiliary, embedded/resnet, zoo/rotations, "
        r"embedded/vgg, lite/0, .*, a torchvision model such as resnet18",
    ):
        load_auxiliary("resnet19")
    with pytest.raises(ValueError, match=r"name the layers of resnet34: only resnet18.*have published ones"):
        load_auxiliary("resnet34", weights=None)
    with pytest.raises(ValueError, match="unknown timm model 'zzz'"):
        load_auxiliary("timm/zzz", weights=None)
    with pytest.raises(FileNotFoundError, match=r"no weights file at gone\.pth"):
        load_auxiliary("resnet18", weights="gone.pth")


def test_a_timm_auxiliary_takes_a_whole_classifiers_file_and_its_own_normalisation(tmp_path):
    whole = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=7)
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    auxiliary = load_auxiliary(
        "timm/mobilenetv3_small_050", weights=tmp_path / "whole.safetensors", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    assert auxiliary.mean.flatten().tolist() == [0.5] * 3
    assert torch.equal(auxiliary.model.state_dict()["conv_stem.weight"], whole.conv_stem.weight)
    assert len(auxiliary.layers) == len(auxiliary.channels) == 4  # a saved explainer tells which levels it used


def test_timms_channels_last_maps_are_turned(pixels):
    net = timm.create_model(
        "swin_tiny_patch4_window7_224",
        features_only=True,
        pretrained=False,
        depths=(1, 1, 1, 1),
        img_size=64,
        window_size=2,
    ).eval()
    auxiliary = FeatureExtractor(net, None, (0.5,) * 3, (0.5,) * 3, 64)
    assert auxiliary.channels == (96, 192, 384, 768)
    for ours, theirs in zip(auxiliary(pixels), net((pixels - 0.5) / 0.5), strict=True):
        torch.testing.assert_close(ours, theirs.permute(0, 3, 1, 2))


def test_torchvisions_channels_last_maps_are_turned():
    auxiliary = load_auxiliary("swin_t", ["features.1", "features.3"], weights=None)
    assert shapes(auxiliary, 224, 160) == [(96, 56, 40), (192, 28, 20)]


def test_tokens_become_a_grid_without_the_class_token():
    layers = [f"encoder.layers.encoder_layer_{i}.ln" for i in (9, 10, 11)]  # T-TAME's
    torch.manual_seed(0)
    auxiliary = load_auxiliary("vit_b_16", layers, weights=None)
    assert auxiliary.layers == tuple(layers)
    assert auxiliary.channels == (768,) * 3
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        tokens = auxiliary.run(image)[layers[1]]  # (1,197,768)
        level = auxiliary(image)[1]
    assert tokens.shape == (1, 197, 768)
    for row, column in ((0, 0), (0, 13), (5, 2), (13, 13)):
        assert level[0, :, row, column].equal(tokens[0, 1 + 14 * row + column])


class Tokens(nn.Module):
    """Patches of 8 as tokens behind ``prefix`` others."""

    def __init__(self, prefix=1, name_them=False):
        super().__init__()
        self.patches, self.block, self.prefix = nn.Conv2d(3, 6, 8, 8), nn.LayerNorm(6), prefix
        if name_them:
            self.num_prefix_tokens = prefix

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (B,N,6)
        return self.block(torch.cat([tokens.new_zeros(len(tokens), self.prefix, 6), tokens], 1))


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (32, 128), (64, 40)])
def test_prefix_tokens_and_images_of_any_aspect(prefix, size):
    net = Tokens(prefix)
    auxiliary = extractor(["block"], net, size)
    assert auxiliary.layouts == [prefix]
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        patches = net.patches((image - auxiliary.mean) / auxiliary.std)
        expected = net.block(patches.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(auxiliary(image)[0], expected)
        assert auxiliary(torch.rand(1, 3, 80, 80))[0].shape == (1, 6, 10, 10)  # another size than it was made with


def test_the_models_own_number_of_prefix_tokens_is_believed():
    assert extractor(["block"], Tokens(17, name_them=True), 64).channels == (6,)
    assert extractor(["block"], Tokens(17, name_them=True), 64).layouts == [17]  # 81 tokens would else be a 9 x 9 grid


class Untraceable(nn.Module):
    """Its way depends on the data, so that no graph can be made of it."""

    def __init__(self):
        super().__init__()
        self.body, self.ran, self.spare = small_cnn(), [], nn.Identity()

    def forward(self, x):
        if x.mean() > 1e6:
            return x
        for name, module in self.body.named_children():
            x = module(x)
            self.ran.append(name)
        return x


def test_a_model_that_cannot_be_traced_is_hooked_and_left_early(pixels):
    net = Untraceable()
    auxiliary, plain = extractor(["body.l3", "body.l1"], net), extractor(["l3", "l1"], net.body)
    assert auxiliary.layers == ("body.l1", "body.l3")
    assert auxiliary.channels == (4, 16)
    net.ran.clear()
    for ours, theirs in zip(auxiliary(pixels), plain(pixels), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert net.ran == ["l1", "l2"]  # l3 answers and nothing goes on
    assert not any(module._forward_hooks for module in net.modules())
    with pytest.raises(ValueError, match=r"no layer 'l9' in Untraceable: it has body, .*body\.l1"):
        extractor(["l9"], Untraceable())
    with pytest.raises(ValueError, match=r"Untraceable does not call spare when it runs: choose other layers"):
        extractor(["spare", "body.l1"], Untraceable())


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_a_layer_that_gives_no_tensor_is_named():
    net = nn.Sequential()
    net.add_module("first", nn.Conv2d(3, 4, 3))
    net.add_module("pair", Pair())

    class Wrapped(Untraceable):
        def forward(self, x):
            return net(x) if x.mean() < 1e6 else x

    wrapped = Wrapped()
    wrapped.net = net
    with pytest.raises(ValueError, match=r"layer 'net\.pair' of Wrapped gives a tuple: a feature map is"):
        extractor(["net.pair"], wrapped)


def test_a_token_layer_that_is_no_grid_is_named():
    with pytest.raises(
        ValueError, match=r"layer 'block' of Tokens gives shape \(1, 51, 6\): .*tokens \(B,P\+N,C\) of a grid"
    ):
        extractor(["block"], Tokens(50), (8, 8))


class InPlace(nn.Module):
    """Convolutions, each followed by an activation in place: directly, through a view, and as a function."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.act, self.plain, self.last = nn.ReLU(inplace=True), nn.ReLU(), nn.Conv2d(3, 3, 3)

    def forward(self, x):
        x = self.second(self.act(self.first(x)))
        x = x.flatten(2).relu_().unflatten(2, x.shape[2:])
        return self.last(self.plain(torch.nn.functional.relu(self.third(x), inplace=True)))


@pytest.mark.parametrize("hooked", [False, True])
def test_features_are_those_at_the_layer_whatever_follows_in_place(hooked):
    torch.manual_seed(0)
    net, layers = InPlace().eval(), ["first", "second", "third", "plain", "last"]
    picked = Hooked(net, layers) if hooked else net
    auxiliary = FeatureExtractor(picked, None if hooked else layers, (0.0,) * 3, (1.0,) * 3, 16)
    for seed in (0, 1):
        x = rand(2, 3, 16, 16, seed=seed)
        with torch.no_grad():
            first = net.first(x)
            second = net.second(first.relu())
            third = net.third(second.relu())
            expected = [first, second, third, third.relu(), net.last(third.relu())]
        for found, wanted in zip(auxiliary(x), expected, strict=True):
            torch.testing.assert_close(found, wanted)
    if hooked:
        assert picked.changed == {"first", "second", "third"}  # the others are not copied
    else:
        assert sum(node.target == "clone" for node in auxiliary.model.graph.nodes) == 3
