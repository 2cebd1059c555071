"""Classifiers: pixels in, logits out, frozen; weights from wherever, refused with a remedy where they don't fit."""

import pytest
import timm
import torch
from helpers import TinyBackbone
from safetensors.torch import save_file
from torch import nn

from ptame_lib import Classifier, decide, load_classifier
from ptame_lib.classifiers import embedded
from ptame_lib.classifiers.loading import (
    EMBEDDED,
    LIBRARIES,
    LOADERS,
    check_known,
    load_timm,
    load_torchvision,
    read_state_dict,
)
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD


def test_normalisation_is_inside(pixels):
    net = TinyBackbone().eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    expected = net((pixels - mean) / std)
    torch.testing.assert_close(Classifier(net, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 64)(pixels), expected)
    assert Classifier(nn.Flatten(), (0.5,) * 3, (0.25,) * 3, 2)(torch.full((1, 3, 2, 2), 0.75)).eq(1).all()


def test_frozen_and_in_eval_mode_but_gradients_reach_the_pixels(classifier, pixels):
    nn.Sequential(classifier).train()
    assert not any(m.training for m in classifier.modules())
    assert not any(p.requires_grad for p in classifier.parameters())
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    seen = pixels.clone().requires_grad_()
    classifier(seen).sum().backward()
    assert seen.grad.abs().sum() > 0
    assert all(value.equal(before[key]) for key, value in classifier.state_dict().items())


def test_decide_is_the_argmax_without_a_gradient(classifier, pixels):
    targets = decide(classifier, pixels.clone().requires_grad_())
    assert targets.dtype == torch.int64
    assert targets.equal(classifier(pixels).argmax(1))


@pytest.mark.parametrize("name", [*EMBEDDED, "embedded/auxiliary"])
def test_shipped_weights(name, pixels):
    classifier = load_classifier(name)
    assert classifier(pixels).shape == (4, 10)
    assert classifier.input_size == (64, 64)
    assert classifier.labels == tuple("0123456789")
    assert classifier(pixels).equal(load_classifier(name)(pixels))


def test_torchvision_without_weights(pixels):
    classifier = load_classifier("resnet50", weights=None)
    assert classifier.input_size == (224, 224)
    assert classifier.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    assert classifier.std.flatten().tolist() == pytest.approx(IMAGENET_STD)
    assert classifier(pixels[:1]).shape == (1, 1000)


def test_timm_mean_std_and_size():
    classifier = load_classifier("timm/test_resnet.r160_in1k", weights=None, labels=["a"] * 1000)
    assert classifier.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert classifier.std.flatten().tolist() == [0.5, 0.5, 0.5]
    assert classifier.input_size == (160, 160)
    assert classifier(torch.rand(2, 3, 160, 160)).shape == (2, 1000)
    assert load_timm("timm/resnet10t", None)[1]["mean"] == IMAGENET_MEAN


def test_unknown_names_are_refused_with_a_remedy():
    with pytest.raises(
        ValueError,
        match=r"unknown classifier 'resnet500': did you mean resnet50\? Else choose one of embedded/vgg.*vit_b_16, or",
    ):
        load_classifier("resnet500")
    with pytest.raises(ValueError, match=r"did you mean lite/multi\?"):
        load_classifier("multi")
    with pytest.raises(
        ValueError, match=r"unknown timm model 'resnet_5000' in 'timm/resnet_5000'; similar names: .*resnet"
    ):
        load_classifier("timm/resnet_5000", weights=None)
    with pytest.raises(ValueError, match=r"unknown timm model 'qqq'.*see timm\.list_models\(\)"):
        load_classifier("timm/qqq", weights=None)
    with pytest.raises(
        ValueError,
        match=r"unknown weights 'IMAGENET1K_V9' for resnet50: choose IMAGENET1K_V1, .*the path of a local file",
    ):
        load_classifier("resnet50", weights="IMAGENET1K_V9")


@pytest.mark.parametrize("name", [*LOADERS, *(f"{kind}/x" for kind in LIBRARIES)])
def test_every_known_name_has_a_loader(name, monkeypatch):
    """Each entry is found by its name and gets it; only names in the tables are known."""
    table = LOADERS if name in LOADERS else LIBRARIES
    monkeypatch.setitem(table, name if name in LOADERS else name[:-2], lambda found, *_: found)
    check_known(name)
    assert load_classifier(name) == name


@pytest.mark.parametrize("name", ["", "hf", "hf/", "onnx", "onnx/", "timmy/x", "embedded", "embedded/", "lite/9"])
def test_a_name_of_no_classifier_is_refused_alike(name):
    for refuse in (check_known, load_classifier):
        with pytest.raises(ValueError, match=f"unknown classifier '{name}': "):
            refuse(name)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_local_file(tmp_path, suffix, pixels):
    torch.manual_seed(5)
    net = embedded.build("vgg").eval()
    file = tmp_path / f"own{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(net.state_dict(), file)
    for given in (file, str(file)):
        torch.testing.assert_close(
            load_classifier("embedded/vgg", weights=given)(pixels),
            load_classifier("embedded/vgg", weights=file)(pixels),
        )
    loaded = load_classifier("embedded/vgg", weights=file).model.state_dict()
    assert all(value.equal(loaded[key]) for key, value in net.state_dict().items())


def test_weights_from_a_local_file_for_torchvision_and_timm(tmp_path):
    for load, name in (
        (lambda n, w: load_torchvision(n, w, "DEFAULT"), "mobilenet_v3_small"),
        (lambda n, w: load_timm(n, w)[0], "timm/test_resnet"),
    ):
        net = load(name, None)
        state = {
            k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")
        }  # a missing counter is no error
        save_file(state, tmp_path / "own.safetensors")
        loaded = load(name, tmp_path / "own.safetensors").state_dict()
        assert all(value.equal(loaded[key]) for key, value in state.items())


def test_without_weights_two_loads_differ(pixels):
    assert not load_classifier("embedded/vgg", weights=None)(pixels).equal(
        load_classifier("embedded/vgg", weights=None)(pixels)
    )


def test_a_missing_file(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no weights file at .*gone\.pth: check the path, or pass weights=None"
    ):
        load_classifier("embedded/vgg", weights=tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        load_classifier("resnet50", weights="gone.safetensors")
    with pytest.raises(FileNotFoundError, match="check the path"):  # a folder is no file
        load_classifier("embedded/vgg", weights=tmp_path)


def test_the_message_names_the_missing_shipped_weights(study_root):
    assert load_classifier("embedded/vgg").num_classes == 10  # a study without its own folder uses the shipped one
    (study_root / "data" / "embedded").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"data/embedded/vgg\.safetensors"):
        load_classifier("embedded/vgg")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("garbage", [b"", b"not weights at all" * 9], ids=["empty", "text"])
def test_garbage(tmp_path, suffix, garbage):
    file = tmp_path / f"bad{suffix}"
    file.write_bytes(garbage)
    with pytest.raises(ValueError, match=rf"bad{suffix}.* (can't be read as a weights file|is refused)"):
        load_classifier("embedded/vgg", weights=file)


@pytest.mark.parametrize(
    "content",
    [torch.zeros(3), [torch.zeros(3)], {"state_dict": {"fc.weight": torch.zeros(3)}}],
    ids=["tensor", "list", "nested"],
)
def test_something_else_than_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "else.pth")
    with pytest.raises(ValueError, match=r"else\.pth holds no plain state dict"):
        read_state_dict(tmp_path / "else.pth")


def test_weights_that_do_not_fit(tmp_path):
    state = embedded.VGGLike(7).state_dict()
    save_file(state, tmp_path / "seven.safetensors")
    with pytest.raises(
        ValueError, match=r"seven\.safetensors does not fit VGGLike: fc\.\w+ has shape \(7,.*\), expected \(10,.*\)"
    ):
        load_classifier("embedded/vgg", weights=tmp_path / "seven.safetensors")
    state.pop("fc.weight")
    save_file({**state, "extra": torch.zeros(1)}, tmp_path / "keys.safetensors")
    with pytest.raises(ValueError, match=r"missing \['fc\.weight'\], unexpected \['extra'\]"):
        load_classifier("embedded/vgg", weights=tmp_path / "keys.safetensors")


def test_local_timm_weights_may_bring_their_own_normalisation_and_options(tmp_path):
    net = timm.create_model("mobilenetv2_050", pretrained=False, pad_type="same", num_classes=3)
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    own = load_classifier(
        "timm/mobilenetv2_050",
        tmp_path / "own.safetensors",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        pad_type="same",
        num_classes=3,
    )
    pixels = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(own(pixels), net.eval()((pixels - 0.5) / 0.5), atol=1e-5, rtol=1e-4)
