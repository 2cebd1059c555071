"""The explorer's page and the figures show names and labels as text, and two pages share nothing."""

import warnings
from html.parser import HTMLParser

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from helpers import Quarter, rand
from refusals import HOSTILE, is_one_line

from ptame_lib import explain_with_evidence
from ptame_lib.texts import MOST, printable
from ptame_study import figures, one_image, page
from ptame_study.explorer import LARGEST, Explorer, read_image
from ptame_study.lettering import lettered


class Elements(HTMLParser):
    """The elements and attributes of HTML, and its text."""

    def __init__(self, html):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, attributes))

    def handle_endtag(self, tag):
        self.found.append(f"end of {tag}")

    def handle_data(self, data):
        self.text += data


# everything on the page that holds a text from a file
PARTS = {
    "title": page.title,
    "bar": lambda text: page.bar("kept", 0.5, text),
    "verdict": lambda text: page.verdict("99% on the whole image.", f"Do not rely on {text}."),
    "evidence": lambda text: page.verdict(text, ""),
    "uploaded": page.shown,
    "refused": lambda text: page.refused(ValueError(text)),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", HOSTILE)
def test_the_page_obeys_no_text(part, name):
    harmless, hostile = (Elements(PARTS[part](text)) for text in ("harmless", HOSTILE[name]))
    assert hostile.found == harmless.found
    limit = MOST if part in ("title", "bar", "uploaded") else None
    assert hostile.text == harmless.text.replace("harmless", printable(HOSTILE[name], limit))


def test_the_page_says_what_it_did_before():
    assert Elements(page.bar("rest", 0.125, "7")).text == "rest (→ 7): 12 %"
    assert Elements(page.bar("kept", 1)).text == "kept: 100 %"
    assert 'class="ptame-kept"' in page.bar("kept", 1)
    assert Elements(page.verdict("cat: 99%.", "")).text == "cat: 99%."
    assert Elements(page.verdict("cat: 99%.", "Beware.")).text == "Beware.cat: 99%."


class Named(Quarter):
    labels = ("dark", "bright")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_figure_draws_every_label_as_it_is(name):
    classifier = Named()
    classifier.labels = (HOSTILE[name], HOSTILE[name])
    pixels = rand(1, 3, 16, 16)
    _, proof = explain_with_evidence(lambda pixels, targets: rand(len(pixels), 16, 16), classifier, pixels)
    figures.use_style()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "(Tight layout|constrained_layout) not applied")  # a long name
        drawn = one_image.explanation(pixels[0], rand(16, 16), proof)
        drawn.canvas.draw()
        said = drawn.axes[0].get_title() + drawn.texts[0].get_text()
        assert all(is_one_line(line) for line in said.split("\n"))
        if name == "formula":
            assert "$x_$" in said
        plt.close(drawn)
        drawn = figures.grid([[pixels[0]]], [HOSTILE[name][:200]], [HOSTILE[name][:200]])
        drawn.canvas.draw()
        plt.close(drawn)


def test_letters_that_no_font_has_are_escapes(monkeypatch):
    monkeypatch.setitem(figures.matplotlib.rcParams, "font.family", ["DejaVu Sans"])
    assert lettered("naïve שלום ½ cat") == "naïve שלום ½ cat"
    assert lettered("猫 cat") == "\\u732b cat"
    assert lettered("a\nb\x1b") == "a\nb\\x1b"


@pytest.mark.parametrize("name", ["formula", "colour", "script"])
def test_names_in_titles_and_legends_are_no_formulas(name, monkeypatch):
    """Classifiers and methods of a profile, in figures that notebooks draw, and in the alternative text."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda _, metadata: shown.append(metadata["image/png"]["alt"]))
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks
        figures.use_style()
        figure, axis = plt.subplots()
        axis.plot([0, 1], label=HOSTILE[name])
        axis.set(title=HOSTILE[name], xticks=[0, 1], xticklabels=[HOSTILE[name], "b"])
        axis.legend()
        figure.draw_without_rendering()
        figures.show(figure, f"Lines of {HOSTILE[name]}")
    assert is_one_line(shown[0])


def maps(pixels, targets):
    return torch.linspace(0, 1, 100).view(1, 10, 10).expand(len(pixels), -1, -1)


def test_two_visitors_share_nothing():
    methods = {"m": maps}
    one, other = (Explorer(Named(), methods) for _ in range(2))
    one.open(torch.ones(3, 10, 10))
    assert other.pixels is None
    with pytest.raises(ValueError, match="no image is open"):
        other.at(0.5)
    other.open(torch.zeros(3, 10, 10))
    seen = one.target, one.explained("m").mask, one.at(0.5)["m"].kept
    other.choose(1 - other.target)
    other.explained("m"), other.at(0.1)
    other.methods["n"] = maps
    assert list(one.methods) == list(methods) == ["m"]
    assert (one.target, one.at(0.5)["m"].kept) == (seen[0], seen[2])
    assert one.explained("m").mask is seen[1]
    assert one.pixels.equal(torch.ones(1, 3, 10, 10))
    assert other.explained("m") is not one.explained("m")


def test_a_large_upload_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("ptame_study.explorer._Upload", None)
    with pytest.raises(ValueError, match=r"^a\\x1bb\.png has 50 MB, more than 50 MB: make the image smaller"):
        read_image(bytes(LARGEST + 1), 64, "a\x1bb.png")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_of_an_upload_is_shown_as_text(name):
    with pytest.raises(ValueError, match="can't be read as an image") as caught:
        read_image(b"text", 64, HOSTILE[name])
    assert is_one_line(str(caught.value))
    assert len(str(caught.value)) < 300
