"""Classifiers in files of strangers: no code of theirs is run, and memory has a limit."""

import builtins
import json
import sys

import pytest
import torch
from helpers import rand

from ptame_lib import load_classifier
from ptame_lib.classifiers import huggingface
from ptame_lib.classifiers.black_box import memory_limit


def small_vit():
    config = pytest.importorskip("transformers").ViTConfig
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return config(**sizes, image_size=32, patch_size=16).to_dict()


OWN = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForImageClassification": "own.Own"}}
ELSEWHERE = {"model_type": "own", "auto_map": {"AutoConfig": "some/repository--own.Own"}}
PROCESSOR = {"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "own.Own"}}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Makes a folder in Hugging Face's format, with code; whoever asks the user whether to run it fails."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("the user was asked"))
    monkeypatch.setattr(sys, "stdin", None)

    def make(config, processor=None):
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
        if processor:
            (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
        return f"hf/{tmp_path}"

    yield make
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("weights", ["default", None])
@pytest.mark.parametrize("config", [OWN, ELSEWHERE], ids=["here", "elsewhere"])
def test_code_of_a_repository_is_refused_without_a_question(config, weights, repository):
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="needs code that lies in the repository, which is not run: if you trust it"):
        load_classifier(repository(config), weights)


def test_code_of_an_image_processor_is_refused_too(repository):
    name = repository(small_vit(), PROCESSOR)
    with pytest.raises(ValueError, match="needs code that lies in the repository, which is not run"):
        load_classifier(name, None)
    given = load_classifier(name, None, mean=[0.5] * 3, std=[0.5] * 3)  # then no processor is needed
    assert given(rand(1, 3, 32, 32)).shape == (1, 2)


def test_a_known_network_is_transformers_own_whatever_the_folder_brings(repository):
    config = small_vit() | {"auto_map": {"AutoModelForImageClassification": "own.Own"}}
    found = load_classifier(repository(config, {"image_processor_type": "ViTImageProcessor"}), None)
    assert type(found.model.net).__module__.startswith("transformers.models.vit")


@pytest.mark.parametrize("weights", ["default", None])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"num_labels": 2 * 10**9}, "num_labels is 2000000000, the limit is 1000000"),
        ({"num_labels": 10**4000}, "num_labels is a number of more than 15 digits, the limit is 1000000"),
        ({"hidden_size": 10**6}, r"its network needs more than the \d+\.\d GB of memory that a network may take"),
        ({"image_size": 10**6}, r"its network needs more than the \d+\.\d GB"),
        ({"intermediate_size": [1, {"a": [10**7]}]}, "intermediate_size is 10000000, the limit"),
        ({"num_hidden_layers": 10**6}, "its network has more than 100 tensors of parameters"),
    ],
    ids=["labels", "digits", "width", "image", "nested", "layers"],
)
def test_a_config_of_immense_sizes_is_refused_before_it_is_built(change, problem, weights, repository, monkeypatch):
    monkeypatch.setattr(huggingface, "MOST", 100)  # instead of 10000, which take seconds
    with pytest.raises(ValueError, match=rf"the config\.json of 'hf/.*' is refused: {problem}"):
        load_classifier(repository(small_vit() | change), weights)


def test_an_image_processor_of_immense_images_is_refused(repository):
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 10**7}}
    with pytest.raises(ValueError, match=r"the image processor of 'hf/.*' is refused: size is 10000000, the limit is"):
        load_classifier(repository(small_vit(), processor), None)


def test_looking_at_the_sizes_first_changes_nothing(repository):
    """Random weights are those that transformers itself draws from the same seed."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    found = load_classifier(repository(small_vit(), {"image_processor_type": "ViTImageProcessor"}), None).model.net
    torch.manual_seed(3)
    expected = transformers.ViTForImageClassification(transformers.ViTConfig(**small_vit())).state_dict()
    assert all(value.equal(expected[key]) for key, value in found.state_dict().items())


def write_network(file, numbers):
    """An ONNX classifier that, before it answers, adds up so many zeros."""
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper.make_node, onnx.TensorProto
    nodes = [
        make("GlobalAveragePool", ["x"], ["pooled"]),
        make("Flatten", ["pooled"], ["means"]),
        make("ConstantOfShape", ["count"], ["zeros"], name="\x1b]0;title\x07"),
        make("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        make("Add", ["means", "zero"], ["y"]),
    ]
    x, y = (onnx.helper.make_tensor_value_info(n, kind.FLOAT, s) for n, s in (("x", ["b", 3, 8, 8]), ("y", ["b", 3])))
    graph = onnx.helper.make_graph(
        nodes, "net", [x], [y], [onnx.helper.make_tensor("count", kind.INT64, [1], [numbers])]
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), file)
    return f"onnx/{file}"


def test_a_network_gets_no_more_memory_than_is_allowed(tmp_path, capfd):
    pytest.importorskip("onnxruntime")
    pixels = rand(2, 3, 8, 8)
    small, large = (write_network(tmp_path / f"{n}.onnx", n) for n in (10, 10**11))
    assert load_classifier(small)(pixels).allclose(pixels.mean((2, 3)), atol=1e-6)
    with pytest.raises(RuntimeError, match=r"it asks for 400\.0 GB of memory, and all networks together may take"):
        load_classifier(large)(pixels)
    assert load_classifier(small)(pixels).shape == (2, 3)  # others go on
    assert capfd.readouterr().err == ""  # the log would show what the file says as it is
    assert 2**30 < memory_limit() <= 2**35


def test_a_network_that_fails_says_so(tmp_path):
    pytest.importorskip("onnxruntime")
    box = load_classifier(write_network(tmp_path / "net.onnx", 10))
    with pytest.raises(RuntimeError, match=r"net\.onnx can't be run on 2 images"):
        box(torch.rand(2, 3, 9, 9))
