"""`ptame report`: what the page says, that it can be read by everybody, and that nothing on it is obeyed."""

import base64
import hashlib
import io
import json
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import rand
from markupsafe import Markup
from PIL import Image
from refusals import HOSTILE, assert_answer, is_one_line, refused
from typer.testing import CliRunner

from ptame_lib import PTAME, ImageFolder, explain_with_evidence, load_auxiliary, load_classifier
from ptame_lib.classifiers.contrast import contrast
from ptame_lib.methods.catalogue import build_methods
from ptame_lib.texts import MOST, printable
from ptame_study.command import explained, html_report, reporting
from ptame_study.command.cli import app

VOID = {"meta", "img"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """The page's elements in order with their attributes, and its texts."""

    def __init__(self, file):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(file.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"] and data.strip():
            self.texts.append(" ".join(data.split()))

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]

    @property
    def said(self):
        return " ".join(self.texts)


def explainer(file, **metadata):
    torch.manual_seed(0)
    PTAME(load_auxiliary("embedded/auxiliary"), 10).eval().save(file, classifier="embedded/vgg", **metadata)
    return file


def photograph(file):
    Image.fromarray((rand(75, 90, 3) * 255).byte().numpy()).save(file)
    return file


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder, the page and the JSON of a report with everything on it, by the command."""
    folder = tmp_path_factory.mktemp("report")
    file, image = explainer(folder / "e.safetensors", images="5 images"), photograph(folder / "cat.png")
    arguments = ["report", image, "--explainer", file, "--out", folder / "r.html", "--methods", "LayerCAM, occlusion"]
    found = CliRunner().invoke(app, [*map(str, arguments), "--class", "3", "--class", "#5", "--against", "1"])
    assert found.exit_code == 0, found.output
    assert f"written: {folder / 'r.html'}\nwritten: {folder / 'r.json'}" in found.output
    return folder, Page(folder / "r.html"), json.loads((folder / "r.json").read_text())


def test_the_decision_and_the_next_four_classes_are_those_of_the_classifier(written):
    folder, page, told = written
    pixels = ImageFolder(folder, 64, 73)[0]["pixels"][None]
    probabilities = load_classifier("embedded/vgg")(pixels)[0].double().softmax(0)
    values, classes = probabilities.topk(5)
    assert [row["number"] for row in told["classes"]] == classes.tolist()
    assert [row["probability"] for row in told["classes"]] == pytest.approx(values.tolist(), abs=1e-6)
    assert told["decision"]["evidence"]["is the decision"] is True
    explained_ = [part["evidence"]["class"]["number"] for part in (told["decision"], *told["others"])]
    assert explained_ == list(dict.fromkeys([*classes.tolist(), 3, 5]))
    assert f"The classifier decides for {classes[0]}, with a probability of " in page.said


def test_each_map_is_that_of_its_method(written):
    folder, _, told = written
    pixels = ImageFolder(folder, 64, 73)[0]["pixels"][None]
    classifier, c = load_classifier("embedded/vgg"), told["classes"][0]["number"]
    assert [part["method"] for part in told["methods"]] == ["P-TAME", "LayerCAM", "occlusion"]
    assert told["methods"][0]["evidence"] == told["decision"]["evidence"]
    methods = build_methods(classifier, names=["LayerCAM", "occlusion"])
    for part, method in zip(told["methods"][1:], methods, strict=True):
        _, proof = explain_with_evidence(method, classifier, pixels, torch.tensor([c]))
        assert part["evidence"] == proof.as_dict()
    [part] = told["contrasts"]
    assert (part["numbers"], part["one"], part["other"], part["method"]) == ([c, 1], str(c), "1", "HiResCAM")
    between = contrast(classifier, c, 1)
    [method] = build_methods(between, names=["HiResCAM"])
    assert part["evidence"] == explain_with_evidence(method, between, pixels, torch.tensor([0]))[1].as_dict()
    assert part["evidence"]["text"].startswith(f"{c} against 1: ")


def test_page_and_json_say_the_same(written):
    folder, page, told = written
    parts = [told["decision"], *told["others"], *told["methods"], *told["contrasts"]]
    for part in parts:
        assert part["evidence"]["text"] in page.said
        assert part["evidence"]["warning"] in page.said
    assert len(page.all("img")) == 1 + 5 * len(parts)
    for file in ("cat.png", "e.safetensors"):
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() in page.said
    for said in (told["created"], told["provenance"]["commit"], told["provenance"]["classifier"]["weights_sha256"]):
        assert said in page.said
    assert "5 images" in page.said


def test_pictures_are_those_that_were_asked_about(written):
    """The picture of what is kept on black has the pixels of the image where it is not black."""
    folder, page, told = written
    [shown] = [a for a in page.all("img") if "all others are black" in a["alt"]][:1]
    picture = Image.open(io.BytesIO(base64.b64decode(shown["src"].partition(",")[2])))
    kept = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    pixels = ImageFolder(folder, 64, 73)[0]["pixels"]
    there = kept.sum(0) > 0
    assert there.float().mean().item() == pytest.approx(told["decision"]["evidence"]["shown"], abs=1e-3)
    assert (kept - pixels)[:, there].abs().max() < 1e-2


def test_the_page_can_be_read_by_everybody(written):
    _, page, _ = written
    assert page.all("html") == [{"lang": "en"}]
    assert all(each["alt"].strip() for each in page.all("img"))
    assert all(each["scope"] in ("row", "col", "colgroup") for each in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption"))
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {each["href"] for each in page.all("a")} <= {f"#{i}" for i in ids}
    assert all(each["aria-labelledby"] in ids for each in page.all("section"))


def test_cautions_about_the_explainer_are_on_the_page(tmp_path):
    """One of another classifier, whose maps were not shown to follow their own."""
    metrics = {"moved": 5.0, "moved more": 0.1, "from": -1.0, "to": 1.2}
    file, said = explainer(tmp_path / "<i>.safetensors", metrics=metrics), []
    image = photograph(tmp_path / "cat.png")
    [out, told] = reporting.report(image, file, tmp_path / "r.html", classifier="embedded/resnet", say=said.append)
    told, page = json.loads(told.read_text()), Page(out)
    assert told["cautions"] == [
        "<i>.safetensors was trained for embedded/vgg, not for embedded/resnet.",
        "<i>.safetensors was not shown to follow its classifier: see its model card.",
    ]
    assert said == [f"Caution: {caution}" for caution in told["cautions"]]
    assert all(caution in page.said for caution in told["cautions"])
    assert told["follows its classifier"] == "no"
    assert_harmless(page)


def assert_harmless(page):
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "iframe", "object", "link", "form", "svg", "base"})
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:").startswith("data:image/png;base64," if tag == "img" else "data:")
    [policy] = [each["content"] for each in page.all("meta") if "http-equiv" in each]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def unnamed(*arguments):
    found = load_classifier(*arguments)
    found.labels = None
    return found


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What the template is given for a report."""
    folder, given = tmp_path_factory.mktemp("parts"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html_report, "page", lambda parts: given.append(parts) or "")
        file = explainer(folder / "e.safetensors", images="5 images", metrics={"faithful": 5.0})
        list(reporting.report(photograph(folder / "cat.png"), file, folder / "r.html", methods=["LayerCAM"]))
    return given[0]


def with_text(value, text):
    """All strings with a text behind them, and all names of the card's rows."""
    if isinstance(value, dict):
        return {
            key: {name: {row + text: with_text(v, text) for row, v in table.items()} for name, table in held.items()}
            if key == "card"
            else with_text(held, text)
            for key, held in value.items()
        }
    if isinstance(value, list):
        return [with_text(each, text) for each in value]
    return value + text if isinstance(value, str) and not isinstance(value, Markup) else value


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_text_reaches_the_page_is_not_obeyed(name, parts, tmp_path):
    """Any string: the page's elements are those of harmless ones, and the texts are there to be read."""
    pages = []
    for text in ("x", HOSTILE[name]):
        file = tmp_path / f"{len(text)}.html"
        file.write_text(html_report.page(with_text(parts, text)), encoding="utf-8")
        pages.append(Page(file))
    harmless, hostile = pages
    assert_harmless(hostile)
    assert [(tag, sorted(a)) for tag, a in hostile.elements] == [(tag, sorted(a)) for tag, a in harmless.elements]
    assert all(is_one_line(text) for text in hostile.texts)
    start = printable(parts["decision"]["title"] + HOSTILE[name], html_report.MOST)
    assert " ".join(start.split()) in hostile.said


def test_hostile_names_are_told_as_texts(tmp_path, monkeypatch):
    """From the explainer's file and the image's name to the page and the JSON."""
    monkeypatch.setattr(explained, "load_classifier", unnamed)
    texts = list(HOSTILE.values())[:20:2]
    image = photograph(tmp_path / f"{HOSTILE['script']}{HOSTILE['colour']}.png")
    file = explainer(tmp_path / "e.safetensors", labels=texts, images=HOSTILE["attribute"], seed=HOSTILE["script"])
    [page, told] = reporting.report(image, file, tmp_path / "r.html")
    page, told = Page(page), json.loads(told.read_text())
    assert_harmless(page)
    for name in [printable(image.name), *(row["name"] for row in told["classes"])]:
        assert " ".join(name.split()) in page.said
    assert {row["name"] for row in told["classes"]} <= {printable(text, MOST) for text in texts}
    assert told["image"]["file"] == printable(image.name)


@pytest.mark.skipif(BROWSER is None or shutil.which("chromedriver") is None, reason="needs chromium-driver")
def test_a_browser_shows_a_hostile_page_as_it_is(tmp_path, monkeypatch):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    monkeypatch.setattr(explained, "load_classifier", unnamed)
    attacks = ["<img src=x onerror=document.title=1>", "</bdi></h3><script>document.title=2</script>",
               '" onload="document.title=3" x="', "<style>*{display:none}</style>", "<base href=//x.y>"]  # fmt: skip
    image = photograph(tmp_path / "<img src=x onerror=document.title=4>.png")
    file = explainer(tmp_path / "e.safetensors", labels=attacks * 2)
    list(reporting.report(image, file, tmp_path / "r.html"))
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(each)
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get((tmp_path / "r.html").as_uri())
        assert browser.title == f"Explanation of one decision: {image.name}"
        count = "return document.querySelectorAll(arguments[0]).length"
        assert browser.execute_script(count, "script, [onerror], [onload], base, style ~ style") == 0
        loaded = "return [...document.images].map(i => i.complete && i.naturalWidth > 0)"
        assert set(browser.execute_script(loaded)) == {True}
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        for width in (1200, 400):  # a telephone, too
            browser.set_window_size(width, 900)
            assert browser.execute_script(wide) <= 0
        assert [log for log in browser.get_log("browser") if "favicon" not in log["message"]] == []
    finally:
        browser.quit()


def test_where_the_first_pixels_lie_is_said():
    shown = torch.zeros(9, 9, dtype=torch.bool)
    assert html_report.where(shown) == "It puts no pixels first."
    shown[:3, 6:] = True
    shown[4, 4] = True
    assert html_report.where(shown) == "Of its first pixels 90% lie in the upper right."
    assert html_report.where(torch.ones(9, 9) > 0) == "Its first pixels are spread over the image."


def test_a_classifier_that_finds_nothing_is_said_to():
    class Proof:
        multi_label, targets, whole, decided = True, [0], [0.2], [False]
        name = staticmethod(lambda c: "cat")

    assert reporting._answer(Proof) == "The classifier finds none of its classes. The likeliest is cat, with 20%."
    Proof.decided, Proof.whole = [True], [0.8]
    assert reporting._answer(Proof).startswith("The classifier finds cat, with a probability of 80%")


def asked(place, out="r.html", image="cat.png", **options):
    file = explainer(place / "e.safetensors")
    photograph(place / "cat.png")
    return list(reporting.report(place / image, file, place / out, **options))


ROWS = {
    "no image": (lambda place: asked(place, image="no.png"), refused(r"no image at .*no\.png", FileNotFoundError)),
    "a folder": (lambda place: asked(place, image="."), refused(r"is a folder: a report is about one image file")),
    "another ending": (lambda place: asked(place, "cat.png"), refused(r"must end in \.html, not as .*cat\.png")),
    "a page that is there": (
        lambda place: (place.file("r.html", "mine"), asked(place)),
        refused(r"r\.html exists: delete it, or choose another file with --out"),
    ),
    "JSON that is there": (lambda place: (place.file("r.json", "{}"), asked(place)), refused(r"r\.json exists")),
    "an unknown method": (
        lambda place: asked(place, methods=["GradCAM"]),
        refused("unknown method 'GradCAM': did you mean Grad-CAM\\? Else choose from Grad-CAM, "),
    ),
    "a control that sees the truth": (
        lambda place: asked(place, methods=["ground truth"]),
        refused("'ground truth' is given the truth"),
    ),
    "an unknown class": (lambda place: asked(place, wanted=["ten"]), refused("the classifier has no class ten")),
    "an unknown class against": (lambda place: asked(place, against=["11"]), refused("has no class 11")),
    "an image that is none": (
        lambda place: asked(place, image=place.file("x.png", "no image").name),
        refused(r"the image .*x\.png can't be read"),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)
    assert {p.name for p in Path(place.folder).iterdir()} <= {"e.safetensors", "cat.png", "x.png", "r.html", "r.json"}
    assert not (place / "r.html").exists() or name == "a page that is there"
