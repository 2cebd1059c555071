"""Notebook 09 with files of strangers: names are text, uploads limited, other files not served."""

import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from helpers import rand
from PIL import Image
from processes import ask, voila_server
from refusals import HOSTILE, is_one_line

import ptame_lib
from ptame_lib import PTAME, load_auxiliary
from ptame_study import explorer

ROOT = Path(ptame_lib.__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "09_explorer.ipynb"
ALLOWED = {"b", "bdi", "div"}  # elements that the page itself makes


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found |= {tag} | {name for name, _ in attributes}


def test_labels_and_names_reach_the_page_as_text(study_root, monkeypatch):
    """It is run with a stranger's explainer of a network without labels, on an image of an odd name."""
    papermill = pytest.importorskip("papermill")
    pytest.importorskip("ipywidgets")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    hostile = [HOSTILE[name] for name in HOSTILE if name != "long"]
    (study_root / "data").mkdir()
    (study_root / "data" / "embedded").symlink_to(ROOT / "data" / "embedded")
    torch.manual_seed(0)
    about = {"classifier": "timm/test_vit", "weights": "none", "images": HOSTILE["title of the terminal"]}
    labels = [hostile[i % len(hostile)] + HOSTILE["script"] for i in range(1000)]
    PTAME(load_auxiliary("embedded/auxiliary"), 1000).save(study_root / "e.safetensors", labels=labels, **about)
    (study_root / "photos").mkdir()
    image = Image.fromarray((rand(64, 64, 3) * 255).byte().numpy())
    image.save(study_root / "photos" / "<img src=x onerror=alert(1)>$x_$\x1b.png")

    given = {"explainer": str(study_root / "e.safetensors"), "images": str(study_root / "photos")}
    out = study_root / "out.ipynb"
    papermill.execute_notebook(
        str(NOTEBOOK), str(out), given | {"methods": ["random"]}, cwd=str(study_root), kernel_name="python3",
        progress_bar=False,
    )  # fmt: skip
    notebook = json.loads(out.read_text())
    widgets = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    pages = [w["state"]["value"] for w in widgets if w["model_name"] in ("HTMLModel", "HTMLMathModel")]
    assert sum("&lt;img src=x" in page for page in pages) >= 1
    assert set().union(*(Tags(page).found for page in pages)) <= ALLOWED | {"class", "style"}
    assert all(is_one_line(page) for page in pages)
    assert not any(w["state"].get("description_allow_html") for w in widgets)
    printed = [o["text"] for cell in notebook["cells"] for o in cell.get("outputs", []) if o.get("name") == "stdout"]
    assert all(is_one_line(line) for text in printed for line in "".join(text).split("\n"))


def voila_settings():
    voila = pytest.importorskip("voila.app")
    app = voila.Voila()
    app.load_config_file("voila", path=[str(ROOT)])
    return app


def test_both_servers_take_more_than_the_page_does():
    """What is larger than the page takes must reach it, else it can't say so."""
    limit = voila_settings().tornado_settings["websocket_max_message_size"]
    assert limit >= 4 * explorer.LARGEST
    assert f"'websocket_max_message_size': {limit}" in (ROOT / "Makefile").read_text()


@pytest.fixture
def voila(tmp_path):
    """The address of voila as README starts it, on a copy of the notebook with other files next to it."""
    pytest.importorskip("voila")
    (tmp_path / "voila.json").write_text((ROOT / "voila.json").read_text())
    folder = tmp_path / "notebooks"
    (folder / "private").mkdir(parents=True)
    (folder / NOTEBOOK.name).write_text(NOTEBOOK.read_text())
    for place in (tmp_path, folder, folder / "private"):
        (place / "photo.png").write_bytes(b"SECRET")
        (place / "notes.txt").write_bytes(b"SECRET")
    with voila_server(tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)}) as address:
        yield address


def test_no_file_is_served(voila):
    names = ("photo.png", "notes.txt", "private/photo.png", "../photo.png", "%2e%2e/notes.txt", NOTEBOOK.name)
    for base in ("voila/files/", "voila/static/", "voila/templates/lab/static/", "static/"):
        for name in names:
            status, content = ask(f"{voila}{base}{name}")
            assert b"SECRET" not in content
            assert status in (403, 404) or base != "voila/files/"
