"""`ptame score`: maps of other tools from files, whatever wrote them; what can't be judged is refused with its name."""

import csv
import json

import numpy as np
import pytest
import torch
from helpers import rand
from PIL import Image
from refusals import HOSTILE, NAN, assert_answer, is_one_line, refused
from safetensors.torch import save_file
from typer.testing import CliRunner

from ptame_lib import PTAME, ImageFolder, decide, load_auxiliary, load_classifier, score
from ptame_lib.methods import gradcam
from ptame_lib.metrics.scores import SCORES
from ptame_study.command.cli import app
from ptame_study.command.maps import MapFiles, MaskFiles, match_files, read_map
from ptame_study.command.scoring import score_maps

CLASSIFIER = "embedded/vgg"
NAMES = ("a/0.png", "a/1.jpg", "2.png")


def write_images(folder, names=NAMES):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((rand(75, 90, 3, seed=i) * 255).byte().numpy()).save(folder / name)
    return folder


def write_maps(folder, maps):
    """A map of each kind of file."""
    (folder / "a").mkdir(parents=True, exist_ok=True)
    np.save(folder / "a" / "0.npy", maps[0].numpy())
    save_file({"map": maps[1][None].contiguous()}, folder / "a" / "1.jpg.safetensors")
    Image.fromarray((maps[2] * 65535).round().numpy().astype(np.uint16)).save(folder / "2.png")
    return folder


def ptame(*arguments, code=0):
    found = CliRunner().invoke(app, [*map(str, arguments)], env={"TERM": "dumb", "NO_COLOR": "1"})
    assert found.exit_code == code, found.output
    return found.output


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images, Grad-CAM's maps of them on the classifier's own grid, masks, and classes."""
    place = tmp_path_factory.mktemp("score")
    pictures = ImageFolder(write_images(place / "images"), 64, 73)
    pixels = torch.stack([pictures[pictures.names.index(name)]["pixels"] for name in NAMES])
    classifier = load_classifier(CLASSIFIER)
    maps = gradcam(classifier)(pixels, decide(classifier, pixels))
    write_maps(place / "maps", maps)
    for name in NAMES:
        (place / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.pad(np.full((40, 40), 255, np.uint8), ((20, 15), (25, 25)))).save(
            (place / "masks" / name).with_suffix(".png")
        )
    lines = ["file,class_id", *(f"{name},{i}" for i, name in enumerate(NAMES))]
    (place / "classes.csv").write_text("\n".join(lines))
    return place, pixels, maps


def test_scores_of_files_are_those_of_the_tensors(place, tmp_path):
    """Of all three kinds, with every option that adds something."""
    folder, pixels, maps = place
    out = tmp_path / "s.json"
    asked = ["score", folder / "maps", "--images", folder / "images", "--classifier", CLASSIFIER, "--out", out]
    said = ptame(*asked, "--truth", folder / "masks", "--method", "Grad-CAM", "--quick")
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[:, 15:54, 12:51] = True  # of 75 x 90, resized to 73 x 87 and cut: about 20..60 and 25..65
    expected = score(load_classifier(CLASSIFIER), pixels, maps, truth=masks, method=gradcam, curves=False)
    told = json.loads(out.read_text())
    assert list(told["scores"]) == list(expected.values)
    for name, found in told["scores"].items():
        away = 3.0 if SCORES[name].needs_truth else 0.02  # the masks differ by a pixel at the border
        assert found["mean"] == pytest.approx(expected[name].mean, abs=away), name
    main = [name for name in expected.values if SCORES[name].main]
    lines = [line.split("\r")[-1].strip() for line in said.split("\n")]  # after the progress bar
    assert [line.split("  ")[0] for line in lines if " is better; " in line] == main
    assert told["provenance"]["classifier"]["name"] == CLASSIFIER
    rows = list(csv.DictReader(out.with_suffix(".csv").open()))
    assert [row["image"] for row in rows] == sorted(NAMES)
    values = [float(row["AD100"]) for row in rows]
    assert sum(values) / 3 == pytest.approx(told["scores"]["AD100"]["mean"], abs=1e-3)


def test_the_classes_of_a_table_are_scored_and_an_explainer_is_asked_again(place, tmp_path):
    folder, pixels, maps = place
    torch.manual_seed(0)
    PTAME(load_auxiliary("embedded/auxiliary"), 10).save(tmp_path / "e.safetensors", classifier=CLASSIFIER)
    files = {"targets": folder / "classes.csv", "explainer": tmp_path / "e.safetensors", "quick": True}
    found, _ = score_maps(folder / "maps", folder / "images", CLASSIFIER, tmp_path / "s.json", **files)
    expected = score(load_classifier(CLASSIFIER), pixels, maps, targets=torch.arange(3), curves=False)
    assert found["AD100"].mean == pytest.approx(expected["AD100"].mean, abs=0.02)
    assert "max-sensitivity" in found.values
    assert "randomised: correlation" not in found.values
    assert len(found.notes) == 1


def test_maps_of_whole_images_are_cut_as_the_images_are(tmp_path):
    """A map that is the image's own brightness stays so."""
    pictures = ImageFolder(write_images(tmp_path / "images", ["0.png"]), 64, 73)
    grey = np.asarray(Image.open(tmp_path / "images" / "0.png")).astype(np.float32).mean(2) / 255
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps" / "0.npy", grey)
    maps = MapFiles(match_files(tmp_path / "maps", pictures.names), pictures, whole=True)
    assert maps[0].shape == (64, 64)
    own = pictures[0]["pixels"].mean(0)
    assert torch.corrcoef(torch.stack([maps[0].flatten(), own.flatten()]))[0, 1] > 0.9
    with pytest.raises(ValueError, match=r"0\.npy is 75 x 90, of another shape than the 64 x 64 pixels .* add --whole"):
        MapFiles(maps.files, pictures)[0]
    np.save(tmp_path / "maps" / "0.npy", grey[:, :60])
    for kind in (lambda: MapFiles(maps.files, pictures, whole=True)[0], lambda: MaskFiles(maps.files, pictures)[0]):
        with pytest.raises(ValueError, match="is 75 x 60, of another shape than its whole image of 73 x 87 pixels"):
            kind()


def save(folder, name, values):
    np.save(folder / name, values)
    return folder / name


def picture(folder, name, mode, value):
    Image.new(mode, (6, 5), value).save(folder / name)
    return folder / name


def tensors(folder, name, **values):
    save_file(values, folder / name)
    return folder / name


READ = {  # (a file in a folder, what must come of it)
    "half precision": (lambda d: save(d, "a.npy", np.ones((2, 3), np.float16)), lambda m: m.dtype == torch.float32),
    "whole numbers": (lambda d: save(d, "a.npy", np.full((2, 3), 7, np.uint8)), lambda m: m.unique().tolist() == [7]),
    "truths": (lambda d: save(d, "a.npy", np.ones((2, 3), bool)), lambda m: m.unique().tolist() == [1]),
    "the other byte order": (lambda d: save(d, "a.npy", np.ones((2, 3), ">f8")), lambda m: m.sum() == 6),
    "a batch of one with a channel": (lambda d: save(d, "a.npy", np.ones((1, 1, 2, 3))), lambda m: m.shape == (2, 3)),
    "a channel at the end": (lambda d: save(d, "a.npy", np.ones((2, 3, 1))), lambda m: m.shape == (2, 3)),
    "a column": (lambda d: save(d, "a.npy", np.ones((4, 1))), lambda m: m.shape == (4, 1)),
    "three channels": (lambda d: save(d, "a.npy", np.ones((2, 3, 3))), refused(r"a\.npy has shape \(2, 3, 3\): a map")),
    "several maps": (
        lambda d: save(d, "a.npy", np.ones((4, 2, 3))),
        refused(r"has shape \(4, 2, 3\): a map is \(h,w\)"),
    ),
    "nothing": (lambda d: save(d, "a.npy", np.ones((0, 3))), refused(r"has shape \(0, 3\)")),
    "NaN": (lambda d: save(d, "a.npy", np.array([[1, NAN]])), refused(r"a\.npy has 1 values that are NaN or infinite")),
    "infinity": (
        lambda d: save(d, "a.npy", np.array([[1, -np.inf]])),
        refused("has 1 values that are NaN or infinite"),
    ),
    "beyond single precision": (lambda d: save(d, "a.npy", np.array([[1e300]])), refused("NaN or infinite")),
    "complex numbers": (lambda d: save(d, "a.npy", np.ones((2, 3), complex)), refused("has complex numbers")),
    "words": (
        lambda d: save(d, "a.npy", np.array([["a"]])),
        refused(r"a\.npy can't be read \(it holds no array of num"),
    ),
    "a pickle": (lambda d: save(d, "a.npy", np.array([[{}]])), refused(r"a\.npy can't be read \(Object arrays cannot")),
    "grey": (lambda d: picture(d, "a.png", "L", 9), lambda m: (m.shape, m.unique().tolist()) == ((5, 6), [9])),
    "grey of 16 bits": (lambda d: picture(d, "a.png", "I;16", 999), lambda m: m.unique().tolist() == [999]),
    "one bit": (lambda d: picture(d, "a.png", "1", 1), lambda m: m.unique().tolist() == [1]),
    "grey in three channels": (lambda d: picture(d, "a.png", "RGB", (9, 9, 9)), lambda m: m.unique().tolist() == [9]),
    "colours": (
        lambda d: picture(d, "a.png", "RGB", (9, 8, 9)),
        refused(r"a\.png can't be read \(it is in colour, wh"),
    ),
    "one tensor": (lambda d: tensors(d, "a.safetensors", x=torch.ones(2, 3)), lambda m: m.shape == (2, 3)),
    "two tensors": (
        lambda d: tensors(d, "a.safetensors", x=torch.ones(2), y=torch.ones(2)),
        refused("it holds 2 tensors, a map's file holds one"),
    ),
}
for kind in ("npy", "png", "safetensors"):

    def damaged(d, kind=kind):
        (d / f"a.{kind}").write_bytes(b"no map")
        return d / f"a.{kind}"

    READ[f"a damaged {kind}"] = damaged, refused(rf"the map .*a\.{kind} can't be read .*: make it again")


@pytest.mark.parametrize("name", READ)
def test_maps_are_read_or_refused_by_name(name, tmp_path):
    write, expected = READ[name]
    file = write(tmp_path)
    assert_answer(lambda: read_map(file), expected)


def matched(folder, files, names=("a/cat.jpg", "dog.png")):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return [file.relative_to(folder).as_posix() for file in match_files(folder, names)]


MATCHES = {
    "by the stem": (["a/cat.npy", "dog.png"], {}, lambda found: found == ["a/cat.npy", "dog.png"]),
    "by the whole name": (["a/cat.jpg.npy", "dog.png.png"], {}, lambda found: len(found) == 2),
    "upper case endings": (["a/cat.NPY", "dog.PNG"], {}, lambda found: found == ["a/cat.NPY", "dog.PNG"]),
    "hidden files": (["a/cat.npy", "dog.png", ".dog.npy"], {}, lambda found: found == ["a/cat.npy", "dog.png"]),
    "a missing one": (
        ["a/cat.npy"], {}, refused(r"1 of 2 images have no map in .*, such as dog\.png: it must be named dog\.npy, or"),
    ),
    "another folder": (["cat.npy", "dog.npy"], {}, refused(r"such as a/cat\.jpg: it must be named a/cat\.npy")),
    "two for one": (
        ["a/cat.npy", "a/cat.png", "dog.npy"], {},
        refused(r"two maps for the image a/cat\.jpg: .*cat\.npy and .*cat\.png; leave one"),
    ),
    "two for one by both names": (["a/cat.npy", "a/cat.jpg.npy", "dog.npy"], {}, refused("two maps for")),
    "one for two": (
        ["x.npy"], {"names": ("x.jpg", "x.png")},
        refused(r"x\.npy could be the map of x\.jpg or of x\.png: name it x\.jpg\.npy or x\.png\.npy"),
    ),
    "one name, two images, each with its own": (
        ["x.jpg.npy", "x.png.npy"], {"names": ("x.jpg", "x.png")}, lambda found: found == ["x.jpg.npy", "x.png.npy"],
    ),
    "a name within a name": (
        ["x.jpg.npy"], {"names": ("x.jpg", "x.jpg.png")}, refused(r"could be the map of x\.jpg or of x\.jpg\.png"),
    ),
    "other kinds only": (["a/cat.pt"], {}, refused(r"no maps in .*: put files ending in \.npy, \.png, \.safetensors")),
}  # fmt: skip


@pytest.mark.parametrize("name", MATCHES)
def test_each_image_has_one_map(name, tmp_path):
    files, options, expected = MATCHES[name]
    assert_answer(lambda: matched(tmp_path, files, **options), expected)


def test_maps_of_no_image_are_told(tmp_path):
    with pytest.warns(UserWarning, match=r"1 maps in .* belong to no image, such as .*z\.npy"):
        assert matched(tmp_path, ["a/cat.npy", "dog.npy", "z.npy"]) == ["a/cat.npy", "dog.npy"]


MISTAKES = {
    "no maps": (["nowhere"], "error: no folder of maps at nowhere: check the path"),
    "another classifier": ([..., "--classifier", "embedded/vg"], "did you mean embedded/vgg?"),
    "another ending": ([..., "--out", "s.txt"], "error: the scores' file must end in .json, not as s.txt"),
    "an unknown method": ([..., "--method", "GradCAM"], "error: unknown method 'GradCAM': did you mean Grad-CAM?"),
    "both": ([..., "--method", "RISE", "--explainer", "e.safetensors"], "give --method or --explainer"),
    "no masks": ([..., "--truth", "nowhere"], "error: no folder of masks at nowhere"),
    "no table": ([..., "--targets", "nowhere.csv"], "error: no table at"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(name, place, tmp_path):
    folder, *_ = place
    (maps, *more), message = MISTAKES[name]
    maps = folder / "maps" if maps is ... else maps
    start = ["score", maps, "--images", folder / "images", "--classifier", CLASSIFIER, "--out", tmp_path / "s.json"]
    said = ptame(*start, *more, code=1)
    assert message in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_files_that_are_there_stay_and_tables_must_be_whole(place, tmp_path):
    folder, *_ = place
    (tmp_path / "s.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"s\.csv exists: delete it"):
        score_maps(folder / "maps", folder / "images", CLASSIFIER, tmp_path / "s.json")
    assert (tmp_path / "s.csv").read_text() == "mine"
    (tmp_path / "c.csv").write_text("file,class_id\n2.png,1\n")
    with pytest.raises(ValueError, match=r"c\.csv has no class for 2 of 3 images, such as a/0\.png: its column file"):
        score_maps(folder / "maps", folder / "images", CLASSIFIER, tmp_path / "t.json", targets=tmp_path / "c.csv")


@pytest.mark.parametrize("name", ["script", "colour", "forged line", "direction", "half a letter"])
def test_names_of_files_are_printed_as_texts(name, tmp_path):
    stem = HOSTILE[name].replace("/", "-")
    images = write_images(tmp_path / "images", [f"{stem}.png"])
    (tmp_path / "maps").mkdir()
    save(tmp_path / "maps", f"{stem}.npy", np.array([[NAN]]))
    asked = ("score", tmp_path / "maps", "--images", images, "--classifier", CLASSIFIER, "--out", tmp_path / "s.json")
    said = ptame(*asked, code=1)
    assert "values that are NaN" in said
    assert all(is_one_line(line) for line in said.split("\n"))
