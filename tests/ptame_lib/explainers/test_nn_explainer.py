"""The Explainer: what goes in and comes out, saving and loading."""

import pytest
import torch
from helpers import lite_needed, rand
from torch import nn
from torchvision.models import resnet50
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

from ptame_lib import PTAME, Explainer, load_classifier
from ptame_lib.classifiers.loading import lite_multi_classes
from ptame_lib.explainers.nn_explainer import ARCHITECTURES, START, _resize
from ptame_lib.explainers.storage import EXPLAINER_FORMAT, saved_config


@pytest.fixture
def explainer():
    torch.manual_seed(0)
    return Explainer(4, "small")


def images(n=3, side=64, seed=0):
    return rand(n, 3, side, side, seed=seed)


class Reddish(nn.Module):
    """Logits of two classes known by hand: the sign of the normalised image's red, and its negative."""

    def forward(self, x):
        return torch.stack([x[:, 0].sign(), -x[:, 0].sign()], 1)


@pytest.fixture
def reddish(explainer):
    explainer.net, explainer.num_classes = Reddish(), 2
    return explainer


@pytest.mark.parametrize("size", [(64, 64), (48, 40), (37, 51)])
def test_logits_have_the_images_size(explainer, size):
    assert explainer(torch.rand(2, 3, *size)).shape == (2, 4, *size)


def test_the_published_network(monkeypatch):
    net = resnet50()
    monkeypatch.setattr("ptame_lib.explainers.nn_explainer.load_torchvision", lambda name, *_: {"resnet50": net}[name])
    explainer = Explainer(20, pretrained=True)
    started = explainer.net.net.backbone.state_dict()
    assert all(value.equal(net.state_dict()[key]) for key, value in started.items())
    assert explainer.architecture == "deeplab"
    published = DeepLabV3_ResNet50_Weights.DEFAULT.meta["num_params"]  # with 21 classes and an auxiliary head
    head = 9 * 1024 * 256 + 2 * 256 + 21 * 257
    assert sum(p.numel() for p in explainer.parameters()) == published - head - 257
    with torch.no_grad():
        assert explainer.eval()(images(1, 64)).shape == (1, 20, 64, 64)


def test_the_small_network_is_small(explainer):
    assert 5e5 < sum(p.numel() for p in explainer.parameters()) < 1.5e6


def test_a_pretrained_backbone_comes_from_the_classifier(explainer):
    shipped = load_classifier("embedded/multi-resnet").model.state_dict()
    started = Explainer(4, "small", pretrained=True).net.encoder.state_dict()
    assert started.keys() == {key for key in shipped if not key.startswith("fc.")}
    assert all(value.equal(shipped[key]) for key, value in started.items())
    assert not explainer.net.encoder.stem[0].weight.equal(started["stem.0.weight"])
    all_ten = Explainer(10, "small", pretrained=True).net
    assert all_ten.coarse.weight[:, :, 0, 0].equal(shipped["fc.weight"])
    assert all_ten.coarse.bias.equal(shipped["fc.bias"])


def test_the_small_networks_logits_are_those_of_two_levels(explainer):
    """Without the fine head what is left is the last level's, of stride 16, upsampled."""
    net, pixels = explainer.eval().net, images(1)
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.zeros_(net.head.bias)
    with torch.no_grad():
        normalised = (pixels - explainer.mean) / explainer.std
        features = net.encoder.layer4(
            net.encoder.layer3(net.encoder.layer2(net.encoder.layer1(net.encoder.stem(normalised))))
        )
        expected = torch.nn.functional.interpolate(net.coarse(features), (64, 64), mode="bilinear")
        assert features.shape[-2:] == (4, 4)
        torch.testing.assert_close(explainer(pixels), expected)


def test_the_normalisation_is_inside(reddish):
    pixels = torch.zeros(1, 3, 2, 2)
    pixels[0, 0, 0] = 0.4  # above the embedded images' mean of 0.36
    masks = reddish.masks(pixels)
    high = torch.tensor(1.0).sigmoid()
    torch.testing.assert_close(masks[0, 0], torch.stack([high.expand(2), 1 - high.expand(2)]))
    torch.testing.assert_close(masks[:, 1], 1 - masks[:, 0])


def test_explaining_gives_each_target_its_mask_as_it_is(reddish):
    pixels = images(3, 8)
    masks = reddish.masks(pixels)
    shown = reddish.explain(pixels, torch.tensor([0, 1, 1]))
    assert shown.equal(torch.stack([masks[0, 0], masks[1, 1], masks[2, 1]]))
    assert shown.min() > 0.2  # not min-max normalised


def test_explaining_is_in_eval_mode_without_a_gradient(explainer):
    pixels, targets = images(), torch.tensor([0, 1, 3])
    explainer.train()
    shown = explainer.explain(pixels, targets)
    assert explainer.training
    assert not shown.requires_grad
    assert shown.dtype == torch.float32
    assert shown.equal(explainer.eval().explain(pixels, targets))
    torch.testing.assert_close(shown[:1], explainer.explain(pixels[:1], targets[:1]))


def test_every_part_has_its_own_mode_again_even_after_an_error(explainer):
    explainer.train()
    explainer.net.encoder.layer1.eval()
    modes = [part.training for part in explainer.modules()]
    explainer.net.up[0].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explainer.explain(images(), torch.tensor([0, 1, 3]))
    assert [part.training for part in explainer.modules()] == modes


@pytest.mark.parametrize(
    ("targets", "message"),
    [([0], "one target per image: got"), ([0, 1, 4], r"in 0\.\.3, got 0\.\.4"), ([-1, 0, 0], "got -1")],
)
def test_targets_that_do_not_fit(explainer, targets, message):
    with pytest.raises(ValueError, match=message):
        explainer.explain(images(), torch.tensor(targets))


def test_saving_and_loading(explainer, tmp_path):
    explainer.masks(images())
    explainer.train()(images())  # moves the batch norm's statistics
    explainer.save(tmp_path / "new" / "e.safetensors", seed="3")
    loaded = Explainer.load(tmp_path / "new" / "e.safetensors")
    assert not loaded.training
    assert loaded.masks(images()).equal(explainer.masks(images()))
    assert saved_config(tmp_path / "new" / "e.safetensors", EXPLAINER_FORMAT) == {
        "format": "explainer-1",
        "architecture": "small",
        "num_classes": "4",
        "seed": "3",
    }


def test_what_cannot_be_loaded(explainer, auxiliary, tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"no trained explainer at .*gone\.safetensors: train one with notebooks/07_explainer_train",
    ):
        Explainer.load(tmp_path / "gone.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"garbage" * 9)
    with pytest.raises(ValueError, match=r"bad\.safetensors can't be read as safetensors"):
        Explainer.load(tmp_path / "bad.safetensors")
    PTAME(auxiliary, 4).save(tmp_path / "ptame.safetensors")
    with pytest.raises(
        ValueError, match=r"ptame\.safetensors is not an Explainer saved by Explainer\.save \(format 'ptame-1'"
    ):
        Explainer.load(tmp_path / "ptame.safetensors")
    with pytest.raises(
        ValueError,
        match=r"net\.head\.weight has shape \(4, 24, 1, 1\), expected \(5, 24, 1, 1\)\. Load it with the architecture",
    ):
        Explainer(5, "small").fill(explainer.trained_state(), "file")
    with pytest.raises(ValueError, match=r"unexpected \['net\.more'\]"):
        explainer.fill({**explainer.trained_state(), "net.more": torch.zeros(1)}, "file")
    with pytest.raises(ValueError, match="unknown architecture 'unet': choose deeplab or small or lite"):
        Explainer(5, "unet")
    assert set(ARCHITECTURES) == {"deeplab", "small", "lite"}


@lite_needed("lite/0")
def test_on_lite0_the_masks_begin_as_its_class_activation_maps(tmp_path):
    torch.manual_seed(0)
    explainer = Explainer(52, "lite", pretrained=True)
    net, classifier, pixels = explainer.net, load_classifier("lite/0"), images(2, 224)
    read = []
    classifier.model.bn2.register_forward_hook(lambda _, __, output: read.append(output))
    with torch.no_grad():
        classifier(pixels)
        layer, known = classifier.model.classifier, lite_multi_classes()
        maps = torch.einsum("bchw,kc->bkhw", read[-1], (layer.weight - layer.weight.mean(0))[known])
        bias = (layer.bias[known] - layer.bias.mean())[:, None, None]
        wanted = START[0] * (maps + bias) + START[1]
        torch.testing.assert_close(explainer.eval()(pixels), _resize(wanted, (224, 224)), atol=1e-3, rtol=1e-3)
    # the encoder stays as it is
    explainer.train()
    assert not any(part.training for part in net.encoder.modules())
    assert not any(p.requires_grad for p in net.encoder.parameters())
    before = {key: value.clone() for key, value in net.encoder.state_dict().items()}
    explainer(pixels).sum().backward()
    assert net.head.weight.grad.any()
    assert all(value.equal(before[key]) for key, value in net.encoder.state_dict().items())
    # saved and loaded
    explainer.save(tmp_path / "e.safetensors")
    again = Explainer.load(tmp_path / "e.safetensors")
    assert again.masks(pixels).equal(explainer.masks(pixels))
