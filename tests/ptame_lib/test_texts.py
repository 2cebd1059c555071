"""Texts of strangers are shown by terminals, Markdown, HTML and Python, and obeyed by none."""

import ast
from html.parser import HTMLParser

import pytest
from refusals import HOSTILE, is_one_line

from ptame_lib.texts import in_code, in_html, in_markdown, in_python, printable

ORDINARY = (
    "timm/vit_small_patch16_224",
    "tabby, tabby cat",
    "features.2",
    "naïve 50 %",
    "می‌خواهم",
    "a (b) [c]",
    "1e-3",
)


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, attrs))

    def handle_data(self, data):
        self.text += data


def renderers():
    """Two dialects of Markdown."""
    python_markdown = pytest.importorskip("markdown")
    mistune = pytest.importorskip("mistune")
    yield lambda text: python_markdown.markdown(text, extensions=["tables", "fenced_code"])
    yield mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "url"])


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_is_obeyed(name):
    text = HOSTILE[name]
    shown = printable(text)
    assert is_one_line(shown)
    assert ast.literal_eval(in_python(text)) == text
    assert is_one_line(in_python(text))
    page = Page(f'<p title="{in_html(text)}">{in_html(text)}</p>')
    assert (page.elements, page.text) == ([("p", [("title", shown)])], shown)
    for render in renderers():
        page = Page(render(f"a {in_markdown(text)} b"))
        assert ([tag for tag, _ in page.elements], page.text.strip()) == (["p"], f"a {shown} b")
        page = Page(render(f"a {in_code(text)} b"))
        assert [tag for tag, _ in page.elements] == ["p", "code"]
        assert page.text.split() == f"a {shown} b".split()


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_names_stay_as_they_are(text):
    assert printable(text) == in_markdown(text) == in_html(text) == text
    assert (in_code(text), in_python(text)) == (f"`{text}`", f'"{text}"')


def test_a_long_text_is_cut_before_it_is_escaped():
    assert printable("\n" * 1000, 3) == "\\n\\n\\n... (1000 letters)"
    assert printable("abc", 3) == "abc"
    assert printable(7) == "7"
    assert printable("a\nb\r", keep="\n") == "a\nb\\r"
