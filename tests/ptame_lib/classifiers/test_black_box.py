"""Classifiers that only answer, ONNX files, Hugging Face folders: the same answers as the network they hold."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import TinyBackbone
from PIL import Image
from safetensors.torch import save_file
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from ptame_lib import BlackBox, decide, load_classifier, load_onnx
from ptame_lib.methods import rise

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


@pytest.fixture
def net():
    torch.manual_seed(3)
    return TinyBackbone().eval()


@pytest.fixture
def box(net):
    return BlackBox(lambda pixels: net(pixels).detach().numpy(), 64)


def normalised(pixels, mean=MEAN, std=STD):
    return (pixels - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


# Any callable


@pytest.mark.parametrize(
    "give",
    [lambda y: y, lambda y: y.detach().numpy(), lambda y: y.detach().double().numpy()],
    ids=["tensor", "numpy", "double"],
)
def test_a_callable_gives_its_own_logits_detached(net, pixels, give):
    box = BlackBox(lambda x: give(net(x)), 64, labels="abcdefg")
    assert box(pixels).equal(net(pixels))
    assert not box(pixels).requires_grad
    assert box(pixels).dtype == torch.float32
    assert decide(box, pixels).equal(net(pixels).argmax(1))
    assert (box.input_size, box.labels, box.num_classes) == ((64, 64), tuple("abcdefg"), 7)


def test_queries_count_images(box, pixels):
    assert box.queries == 0
    box(pixels)
    decide(box, pixels[:1])
    assert box.queries == 5
    rise(box, masks=20, batch_size=8)(pixels[:2], torch.tensor([0, 1]))
    assert box.queries == 5 + 2 * 20
    box.queries = 0
    box(pixels)
    assert box.queries == 4


def test_rise_sees_no_difference(net, box, classifier, pixels):
    targets = torch.tensor([0, 3])
    assert rise(box, masks=30)(pixels[:2], targets).equal(rise(net, masks=30)(pixels[:2], targets))


def test_probabilities_come_back(net, pixels):
    box = BlackBox(lambda x: net(x).softmax(1), 64, probabilities=True)
    torch.testing.assert_close(box(pixels).softmax(1), net(pixels).softmax(1))
    sure = BlackBox(lambda x: torch.eye(7)[: len(x)], 64, probabilities=True)
    torch.testing.assert_close(sure(pixels).softmax(1), torch.eye(7)[:4])


def test_a_scikit_learn_estimator_in_three_lines():
    generator = torch.Generator().manual_seed(0)
    images, digits = torch.rand(40, 3, 8, 8, generator=generator), torch.arange(40) % 4
    images[torch.arange(40), 0, digits] += 1
    forest = RandomForestClassifier(20, random_state=0).fit(images.flatten(1).numpy(), digits.numpy())
    box = BlackBox(lambda x: forest.predict_proba(x.flatten(1).numpy()), 8, probabilities=True)
    assert decide(box, images).equal(digits)
    assert decide(box, images).numpy().tolist() == forest.predict(images.flatten(1).numpy()).tolist()
    assert rise(box, masks=10)(images[:1], digits[:1]).shape == (1, 8, 8)


def test_going_backward_is_an_error_and_not_zero(box, pixels):
    assert BlackBox.differentiable is False
    asked = pixels.clone().requires_grad_()
    answer = box(asked)
    with pytest.raises(
        RuntimeError,
        match="a black box has no gradient: explain it with a method that only asks for answers, such as RISE",
    ):
        answer.sum().backward()
    assert not box(asked.detach()).requires_grad
    with torch.no_grad():
        assert not box(asked).requires_grad


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (lambda x: torch.zeros(4), ValueError, r"shape \(4,\) for 4 images: expected \(4, classes\)"),
        (lambda x: torch.zeros(3, 7), ValueError, r"shape \(3, 7\) for 4 images: expected \(4, classes\)"),
        (lambda x: [[0.0] * 7] * 4, TypeError, "gave a list: it must give a tensor or a NumPy array"),
        (lambda x: np.array([[0, 1]] * 3 + [[0, np.nan]]), ValueError, "not finite for image 3"),
    ],
)
def test_bad_answers_are_named(answer, error, match, pixels):
    with pytest.raises(error, match=match):
        BlackBox(answer, 64)(pixels)


def test_the_number_of_classes_is_kept(pixels):
    widths = iter((7, 5))
    box = BlackBox(lambda x: torch.zeros(len(x), next(widths)), 64)
    box(pixels)
    assert box.num_classes == 7
    with pytest.raises(ValueError, match=r"shape \(4, 5\) for 4 images: expected \(4, 7\)"):
        box(pixels)
    with pytest.raises(ValueError, match="2 labels for 7 classes"):
        BlackBox(None, 64, labels="ab", num_classes=7)
    with pytest.raises(ValueError, match=r"values in -1..0, which are no probabilities"):
        BlackBox(lambda x: torch.tensor([[-1.0, 0.0]] * 4), 64, probabilities=True)(pixels)


# ONNX


@pytest.fixture
def export(net, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    def write(batch=None, size=(64, 64), model=None, shape=None):
        file = tmp_path / "net.onnx"
        example = torch.rand(shape or (batch or 2, 3, *size))
        dynamic = {} if batch else {0: torch.export.Dim("batch")}
        torch.onnx.export(
            (model or net).eval(),
            (example,),
            str(file),
            dynamic_shapes=(dynamic,),
            dynamo=True,
            verbose=False,
            external_data=False,
        )
        onnx.checker.check_model(str(file))
        return file

    return write


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_onnx_answers_like_torch(net, export, batch, pixels):
    box = load_classifier(f"onnx/{export(batch)}", mean=MEAN, std=STD, labels="abcdefg")
    assert isinstance(box, BlackBox)
    assert (box.input_size, box.num_classes, box.differentiable) == ((64, 64), 7, False)
    torch.testing.assert_close(box(pixels), net(normalised(pixels)), atol=1e-4, rtol=1e-4)
    assert box.queries == 4  # what fills up a fixed batch is not counted
    assert decide(box, pixels).equal(net(normalised(pixels)).argmax(1))


def test_onnx_without_normalisation_other_sizes_and_probabilities(net, export):
    file = export(size=(48, 32), model=nn.Sequential(net, nn.Softmax(1)))
    box = load_onnx(file, probabilities=True)
    assert box.input_size == (48, 32)
    pixels = torch.rand(2, 3, 48, 32)
    torch.testing.assert_close(box(pixels).softmax(1), net(pixels).softmax(1), atol=1e-4, rtol=1e-4)


class ChannelsLast(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.permute(0, 3, 1, 2))


def test_onnx_channels_last(net, export, pixels):
    box = load_onnx(export(model=ChannelsLast(net), shape=(2, 64, 64, 3)), MEAN, STD)
    assert box.input_size == (64, 64)
    torch.testing.assert_close(box(pixels), net(normalised(pixels)), atol=1e-4, rtol=1e-4)


def test_onnx_open_size_wants_one(net, export, pixels, tmp_path):
    import onnx

    model = onnx.load(str(export()))
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(model, str(tmp_path / "open.onnx"))
    with pytest.raises(
        ValueError, match=r"open\.onnx leaves the size of its images open \(height x width\): pass input_size"
    ):
        load_onnx(tmp_path / "open.onnx")
    assert load_onnx(tmp_path / "open.onnx", input_size=64)(pixels).shape == (4, 7)


def test_onnx_files_that_do_not_fit(export, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(FileNotFoundError, match=r"no ONNX file at gone\.onnx: check the path"):
        load_classifier("onnx/gone.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"bad\.onnx can't be read as an ONNX network"):
        load_onnx(tmp_path / "bad.onnx")
    with pytest.raises(
        ValueError, match=r"takes .*float.* \[.*, 5\]: expected one input of floating point, shape \(B,3,H,W\)"
    ):
        load_onnx(export(model=nn.Linear(5, 2), shape=(2, 5)))
    with pytest.raises(ValueError, match=r"holds its weights: weights=None can't replace them"):
        load_classifier("onnx/x.onnx", weights=None)


# Hugging Face


@pytest.fixture
def folder(tmp_path):
    """A tiny random ViT or ResNet, saved with an image processor as a repository is."""
    transformers = pytest.importorskip("transformers")

    def write(kind="vit", processor=None, **options):
        torch.manual_seed(4)
        labels = {"id2label": {0: "ant", 1: "bee", 2: "cow"}, "label2id": {"ant": 0, "bee": 1, "cow": 2}}
        if kind == "vit":
            sizes = {
                "hidden_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "image_size": 32,
                "patch_size": 8,
            }
            config = transformers.ViTConfig(**sizes, **labels)
        else:
            config = transformers.ResNetConfig(
                embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **labels
            )
        net = transformers.AutoModelForImageClassification.from_config(config).eval()
        with torch.no_grad():
            net.classifier.weight.normal_() if kind == "vit" else net.classifier[1].weight.normal_()
        net.save_pretrained(tmp_path / kind)
        if processor is not False:
            values = {
                "image_processor_type": "ViTImageProcessor",
                "image_mean": MEAN,
                "image_std": STD,
                "size": {"height": 32, "width": 32},
            }
            (tmp_path / kind / "preprocessor_config.json").write_text(json.dumps(values | (processor or {})))
        return tmp_path / kind, net

    return write


def like(name, **options):
    return {"image_processor_type": f"{name}ImageProcessor", **options}


PROCESSORS = {
    "vit": {},
    "shortest edge and crop": like("ConvNext", size={"shortest_edge": 32}, crop_pct=0.875),
    "not normalised": {"do_normalize": False},
    "to -1..1": like("EfficientNet", do_normalize=False, rescale_factor=1 / 127.5, rescale_offset=True),
    "normalised twice": like("EfficientNet", include_top=True),
    "bgr": like("MobileViT", do_flip_channel_order=True, crop_size={"height": 32, "width": 32}),
}


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_hugging_face_answers_like_the_model_on_its_own_processors_pixels(folder, kind, processor):
    from transformers import AutoImageProcessor

    place, net = folder(kind, PROCESSORS[processor])
    classifier = load_classifier(f"hf/{place}")
    assert (classifier.input_size, classifier.labels, classifier.differentiable) == (
        (32, 32),
        ("ant", "bee", "cow"),
        True,
    )
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    own = AutoImageProcessor.from_pretrained(place)
    resizing = {"do_resize": False, "do_center_crop": False} if processor != "vit" else {}
    own_pixels = own(images=Image.fromarray(image), return_tensors="pt", **resizing)["pixel_values"]
    ours = classifier(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    with torch.no_grad():
        torch.testing.assert_close(ours, net(pixel_values=own_pixels).logits, atol=1e-4, rtol=1e-4)


def test_hugging_face_is_differentiable_and_frozen(folder):
    place, _ = folder()
    classifier = load_classifier(f"hf/{place}", labels="xyz").train()
    assert classifier.labels == ("x", "y", "z")
    assert not any(module.training for module in classifier.modules())
    assert classifier.mean.flatten().tolist() == pytest.approx(MEAN, abs=1e-5)
    assert classifier.std.flatten().tolist() == pytest.approx(STD, abs=1e-5)
    pixels = torch.rand(2, 3, 32, 32, requires_grad=True)
    classifier(pixels)[:, 0].sum().backward()
    assert pixels.grad.abs().sum() > 0


@pytest.mark.parametrize("problem", ["multi_label_classification", "single_label_classification", None])
def test_hugging_face_says_whether_an_image_has_several_labels(folder, problem):
    place, _ = folder()
    config = json.loads((place / "config.json").read_text()) | {"problem_type": problem}
    (place / "config.json").write_text(json.dumps(config))
    assert load_classifier(f"hf/{place}").multi_label == (problem == "multi_label_classification")


def test_hugging_face_weights(folder, tmp_path):
    place, net = folder()
    pixels = torch.rand(2, 3, 32, 32)
    assert not load_classifier(f"hf/{place}", weights=None)(pixels).equal(
        load_classifier(f"hf/{place}", weights=None)(pixels)
    )
    for value in net.state_dict().values():
        value.mul_(2)
    save_file(net.state_dict(), tmp_path / "other.safetensors")
    torch.testing.assert_close(
        load_classifier(f"hf/{place}", tmp_path / "other.safetensors")(pixels), net(normalised(pixels)).logits
    )


def test_hugging_face_without_a_processor_wants_the_normalisation(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place, net = folder(processor=False)
    with pytest.raises(
        ValueError, match=r"has no image processor that says how to normalise pixels .*: pass mean and std"
    ):
        load_classifier(f"hf/{place}")
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(
        load_classifier(f"hf/{place}", mean=MEAN, std=STD)(pixels), net(normalised(pixels)).logits
    )


def test_hugging_face_folders_that_do_not_fit(tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.ViTConfig().save_pretrained(tmp_path / "empty")
    with pytest.raises(RuntimeError, match=r"'hf/.*empty' can't be loaded .*pass its folder as 'hf/<folder>'"):
        load_classifier(f"hf/{tmp_path}/empty")
    transformers.BertConfig().save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match=r"'hf/.*text' is no image classifier that transformers knows"):
        load_classifier(f"hf/{tmp_path}/text", weights=None)


# Packages that may be missing


@pytest.mark.parametrize(("name", "package"), [("onnx/x.onnx", "onnxruntime"), ("hf/x", "transformers")])
def test_a_missing_package_is_named_with_the_remedy(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf"need.* {package}, which is not installed: pip install 'ptame-study\[classifiers\]'"
    ):
        load_classifier(name)


def test_importing_the_library_imports_none_of_them():
    code = "import sys, ptame_lib; print({'onnx', 'onnxruntime', 'transformers', 'torch'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"


def test_options_are_for_those_that_take_them():
    with pytest.raises(
        ValueError, match=r"'resnet50' takes no options pad_type: only 'timm/<model>' and 'onnx/<file>' take any"
    ):
        load_classifier("resnet50", weights=None, pad_type="same")
