"""The start page, ``notebooks/index.ipynb``: what each notebook asks, its picture, and its answer.

``python workflow/fold_notebooks.py`` makes it from the executed notebooks. JupyterLab opens at it (``make lab``), and
it is the site's first page. An answer is what the cell with the tag ``answer`` printed. It needs no package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAME = "index.ipynb"
QUESTION, PICTURE = "**Question.**", "picture.png"
MOST = 5  # lines of an answer
HEAD = """# P-TAME study: start here

P-TAME shows which pixels an image classifier used. This study trains it, compares it with other methods, and says where
it loses. Each notebook below asks one question; its picture and its answer are those of the committed run, which is
small. The numbers of the full study are in [the README](../README.md) and in [all results](../docs/results.md).

To explain your own classifier, open [notebook 10](10_explain_your_classifier.ipynb). To look around in one image, open
[notebook 09](09_explorer.ipynb)."""


def page(notebooks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The start page of these notebooks (their JSON, by file name), as JSON."""
    cells = [_cell("start", HEAD), *(_entry(name, notebook) for name, notebook in notebooks.items())]
    metadata = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _entry(name: str, notebook: dict[str, Any]) -> dict[str, Any]:
    """One notebook: its title, question, picture and answer."""
    first = notebook["cells"][0]
    title, *paragraphs = "".join(first["source"]).split("\n\n")
    question = next((text for text in paragraphs if text.startswith(QUESTION)), "")
    found = picture(notebook)
    parts = [f"## [{title.removeprefix('# ')}]({name})", question, shown(found[1]) if found else "", answer(notebook)]
    attached = {PICTURE: {"image/png": found[0]}} if found else None
    return _cell(Path(name).stem, "\n\n".join(filter(None, parts)), attached)


def picture(notebook: dict[str, Any]) -> tuple[str, str] | None:
    """The PNG that answers the question, in base64, and its alternative text; None in a notebook without figures."""
    shown = [
        (cell, output)
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    chosen = [output for cell, output in shown if "picture" in cell["metadata"].get("tags", [])]
    for output in [*chosen, *(output for _, output in shown)][:1]:
        alt = output["metadata"].get("image/png", {}).get("alt", "")
        return "".join(output["data"]["image/png"]), alt
    return None


def shown(alt: str) -> str:
    """The picture that is attached to a cell, as Markdown."""
    plain = alt.replace("[", "(").replace("]", ")").replace("\n", " ")
    return f"![{plain}](attachment:{PICTURE})"


def answer(notebook: dict[str, Any]) -> str:
    """What a notebook's cells with the tag ``answer`` printed, as Markdown; empty without any."""
    told = [cell["outputs"] for cell in notebook["cells"] if "answer" in cell["metadata"].get("tags", [])]
    lines = "".join("".join(output.get("text", "")) for outputs in told for output in outputs).splitlines()
    lines = [_plain(line.strip()) for line in lines if line.strip() and not line.startswith("written:")]
    lines = [line[0].upper() + line[1:] for line in lines]
    if len(lines) > MOST:
        lines = [*lines[:MOST], f"... and {len(lines) - MOST} more lines there."]
    if len(lines) < 2:
        return "".join(f"**Answer.** {line}" for line in lines)
    return "**Answer.**\n\n" + "\n".join(f"- {line}" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|$" else c for c in text)


def _cell(name: str, text: str, attachments: dict[str, Any] | None = None) -> dict[str, Any]:
    more = {"attachments": attachments} if attachments else {}
    cell = {"cell_type": "markdown", "id": name[:64], "metadata": {}, "source": text.splitlines(keepends=True)}
    return cell | more
