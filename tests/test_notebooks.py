"""The committed notebooks are fit to be read, and the check of that finds what is planted."""

import copy
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbconvert import HTMLExporter

from ptame_study import figures

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "workflow" / "check_notebooks.py"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
sys.path.insert(0, str(SCRIPT.parent))
modules = ("check_notebooks", "fold_notebooks", "start_page")
check_notebooks, fold_notebooks, start_page = map(importlib.import_module, modules)


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
    good.write_text(json.dumps(fold_notebooks.ready(GOOD)))
    bad.write_text(json.dumps(fold_notebooks.ready(planted(2, execution_count=None))))
    found = subprocess.run([sys.executable, SCRIPT, good, bad], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (1, "")
    assert found.stdout == f"{bad}: cell 2 has not been executed\n"
    assert subprocess.run([sys.executable, SCRIPT, good], capture_output=True).returncode == 0


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_committed_notebook(file):
    notebook = json.loads(file.read_text())
    assert [*check_notebooks.faults(notebook), *check_notebooks.openings(notebook)] == []
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert first["metadata"].get("tags") == ["parameters"]
    assert any(cell["source"][0].startswith("## ") for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert "plt.show" not in file.read_text()  # figures.show has the alternative text


def opening():
    """A notebook as it comes from its execution: parameters, set-up, a table, two figures."""
    table = [{"data": {"text/plain": "2"}, "metadata": {}, "output_type": "execute_result", "execution_count": 4}]
    cells = [cell("# 00 · A title\n\n**Question.** What\nis it?\n\nMore.", kind="markdown")]
    cells += [
        cell("n: int = 1", 1),
        cell("import os\nprint(n)", 2, [stream("1")]),
        cell("x = 1", 3),
        cell("x", 4, table),
    ]
    for count, name in enumerate("pq", 5):
        cells.append(cell(name, count, [image(**{"image/png": {"alt": f"a [{name}]"}})]))
        cells[-1]["outputs"][0]["data"]["image/png"] = name
    cells[1]["metadata"]["tags"] = ["parameters"]
    return {"metadata": {"kernelspec": {"name": "python3"}}, "cells": cells}


def test_set_up_is_folded_and_the_picture_is_beside_the_question():
    made = fold_notebooks.ready(opening())
    folded = [each["metadata"].get("tags") == ["hide-input"] for each in made["cells"]]
    assert folded == [False, False, True, True, False, False, False]
    assert [each["metadata"].get("jupyter") == {"source_hidden": True} for each in made["cells"]] == folded
    said = "".join(made["cells"][0]["source"])
    assert said == "# 00 · A title\n\n**Question.** What\nis it?\n\n![a (p)](attachment:picture.png)\n\nMore."
    assert made["cells"][0]["attachments"] == {"picture.png": {"image/png": "p"}}
    assert fold_notebooks.ready(made) == made
    assert [each["outputs"] for each in made["cells"][1:]] == [each["outputs"] for each in opening()["cells"][1:]]


def test_another_picture_replaces_the_first_and_code_that_shows_something_opens():
    made = fold_notebooks.ready(opening())
    made["cells"][-1]["metadata"]["tags"] = ["picture"]
    made["cells"][3]["outputs"] = [stream("shown")]
    again = fold_notebooks.ready(made)
    assert again["cells"][0]["attachments"] == {"picture.png": {"image/png": "q"}}
    assert "".join(again["cells"][0]["source"]).count("attachment:") == 1
    assert again["cells"][3]["metadata"] == {"tags": []}
    assert list(check_notebooks.openings(again)) == []
    (fault,) = check_notebooks.openings(made)
    assert fault.endswith("run python workflow/fold_notebooks.py")


def test_times_of_a_run_go():
    executed = opening()
    for part in (executed, *executed["cells"]):
        part["metadata"] |= {"papermill": {"duration": 1.5}, "execution": {"iopub.status.busy": "2026-01-01"}}
    assert fold_notebooks.ready(executed) == fold_notebooks.ready(opening())


def test_a_long_parameters_cell_is_a_fault():
    long = fold_notebooks.ready(opening())
    long["cells"][1]["source"] = ["n: int = 1\n"] * 16
    (fault,) = check_notebooks.openings(long)
    assert fault.startswith("the parameters cell has 16 lines, more than 15")


def test_the_start_page_has_each_notebooks_question_picture_and_answer():
    told = fold_notebooks.ready(opening())
    told["cells"][2]["metadata"]["tags"] = ["answer"]
    told["cells"][2]["outputs"] = [stream("It loses 3 of *5* cells.\nwritten: results/a.json\n")]
    page = start_page.page({"00_a.ipynb": told, "01_b.ipynb": {"cells": [cell("# 01 · B", kind="markdown")]}})
    start, first, second = ("".join(each["source"]) for each in page["cells"])
    assert start.startswith("# P-TAME study")
    assert first == (
        "## [00 · A title](00_a.ipynb)\n\n**Question.** What\nis it?\n\n![a (p)](attachment:picture.png)\n\n"
        "**Answer.** It loses 3 of \\*5\\* cells."
    )
    assert page["cells"][1]["attachments"] == {"picture.png": {"image/png": "p"}}
    assert second == "## [01 · B](01_b.ipynb)"
    nbformat.validate(nbformat.from_dict(page))


def test_a_long_answer_is_cut():
    lines = [stream("".join(f"{i}\n" for i in range(7)))]
    told = {"cells": [cell("print(1)", 1, lines) | {"metadata": {"tags": ["answer"]}}]}
    assert start_page.answer(told) == "**Answer.**\n\n- 0\n- 1\n- 2\n- 3\n- 4\n- ... and 2 more lines there."
    assert start_page.answer({"cells": [cell("print(1)", 1, lines)]}) == ""


def test_the_committed_start_page_is_that_of_the_notebooks():
    assert json.loads((ROOT / "notebooks" / "index.ipynb").read_text()) == fold_notebooks.start()


def test_html_folds_the_set_up(tmp_path):
    """By the template of `make html`; the code is there, to be opened."""
    code = [("import os", ["hide-input"]), ("print(1)", []), ("x = 1", ["hide-input"])]
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in code]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "n.ipynb")
    where = {"template_name": "folded", "extra_template_basedirs": [str(SCRIPT.parent / "templates")]}
    text, _ = HTMLExporter(**where).from_filename(str(tmp_path / "n.ipynb"))
    folded = re.findall(r'<details class="folded">(.*?)</details>', text, re.DOTALL)
    assert len(folded) == 2
    assert "import" in folded[0]
    assert all("jp-CodeMirrorEditor" in code for code in folded)


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
