"""Check that the committed notebooks are executed, in order, without errors, and open with a picture, not with code.

``python workflow/check_notebooks.py [NOTEBOOK...]`` (default: all in notebooks/) prints each fault with its cell and
returns 1 if there is any. It runs nothing and needs no package.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from fold_notebooks import ready, start
from start_page import NAME

ROOT = Path(__file__).resolve().parent.parent
NO_ALT = "No description has been provided for this image"  # what nbconvert writes without one
SHORTEST_ALT = 20  # letters
MOST_PARAMETERS = 15  # lines
MACHINE = re.compile(
    r"(?<![\w./~-])/(?:home|root|tmp|Users|mnt|media|work|var|opt|usr|srv|scratch|private|content)/[\w.-]+"
    r"|\b[A-Za-z]:\\{1,2}(?:Users|Temp)\b|file://|<ipython-input-|/ipykernel_\d+"
)


def faults(notebook: dict[str, Any]) -> Iterator[str]:
    """Everything that is wrong with a notebook (its JSON), in words; cells count from 1."""
    # the notebook as a whole
    kernel = notebook["metadata"].get("kernelspec", {}).get("name")
    if kernel != "python3":
        yield f"kernelspec is {kernel!r}: save it with the kernel python3"
    if path := _machine_path(notebook["metadata"]):
        yield f"metadata holds a path of a machine, {path!r}: clear them"
    yield from _headings(notebook["cells"])

    # each cell: no paths, executed in order, clean outputs
    expected = 0
    for number, cell in enumerate(notebook["cells"], 1):
        where = f"cell {number}"
        if path := _machine_path([cell["source"], cell["metadata"]]):
            yield f"{where} holds a path of a machine, {path!r}: take it from ptame_study.paths or a parameter"
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        expected += 1
        count = cell.get("execution_count")
        if count is None:
            yield f"{where} has not been executed"
        elif count != expected:
            yield f"{where} was executed as number {count} instead of {expected}: restart the kernel and run all cells"
        for output in cell["outputs"]:
            yield from (f"{where} {fault}" for fault in _output_faults(output))


def openings(notebook: dict[str, Any]) -> Iterator[str]:
    """What a reader would stumble over on the first screen."""
    cells = notebook["cells"]
    parameters = next((c for c in cells if "parameters" in c["metadata"].get("tags", [])), {"source": []})
    lines = len("".join(parameters["source"]).splitlines())
    if lines > MOST_PARAMETERS:
        yield f"the parameters cell has {lines} lines, more than {MOST_PARAMETERS}: move rare ones into a dict"
    if ready(notebook) != notebook:
        faulty = "set-up is not folded, times of a run are left, or the first picture is an old one"
        yield f"{faulty}: run python workflow/fold_notebooks.py"


def _output_faults(output: dict[str, Any]) -> Iterator[str]:
    if output["output_type"] == "error":
        yield f"ends with {output['ename']}: {output['evalue']}"
    elif output["output_type"] == "stream" and output["name"] == "stderr":
        yield f"has an output on stderr, {''.join(output['text'])[:60]!r}: mend the warning, or clear this output"
    data = output.get("data", {})
    texts = {kind: value for kind, value in data.items() if not kind.startswith("image/")}
    if path := _machine_path([output.get("text"), texts]):
        yield f"shows a path of a machine, {path!r}: print paths.show(path)"
    for kind in data:
        alt = output.get("metadata", {}).get(kind, {}).get("alt", "").strip()
        if kind.startswith("image/") and (len(alt) < SHORTEST_ALT or alt == NO_ALT):
            yield "shows a figure without alternative text: show it by figures.show(figure, alt)"


def _headings(cells: list[dict[str, Any]]) -> Iterator[str]:
    """One title at the top, then sections without skipped levels: the table of contents is made of them."""
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)  # a comment in code is not a heading
    levels = [len(mark) for mark in re.findall(r"^(#{1,6}) ", text, re.MULTILINE)]
    if not "".join(cells[0]["source"]).startswith("# ") or levels.count(1) != 1:
        yield f"cell 1 must open with the one title, '# ...'; there are {levels.count(1)}"
    for before, after in pairwise(levels):
        if after > before + 1:
            yield f"a heading of level {after} follows one of level {before}: skip no level"


def _machine_path(content: Any) -> str | None:
    found = MACHINE.search("\n".join(_texts(content)))
    return found[0] if found else None


def _texts(content: Any) -> Iterator[str]:
    """Every string in nested lists and mappings, a list of lines as one."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and all(isinstance(line, str) for line in content):
        yield "".join(content)
    elif isinstance(content, list | dict):
        for item in content.values() if isinstance(content, dict) else content:
            yield from _texts(item)


def _all_faults(file: Path) -> list[str]:
    notebook = json.loads(file.read_text(encoding="utf-8"))
    if file.name == NAME:
        old = notebook != start()
        return ["the start page is an old one: run python workflow/fold_notebooks.py"] * old
    return [*faults(notebook), *openings(notebook)]


def main(arguments: list[str]) -> int:
    files = [Path(name) for name in arguments] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    found = [f"{file}: {fault}" for file in files for fault in _all_faults(file)]
    print(
        "\n".join(found)
        or f"{len(files)} notebooks: executed in order, no errors, no machine's paths, alternative texts",
        flush=True,
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
