"""The site holds the README and every notebook with its outputs, and asks nobody for anything."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

from ptame_lib.explainers.loading import EXPLAINER, TRAINED
from ptame_lib.methods import AS_PUBLISHED, ASKING, BESIDE, CATALOGUE

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


class Page(HTMLParser):
    """Images' texts, and what the page loads."""

    def __init__(self, text):
        super().__init__()
        self.alts, self.loads = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "img":
            self.alts.append(found.get("alt") or "")
        if tag in ("img", "script", "link", "iframe", "source"):
            self.loads.append(found.get("src") or found.get("href") or "")


@pytest.fixture(scope="module")
def site(made_once):
    return made_once("site", build)


def build(folder):
    offline = {"NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    found = subprocess.run(command, cwd=ROOT, env=os.environ | offline, capture_output=True, text=True)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")  # strict: no warning either


def test_the_readme_names_every_profile():
    text = (ROOT / "README.md").read_text()
    names = [file.stem for file in (ROOT / "workflow" / "profiles").glob("*.yaml")]
    short = [re.sub(r"^(table\d)-.*", r"\1-*", name) for name in names]
    assert [name for name in short if f"`{name}`" not in text] == []


def test_every_notebook_is_a_page_in_order(site):
    nav = re.findall(r'href="(notebooks/\w+\.html)"', (site / "index.html").read_text())
    assert list(dict.fromkeys(nav))[: len(NOTEBOOKS)] == [f"notebooks/{file.stem}.html" for file in NOTEBOOKS]
    for page in (
        "CONTRIBUTING.html",
        "CHANGELOG.html",
        "results/reference/compare.csv",
        "workflow/profiles/embedded.yaml",
    ):
        assert (site / page).is_file()


@pytest.mark.parametrize("name", ["index", "README", *(f"notebooks/{file.stem}" for file in NOTEBOOKS)])
def test_a_page(site, name):
    text = (site / f"{name}.html").read_text()
    page = Page(text)
    assert [address for address in page.loads if address.startswith(("http", "//"))] == []
    assert all(len(alt) > 20 and not alt.startswith("No description") for alt in page.alts)
    if name.startswith("notebooks"):
        committed = (ROOT / f"{name}.ipynb").read_text()
        assert len(page.alts) == committed.count('"image/png": "')
        assert len(re.findall(r"<h1\b", text)) == 1


def test_set_up_is_folded(site):
    for file in NOTEBOOKS:
        tagged = sum("hide-input" in cell["metadata"].get("tags", []) for cell in json.loads(file.read_text())["cells"])
        folded = (site / "notebooks" / f"{file.stem}.html").read_text().count('<details class="folded">')
        assert tagged == folded > 0, file.name


def test_the_start_page_is_the_first_page(site):
    """What JupyterLab opens at: each notebook's question and picture, and the answers."""
    text = (site / "index.html").read_text()
    for file in NOTEBOOKS:
        assert f'href="notebooks/{file.stem}.html">{file.stem[:2]} · ' in text
        assert f'src="pictures/{file.stem}.png"' in text
        assert (site / "pictures" / f"{file.stem}.png").read_bytes().startswith(b"\x89PNG")
    assert text.count("<strong>Question.</strong>") == len(NOTEBOOKS)
    assert text.count("<strong>Answer.</strong>") > 6
    assert 'href="README.html"' in text


def test_the_readme_is_a_page(site):
    text = (site / "README.html").read_text()
    assert "<table>" in text[text.index("end of results") - 5000 :]
    assert 'src="figures/reference/photographs.png"' in text
    results = (site / "docs" / "results.html").read_text()
    assert 'src="../figures/reference/methods.png"' in results
    assert "<table>" in results[results.index("end of main table") - 5000 :]
    assert 'href="notebooks/00_data.html"' in text[text.index("The notebooks") :]
    assert 'href="index.html">a page</a>' in text


def test_every_methods_difference_from_its_source_is_stated(site):
    table = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| ")]
    named = {name.strip() for row in rows for name in row.split(",")}
    assert {*CATALOGUE, *AS_PUBLISHED, *TRAINED, *EXPLAINER, *BESIDE, *ASKING, "RTIS", "method"} == named
    assert "<h1" in (site / "docs" / "methods.html").read_text(encoding="utf-8")


def test_a_figure_without_a_text_fails_the_build(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("pages", ROOT / "workflow" / "pages.py")
    spec.loader.exec_module(pages := importlib.util.module_from_spec(spec))
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    shown = [
        {"data": {"image/png": "x"}, "metadata": {"image/png": {"alt": "<a> & b"}}},
        {"data": {"image/png": "y"}, "metadata": {}},
    ]
    page = SimpleNamespace(file=SimpleNamespace(src_uri="n.ipynb"))
    content = f"1<img {pages.NO_ALT}>2<img {pages.NO_ALT}>"
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [{"outputs": shown}]}))
    with pytest.raises(
        PluginError, match=r"n\.ipynb has 2 images, and alternative texts of 1: show every figure by figures\.show"
    ):
        pages.on_page_content(content, page)
    shown[1]["metadata"] = {"image/png": {"alt": "c"}}
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [{"outputs": shown}]}))
    assert pages.on_page_content(content, page) == '1<img alt="&lt;a&gt; &amp; b">2<img alt="c">'
