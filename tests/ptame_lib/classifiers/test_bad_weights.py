"""Names and weight files that make no classifier, and pickles, which are never run."""

import json

import pytest
from refusals import Code, Colours, assert_answer, cut, refused, shipped

from ptame_lib import BlackBox, load_classifier, load_onnx


def hugging_face(place):
    """A local Hugging Face folder whose weights are a pickle with code."""
    from transformers import ViTConfig

    ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16, patch_size=8
    ).save_pretrained(place / "hf")
    config = json.loads((place / "hf" / "config.json").read_text()) | {"architectures": ["ViTForImageClassification"]}
    place.file("hf/config.json", json.dumps(config))
    place.torch("hf/pytorch_model.bin", {"weight": Code()})
    return load_classifier(f"hf/{place / 'hf'}")


# name: (what is done in a place, what must come of it)
ROWS = {
    "pickle as weights": (
        lambda place: load_classifier("embedded/vgg", place.torch("w.pth", {"weight": Code()})),
        refused(r"w\.pth is refused: .*Save it as \.safetensors"),
    ),
    "pickle named .safetensors": (
        lambda place: load_classifier("embedded/vgg", place.pickle("w.safetensors")),
        refused(r"w\.safetensors can't be read as a weights file .*: download or make it again"),
    ),
    "plain pickle as weights": (
        lambda place: load_classifier("embedded/vgg", place.pickle("w.pt")),
        refused(r"w\.pt is refused: .*Save it as \.safetensors"),
    ),
    "pickle as timm's weights": (
        lambda place: load_classifier("timm/test_resnet", place.torch("w.pth", {"weight": Code()})),
        refused(r"w\.pth is refused: .*Save it as \.safetensors"),
    ),
    "pickle by timm's own option": (
        lambda place: load_classifier(
            "timm/test_resnet", None, checkpoint_path=str(place.torch("w.pth", {"weight": Code()}))
        ),
        refused(r"checkpoint_path.*: pass the file as weights"),
    ),
    "pickle in a Hugging Face folder": (
        hugging_face,
        refused(r"weights of 'hf/.*' are refused .*: they must be tensors alone, as whole \.safetensors"),
    ),
    "truncated weights": (
        lambda place: load_classifier("embedded/vgg", place.file("w.safetensors", cut(shipped("vgg").read_bytes()))),
        refused(r"w\.safetensors can't be read as a weights file .*: download or make it again"),
    ),
    "weights of another network": (
        lambda place: load_classifier("embedded/vgg", shipped("resnet")),
        refused(r"resnet\.safetensors does not fit VGGLike: missing"),
    ),
    "explainer as weights": (
        lambda place: load_classifier("embedded/vgg", place.saved()),
        refused(r"e\.safetensors does not fit VGGLike: missing .*unexpected \['bns"),
    ),
    "no ONNX": (
        lambda place: load_onnx(place.file("n.onnx", b"hello")),
        refused(r"n\.onnx can't be read as an ONNX network .*: export it again"),
    ),
    "unknown classifier": (
        lambda place: load_classifier("vgg17"),
        refused("unknown classifier 'vgg17': .*embedded/vgg"),
    ),
    "unknown timm model": (
        lambda place: load_classifier("timm/mobilenetv2_99", None),
        refused("unknown timm model 'mobilenetv2_99' .*similar names: mobilenetv2_"),
    ),
    "input size of 0": (
        lambda place: BlackBox(Colours(), 0),
        refused("input_size must be a side or .*, whole numbers above 0, got 0"),
    ),
    "input size of text": (lambda place: BlackBox(Colours(), "64"), refused("input_size must be .* got '64'")),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)
