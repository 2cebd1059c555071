"""Make executed notebooks ready to read: set-up folded, the question's picture beside the question, no times of a run.

``python workflow/fold_notebooks.py [NOTEBOOK...]`` (default: all in notebooks/) changes metadata and the first cell
only, so outputs stay valid, and is to be run after a notebook was executed; `check_notebooks.py` says so. A code cell
that shows nothing, or imports, is set-up: its tag ``hide-input`` folds it on the site and in HTML, ``source_hidden`` in
JupyterLab. The picture is that of the cell with the tag ``picture``, else the first one. Last it makes the start page
(`start_page`). It needs no package.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import start_page

ROOT = Path(__file__).resolve().parent.parent
FOLDED = "hide-input"
TIMES = ("execution", "papermill")  # metadata of one run, other at each
APP = "app"  # the tag of the first cell of a notebook that voila shows as a page


def ready(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook (its JSON), with set-up folded, the picture in its first cell, and without `TIMES`."""
    notebook = copy.deepcopy(notebook)
    for part in (notebook, *notebook["cells"]):
        for key in TIMES:
            part["metadata"].pop(key, None)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            _fold(cell["metadata"], _is_setup(cell))
    first = notebook["cells"][0]
    if APP in first["metadata"].get("tags", []):  # a page of its own, on which no attachment would be found
        _hide(first)
        first.pop("attachments", None)
    elif found := start_page.picture(notebook):
        _show(first, *found)
    return notebook


def _is_setup(cell: dict[str, Any]) -> bool:
    lines = "".join(cell["source"]).splitlines()
    imports = any(line.startswith(("import ", "from ")) for line in lines)
    return "parameters" not in cell["metadata"].get("tags", []) and (imports or not cell["outputs"])


def _fold(metadata: dict[str, Any], folded: bool) -> None:
    """Set or take away what folds a cell's code, in its metadata."""
    others = [tag for tag in metadata.get("tags", []) if tag != FOLDED]
    if folded or others or "tags" in metadata:
        metadata["tags"] = others + [FOLDED] * folded
    hidden = {key: value for key, value in metadata.pop("jupyter", {}).items() if key != "source_hidden"}
    if hidden := hidden | ({"source_hidden": True} if folded else {}):
        metadata["jupyter"] = hidden


def _hide(cell: dict[str, Any]) -> list[str]:
    """Take an earlier picture out of the first cell, and return its paragraphs."""
    paragraphs = "".join(cell["source"]).split("\n\n")
    paragraphs = [text for text in paragraphs if f"(attachment:{start_page.PICTURE})" not in text]
    cell["source"] = "\n\n".join(paragraphs).splitlines(keepends=True)
    return paragraphs


def _show(cell: dict[str, Any], png: str, alt: str) -> None:
    """Put the picture under the question's paragraph of the first cell, in place of an earlier one."""
    paragraphs = _hide(cell)
    at = next((i for i, text in enumerate(paragraphs) if text.startswith(start_page.QUESTION)), 0)
    paragraphs.insert(at + 1, start_page.shown(alt))
    cell["source"] = "\n\n".join(paragraphs).splitlines(keepends=True)
    cell["attachments"] = {start_page.PICTURE: {"image/png": png}}


def notebooks() -> list[Path]:
    """The study's notebooks, in order, without the start page."""
    return sorted(file for file in (ROOT / "notebooks").glob("*.ipynb") if file.name != start_page.NAME)


def start() -> dict[str, Any]:
    """The start page as it should be."""
    return start_page.page({file.name: json.loads(file.read_text(encoding="utf-8")) for file in notebooks()})


def main(arguments: list[str]) -> None:
    for file in [Path(name) for name in arguments] or notebooks():
        _write(file, ready(json.loads(file.read_text(encoding="utf-8"))))
    _write(ROOT / "notebooks" / start_page.NAME, start())


def _write(file: Path, notebook: dict[str, Any]) -> None:
    """Write a notebook as Jupyter does, where it changed."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")
        print("written:", file)


if __name__ == "__main__":
    main(sys.argv[1:])
