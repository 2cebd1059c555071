"""The committed notebooks are fit to be read, and the check of that finds what is planted."""

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from ptame_study import figures

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "workflow" / "check_notebooks.py"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
spec = importlib.util.spec_from_file_location("check_notebooks", SCRIPT)
check_notebooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_notebooks)


def cell(source, count=None, outputs=(), kind="code"):
    made = {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)}
    return made | ({"execution_count": count, "outputs": list(outputs)} if kind == "code" else {})


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": [text]}


def image(**metadata):
    return {
        "output_type": "display_data",
        "data": {"image/png": "iVBOR/home/w==", "text/plain": "<Figure>"},
        "metadata": metadata,
    }


GOOD = {
    "metadata": {"kernelspec": {"name": "python3"}},
    "cells": [
        cell("# 00 · A title\n\n```bash\n# no heading\n```", kind="markdown"),
        cell("1 + 1", 1, [{"output_type": "execute_result", "data": {"text/plain": "2"}, "metadata": {}}]),
        cell("## A section\n\n### A part", kind="markdown"),
        cell("", None),  # an empty cell is never executed
        cell("figures.show(figure, alt)", 2, [image(**{"image/png": {"alt": "A curve that falls from 3 to 1."}})]),
        cell("print(paths.show(file), 'see https://x.org/home/me')", 3, [stream("results/small/a.csv and a/tmp/b\n")]),
        cell("## Another section", kind="markdown"),
    ],
}


def planted(number, **changes):
    """The good notebook with the 1-based cell changed."""
    notebook = copy.deepcopy(GOOD)
    notebook["cells"][number - 1].update(changes)
    return notebook


def test_a_good_notebook_has_no_faults():
    assert list(check_notebooks.faults(GOOD)) == []


@pytest.mark.parametrize(
    ("notebook", "fault"),
    [
        (planted(2, execution_count=None), "cell 2 has not been executed"),
        (planted(5, execution_count=4), "cell 5 was executed as number 4 instead of 2: restart the kernel"),
        (planted(5, execution_count=1), "cell 5 was executed as number 1 instead of 2"),
        (
            planted(2, outputs=[{"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}]),
            "cell 2 ends with ValueError: no",
        ),
        (planted(2, outputs=[stream("UserWarning: x", "stderr")]), "cell 2 has an output on stderr, 'UserWarning: x'"),
        (planted(6, outputs=[stream("written: /home/x/results/a.csv")]), "cell 6 shows a path of a machine, '/home/x'"),
        (
            planted(6, outputs=[stream("/tmp/ipykernel_12/3.py:1: no")]),
            "cell 6 shows a path of a machine, '/tmp/ipykernel_12'",
        ),
        (planted(6, source=["x = 1\n", 'file = "/tmp/a.csv"']), "cell 6 holds a path of a machine, '/tmp/a.csv'"),
        (planted(6, source=[r'file = "C:\Users\x"']), r"cell 6 holds a path of a machine, 'C:\\Users'"),
        (
            planted(
                2,
                outputs=[
                    {"output_type": "display_data", "data": {"text/html": ["<a href='", "/opt/x/y'>"]}, "metadata": {}}
                ],
            ),
            "'/opt/x'",
        ),
        (
            planted(2, metadata={"papermill": {"input_path": "/root/a.ipynb"}}),
            "cell 2 holds a path of a machine, '/root/a.ipynb'",
        ),
        (
            GOOD | {"metadata": {**GOOD["metadata"], "papermill": {"output_path": "/tmp/o"}}},
            "metadata holds a path of a machine, '/tmp/o'",
        ),
        (GOOD | {"metadata": {}}, "kernelspec is None"),
        (
            GOOD | {"metadata": {"kernelspec": {"name": "venv"}}},
            "kernelspec is 'venv': save it with the kernel python3",
        ),
        (planted(5, outputs=[image()]), "cell 5 shows a figure without alternative text"),
        (
            planted(5, outputs=[image(**{"image/png": {"alt": check_notebooks.NO_ALT}})]),
            "cell 5 shows a figure without alternative text",
        ),
        (
            planted(5, outputs=[image(**{"image/png": {"alt": "a figure"}})]),
            "cell 5 shows a figure without alternative text",
        ),
        (planted(1, source=["No title"]), "cell 1 must open with the one title, '# ...'; there are 0"),
        (planted(7, source=["# Another title"]), "cell 1 must open with the one title, '# ...'; there are 2"),
        (planted(3, source=["### A part"]), "a heading of level 3 follows one of level 1"),
    ],
)
def test_planted_faults_are_found(notebook, fault):
    (found,) = check_notebooks.faults(notebook)
    assert fault in found


def test_the_command_names_file_and_cell(tmp_path):
    good, bad = tmp_path / "good.ipynb", tmp_path / "bad.ipynb"
    good.write_text(json.dumps(GOOD))
    bad.write_text(json.dumps(planted(2, execution_count=None)))
    found = subprocess.run([sys.executable, SCRIPT, good, bad], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (1, "")
    assert found.stdout == f"{bad}: cell 2 has not been executed\n"
    assert subprocess.run([sys.executable, SCRIPT, good], capture_output=True).returncode == 0


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_committed_notebook(file):
    notebook = json.loads(file.read_text())
    assert list(check_notebooks.faults(notebook)) == []
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert first["metadata"].get("tags") == ["parameters"]
    assert any(cell["source"][0].startswith("## ") for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert "plt.show" not in file.read_text()  # figures.show has the alternative text


def test_every_figure_of_the_notebooks_is_described_by_itself():
    texts = [
        output["metadata"]["image/png"]["alt"]
        for file in NOTEBOOKS
        for cell in json.loads(file.read_text())["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(texts) > 15
    assert len(set(texts)) == len(texts)


def test_a_figure_is_shown_once_with_its_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *objects, **options: shown.append((objects, options)))
    figure, _ = plt.subplots()
    figures.show(figure, "A curve that\n  falls.")
    assert shown == [((figure,), {"metadata": {"image/png": {"alt": "A curve that falls."}}})]
    assert not plt.fignum_exists(figure.number)


def test_no_notebook_or_module_has_a_palette_of_its_own():
    sources = [*NOTEBOOKS, *(ROOT / "ptame_lib").rglob("*.py")]
    strangers = (
        "jet",
        "rainbow",
        "cividis",
        "tab10",
        "tab20",
        "coolwarm",
        "RdYlGn",
        "hot",
        "magma",
        "plasma",
        "inferno",
    )
    assert [
        (file.name, name)
        for file in sources
        for name in strangers
        if f'"{name}"' in file.read_text().replace('\\"', '"')
    ] == []
