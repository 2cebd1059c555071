"""Ctrl-C and SIGTERM, while a command is imported and while it works: one line, no traceback, the shell's exit code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest
from typer.testing import CliRunner

import ptame_lib
from ptame_study import __main__, interrupts, train
from ptame_study.command import actions
from ptame_study.command.cli import app

CHECKOUT = Path(ptame_lib.__file__).parent.parent
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
START = {
    "ptame": ["-c", "from ptame_study.command import main; main()", "train", "--classifier", "a", "--images", "b"],
    "python -m ptame_study": ["-m", "ptame_study", "report"],
    "python -m ptame_study.train": ["-m", "ptame_study.train"],
}


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("command", START)
@pytest.mark.parametrize("module", ["pandas", "torch"])
def test_while_a_command_is_imported(module, command, number, tmp_path):
    """The signal comes when a slow import begins."""
    (tmp_path / f"{module}.py").write_text(f"import os, signal\nos.kill(os.getpid(), {int(number)})\nsignal.pause()")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{CHECKOUT}"}
    done = subprocess.run([sys.executable, *START[command]], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (CODES[number], "")
    assert done.stderr.strip() == interrupts.SAID[number]


def stopping(number, cleaned):
    """Work that gets a signal, and has something to close."""

    def work(*_, **__):
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            cleaned.append(number)

    return work


@pytest.mark.parametrize("number", CODES)
def test_while_ptame_explains(number, monkeypatch, capfd):
    cleaned = []
    monkeypatch.setattr(actions, "explain", stopping(number, cleaned))
    monkeypatch.setattr("ptame_lib.explainers.card.about", lambda file: {})
    monkeypatch.setattr("ptame_lib.explainers.card.in_one_line", lambda *_: "an explainer")
    before = [signal.getsignal(each) for each in CODES]

    def ptame():
        return CliRunner().invoke(app, ["explain", __file__, "--explainer", "e"]).exit_code

    assert interrupts.after_cleaning(ptame) == CODES[number]
    assert cleaned == [number]
    assert [signal.getsignal(each) for each in CODES] == before


@pytest.mark.parametrize("number", CODES)
def test_while_a_notebook_runs(number, monkeypatch, study_root, capsys):
    cleaned = []
    monkeypatch.setattr(__main__, "use_data", lambda *_: None)
    monkeypatch.setattr(__main__, "run_notebook", stopping(number, cleaned))
    assert interrupts.after_cleaning(lambda: __main__.main(["run", "00_data"])) == CODES[number]
    assert cleaned == [number]
    assert capsys.readouterr().err.strip() == interrupts.SAID[number]


@pytest.mark.parametrize("number", CODES)
def test_while_the_processes_train(number, monkeypatch, capsys):
    cleaned = []
    monkeypatch.setattr(train, "read_config", stopping(number, cleaned))
    monkeypatch.setattr(train.profiles, "use_data", lambda *_: None)

    def command():
        return train.app(["--profile", "x", "--classifier", "y"], standalone_mode=False)

    assert interrupts.after_cleaning(command) == CODES[number]
    assert cleaned == [number]
    assert capsys.readouterr().err.strip() == interrupts.SAID[number]


CELL = """import os, pathlib, signal, threading
pathlib.Path("kernel").write_text(str(os.getpid()))
os.kill(os.getppid(), {number})
threading.Event().wait()"""


def test_a_notebooks_kernel_ends_with_its_command(study_root):
    """The notebook itself sends the signal to the command that runs it; of what the kernel says nothing is asked."""
    number = signal.SIGTERM
    cells = [
        nbformat.v4.new_code_cell("profile: str = ''", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(CELL.format(number=int(number))),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for folder in ("notebooks", "workflow/profiles"):
        (study_root / folder).mkdir(parents=True)
    nbformat.write(notebook, study_root / "notebooks" / "00_data.ipynb")
    (study_root / "workflow" / "profiles" / "x.yaml").write_text("classifiers: [a]\nnotebooks: {}")
    command = [sys.executable, "-m", "ptame_study", "run", "00_data", "--profile", "x"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, env=environment, cwd=study_root, capture_output=True, text=True)
    assert done.returncode == CODES[number], done.stderr
    assert done.stderr.strip().splitlines()[-1] == interrupts.SAID[number]
    assert "Task exception" not in done.stderr
    assert not psutil.pid_exists(int((study_root / "kernel").read_text()))
    assert not (study_root / "runs" / "x" / "00_data.ipynb").exists()
    assert not [*study_root.rglob(".*.lock")]


def test_a_signal_that_is_ignored_stays_so(monkeypatch):
    """As nohup and shells in the background set it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert interrupts.after_cleaning(lambda: os.kill(os.getpid(), signal.SIGINT)) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_exit_code_of_the_work_itself_is_kept():
    assert [interrupts.after_cleaning(lambda code=code: code) for code in (None, 0, 1)] == [0, 0, 1]
