"""Exported explainers give the explainer's own maps; a saved one tells what it is."""

import json
import sys

import pytest
import torch
import yaml
from helpers import explainer_on, rand, small_cnn

from ptame_lib import (
    PTAME,
    FeatureExtractor,
    TrainingConfig,
    load_auxiliary,
    load_classifier,
    saved_config,
    write_model_card,
)
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.explainers.card import model_card
from ptame_lib.explainers.export import to_onnx, to_torch_export
from ptame_lib.explainers.features import Hooked
from ptame_lib.explainers.lcam import lcam
from ptame_lib.explainers.loading import load_explainer
from ptame_lib.explainers.swap_tame import GATE, SwapTAME
from ptame_lib.training.ptame import swap_config


@pytest.fixture
def explainer():
    return explainer_on(load_auxiliary("embedded/auxiliary"), 10)


def images(n, size):
    return rand(n, 3, size, size, seed=7)


def onnx_maps(file, pixels, targets):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape[0]) for i in session.get_inputs()] == [("pixels", "batch"), ("targets", "batch")]
    return torch.from_numpy(
        session.run(["maps"], {"pixels": pixels.numpy(), "targets": targets.numpy()})[0]
    ), session.get_modelmeta()


def test_onnx_of_resnet18_gives_the_explainers_maps_for_any_batch(tmp_path):
    explainer = explainer_on(load_auxiliary("resnet18", weights=None), 10).train()
    done = to_onnx(explainer, tmp_path / "e.onnx", about={"classifier": "mine"})
    assert explainer.training  # as it was
    assert done.difference < 1e-4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.onnx"]  # one file, with the weights inside
    for targets in ([9], [4, 0, 0, 7]):
        pixels, targets = images(len(targets), 224), torch.tensor(targets)
        found, meta = onnx_maps(done.file, pixels, targets)
        assert found.shape[1:] == (56, 56)
        torch.testing.assert_close(found, explainer.explain(pixels, targets), atol=1e-4, rtol=0)
    assert (meta.custom_metadata_map["auxiliary"], meta.custom_metadata_map["classifier"]) == ("resnet18", "mine")


def test_an_auxiliary_that_is_run_with_hooks_is_exported_too(tmp_path):
    torch.manual_seed(0)
    hooked = Hooked(small_cnn(), ["l2", "l3"])  # stops in the middle, which an export can't
    auxiliary = FeatureExtractor(hooked, None, IMAGENET_MEAN, IMAGENET_STD, 32)
    explainer = SwapTAME(auxiliary, 10, parts=(GATE,)).eval()
    for write in (to_onnx, to_torch_export):
        assert write(explainer, tmp_path / "explainer").difference < 1e-4


def test_torch_export_gives_the_explainers_maps_for_any_batch_and_a_chosen_size(explainer, tmp_path):
    done = to_torch_export(explainer, tmp_path / "e.pt2", size=(48, 80))
    assert done.difference < 1e-4
    extra = {"about.json": ""}
    loaded = torch.export.load(done.file, extra_files=extra).module()
    assert json.loads(extra["about.json"])["num_classes"] == "10"
    for n in (1, 4):
        pixels = torch.rand(n, 3, 48, 80)
        targets = torch.arange(n) + 5
        torch.testing.assert_close(loaded(pixels, targets), explainer.explain(pixels, targets), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("off", "kept"), [(2e-4, False), (5e-5, True), (torch.nan, False)])
def test_a_file_with_other_maps_is_not_kept(off, kept, explainer, tmp_path, monkeypatch):
    read = type("Program", (), {"module": lambda _: lambda pixels, targets: explainer.explain(pixels, targets) + off})
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: None)
    monkeypatch.setattr(torch.export, "save", lambda _, file, **__: file.write_text("maps"))
    monkeypatch.setattr(torch.export, "load", lambda _: read())
    if kept:
        assert to_torch_export(explainer, tmp_path / "e.pt2").difference == pytest.approx(off, rel=0.01)
    else:
        with pytest.raises(
            RuntimeError, match=r"e\.pt2 differ from the explainer's by .*, more than 1e-04: it is not kept"
        ):
            to_torch_export(explainer, tmp_path / "e.pt2")
    assert [file.name for file in tmp_path.iterdir()] == ["e.pt2"] * kept


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_the_command(missing, explainer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"needs {missing}, .*: pip install 'ptame-study\[export\]'"):
        to_onnx(explainer, tmp_path / "e.onnx")


def test_without_onnxruntime_the_file_is_written_and_said_to_be_unchecked(explainer, tmp_path, monkeypatch):
    written = []

    class Program:
        model = type("Model", (), {"metadata_props": {}})

        def save(self, file, external_data):
            written.append(external_data)
            open(file, "w").close()

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program())
    done = to_onnx(explainer, tmp_path / "e.onnx")
    assert done.difference is None
    assert "not checked: onnxruntime is not installed" in done.text()
    assert done.file.is_file()
    assert written == [False]


METRICS = {"images": 50, "faithful": 92.0, "AD100": 3.25}


def test_a_saved_explainer_tells_what_it_is(explainer, tmp_path):
    file = tmp_path / "e.safetensors"
    about = {
        "classifier": "embedded/vgg",
        "labels": list("abcdefghij"),
        "training": TrainingConfig(steps=7),
        "seed": 3,
        "metrics": METRICS,
    }
    explainer.save(file, **about, profile="mine", images=None)
    stored = saved_config(file)
    assert (stored["auxiliary"], json.loads(stored["layers"])) == (
        "embedded/auxiliary",
        ["layer1", "layer2", "layer3", "layer4"],
    )
    assert (stored["classifier"], stored["seed"], stored["profile"]) == ("embedded/vgg", "3", "mine")
    assert json.loads(stored["labels"]) == list("abcdefghij")
    assert json.loads(stored["training"])["steps"] == 7
    assert json.loads(stored["training"])["loss"]["ce"] == 1.5
    assert json.loads(stored["metrics"]) == METRICS
    assert "images" not in stored
    pixels, targets = images(2, 64), torch.tensor([1, 2])
    assert PTAME.load(file).explain(pixels, targets).equal(explainer.explain(pixels, targets))
    with pytest.raises(ValueError, match="layers, num_classes can't be set"):
        explainer.save(file, num_classes=3, layers="x")

    card = model_card(file)
    head, body = card.removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(head)["license"] == "apache-2.0"
    for words in (
        "# P-TAME for embedded/vgg",
        "embedded/auxiliary",
        "a, b, c",
        "| steps | 7 |",
        "| AD100 | 3.25 |",
        "## Limits",
        "10.1109/OJSP.2025.3568756",
    ):
        assert words in body
    assert "$" not in card  # every place of the template is filled
    assert write_model_card(file) == tmp_path / "e.safetensors.md"
    assert (tmp_path / "e.safetensors.md").read_text() == card


def test_a_card_says_what_was_not_stored(tmp_path):
    own = lcam(load_classifier("embedded/resnet"), 10, name="last:embedded/resnet")
    own.save(tmp_path / "e.safetensors", licence="cc-by-4.0")
    card = model_card(tmp_path / "e.safetensors")
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-4.0"
    for words in ("# L-CAM-Img for an unnamed classifier", "Not stored", "features of the classifier itself"):
        assert words in card
    assert load_explainer(tmp_path / "e.safetensors", load_classifier("embedded/resnet")).num_classes == 10
    with pytest.raises(FileNotFoundError, match="no trained explainer"):
        model_card(tmp_path / "absent.safetensors")


def test_an_explainer_on_random_features_is_not_loaded_on_others(explainer, tmp_path):
    explainer.save(tmp_path / "e.safetensors", auxiliary_weights="none")
    with pytest.raises(
        ValueError, match=r"random features of embedded/auxiliary, which are not stored: pass that very auxiliary"
    ):
        PTAME.load(tmp_path / "e.safetensors")
    assert PTAME.load(tmp_path / "e.safetensors", explainer.auxiliary).num_classes == 10


def test_a_card_lists_no_setting_that_its_training_leaves_idle(explainer, tmp_path):
    listed = {}
    for name, config in {"published": TrainingConfig(), "swap": swap_config(TrainingConfig())}.items():
        explainer.save(tmp_path / "e.safetensors", training=config)
        rows = model_card(tmp_path / "e.safetensors").splitlines()
        listed[name] = {row.split("|")[1].strip() for row in rows if row.startswith("| ")}
    assert listed["published"] - listed["swap"] == {"loss", "shares", "rest"}
    assert listed["swap"] - listed["published"] == {"temperature", "regions"}
