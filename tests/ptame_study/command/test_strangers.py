"""The command with files of strangers: what it prints is not obeyed, what they name not loaded."""

import json
import shlex

import pytest
import torch
from helpers import rand
from PIL import Image
from refusals import HOSTILE, is_one_line
from typer.testing import CliRunner

from ptame_lib import PTAME, load_auxiliary, load_classifier
from ptame_study.command import explained
from ptame_study.command.cli import app


def ptame(*arguments):
    found = CliRunner().invoke(app, [str(a) for a in arguments], env={"TERM": "dumb", "NO_COLOR": "1"})
    return found.exit_code, found.output


@pytest.fixture(scope="module")
def explainer():
    torch.manual_seed(0)
    return PTAME(load_auxiliary("embedded/auxiliary"), 10).eval()


@pytest.fixture
def image(tmp_path):
    pixels = (rand(64, 64, 3) * 255).byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def unnamed(*arguments):
    found = load_classifier(*arguments)
    found.labels = None
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_printed_is_obeyed(name, explainer, image, tmp_path, monkeypatch):
    """Labels and metadata of the explainer, the image's file name, and what an error says about both."""
    text = HOSTILE[name]
    file, odd = tmp_path / "e.safetensors", text.replace("/", "-").replace("\0", "")[:100]
    stored = text.encode("utf-8", "replace").decode()
    explainer.save(file, classifier="embedded/vgg", images=stored, seed=stored, labels=[text] * 10)
    monkeypatch.setattr(explained, "load_classifier", unnamed)
    image = image.rename(tmp_path / f"{odd}.png")
    code, said = ptame("explain", image, "--explainer", file, "--out", tmp_path / "figures")
    assert code == 0, said
    lines = said.split("\n")
    assert len([line for line in lines if line]) == 3  # of the explainer, that nobody measured it, and of the image
    assert all(is_one_line(line) for line in lines)
    assert not any(line.startswith("error") for line in lines)

    # errors
    image.write_bytes(b"no image")
    explainer.save(file, classifier=stored)
    for arguments in ((image, "--classifier", "embedded/vgg"), (image,), ("cat.png",)):
        code, said = ptame("explain", *arguments, "--explainer", file)
        assert code == 1
        assert sum(line.startswith("error: ") for line in said.splitlines()) == 1
        assert all(is_one_line(line) for line in said.split("\n"))


CHOSEN = {  # what a stranger's file may name: (classifier, weights), and what the user must add
    "a folder": ("hf/folder", "default", ["--classifier", "hf/folder"]),
    "a repository": ("hf/some/repository", "none", ["--classifier", "hf/some/repository"]),
    "an ONNX file": ("onnx/net.onnx", "default", ["--classifier", "onnx/net.onnx"]),
    "another kind": ("../folder", "default", ["--classifier", "../folder"]),
    "weights": ("embedded/vgg", "net.pth", ["--weights", "net.pth"]),
    "weights elsewhere": ("resnet50", "~/net.safetensors", ["--weights", "~/net.safetensors"]),
    "weights of timm": ("timm/test_vit", "a/b", ["--weights", "a/b"]),
    "both": ("hf/folder", "net.pth", ["--classifier", "hf/folder", "--weights", "net.pth"]),
    "a command": ("hf/x; touch y #", "default", ["--classifier", "hf/x; touch y #"]),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_what_a_file_names_is_loaded_only_if_the_user_says_so(name, explainer, image, tmp_path, monkeypatch):
    classifier, weights, added = CHOSEN[name]
    file, asked = tmp_path / "e.safetensors", []

    def load(*arguments):
        asked.append(arguments)
        return load_classifier("embedded/vgg")

    monkeypatch.setattr(explained, "load_classifier", load)
    explainer.save(file, classifier=classifier, weights=weights)
    code, said = ptame("explain", image, "--explainer", file, "--out", tmp_path)
    assert (code, asked) == (1, [])
    assert said.strip().endswith(f"no file can have loaded unasked: if you trust them, add {shlex.join(added)}")
    code, said = ptame("explain", image, "--explainer", file, "--out", tmp_path, *added)
    assert code == 0, said
    assert asked[0][0] == classifier


@pytest.mark.parametrize("classifier", ["embedded/vgg", "embedded/multi-vgg", "zoo/badge", "resnet50", "timm/test_vit"])
@pytest.mark.parametrize("weights", ["default", "none", "IMAGENET1K_V2"])
def test_networks_that_no_file_can_choose_are_taken_at_its_word(classifier, weights, monkeypatch):
    asked = []
    monkeypatch.setattr(explained, "load_classifier", lambda *a: asked.append(a) or load_classifier("embedded/vgg"))
    known = {"classifier": classifier, "weights": weights}
    explained.explained_classifier("e.safetensors", known, None, None)
    assert asked == [(classifier, None if weights == "none" else weights)]


def test_a_repository_of_a_hub_is_no_model_of_timm(image, explainer, tmp_path):
    explainer.save(tmp_path / "e.safetensors", classifier="timm/hf-hub:some/repository")
    code, said = ptame("explain", image, "--explainer", tmp_path / "e.safetensors")
    assert code == 1
    assert "unknown timm model" in said


def test_names_of_another_number_of_classes_are_refused(explainer, monkeypatch):
    monkeypatch.setattr(explained, "load_classifier", unnamed)
    known = {"classifier": "timm/test_vit", "weights": "none", "labels": ["a", "b"]}
    with pytest.raises(ValueError, match="2 names for 1000 classes of the classifier: name the one it was trained for"):
        explained.explained_classifier("e.safetensors", known, None, None)


def test_metadata_that_only_inform_do_not_stop_an_explanation(explainer, image, tmp_path):
    file = tmp_path / "e.safetensors"
    explainer.save(file, classifier="embedded/vgg", training={"lr": 1}, metrics={"faithful": "good", "images": 3})
    code, said = ptame("explain", image, "--explainer", file, "--out", tmp_path)
    assert code == 0, said
    warned = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert any("'metrics'" in line for line in warned)
    assert len(warned) == len(set(warned)), said
    assert "P-TAME for embedded/vgg, 10 classes." in said


def test_an_export_is_of_the_size_that_fits(explainer, tmp_path):
    file = tmp_path / "e.safetensors"
    explainer.save(file, classifier="embedded/vgg", input_size=json.loads("[2000000000, 64]"))
    code, said = ptame("export", file, "--torch", tmp_path / "e.pt2")
    assert (code, "images of 2000000000 x 64 pixels" in said) == (1, True)
