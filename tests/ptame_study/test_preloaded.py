"""Jobs that are forks of one process: as if each had started by itself, and none outlives the run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from processes import plant

import ptame_lib
from ptame_study import interrupts, preloaded

CHECKOUT = Path(ptame_lib.__file__).parent.parent
COMMAND = [sys.executable, "-m", "ptame_study"]
RUN = [*COMMAND, "run", "00_data", "--profile", "x"]
WAIT = """import os, pathlib, threading
pathlib.Path("kernel").write_text(f"{os.getpid()} {os.getppid()}")
pathlib.Path("kernel").rename("started")
threading.Event().wait()"""
READY_TOO_LATE = """import pathlib, select, sys
from ptame_study import preloaded
def preload():
    select.select([int(sys.argv[-1])], [], [])  # until a command waits at the door
    pathlib.Path("waited for").touch()
    select.select([0], [], [])  # until whoever started it is gone
preloaded._preload = preload
"""
RUN_AND_WAIT = """import subprocess, sys
from ptame_study import preloaded
with preloaded.server():
    subprocess.run(sys.argv[1:])"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every job starts by itself")


@pytest.fixture(scope="module")
def server():
    """One preloaded process for most tests here."""
    with preloaded.server():
        yield


@pytest.fixture
def forks_at_once(tmp_path_factory, monkeypatch):
    """A server that is started in the test is ready at once."""
    monkeypatch.delenv(preloaded.ADDRESS, raising=False)
    planted = tmp_path_factory.mktemp("planted")
    monkeypatch.setenv("PYTHONPATH", plant(planted))
    return planted


def study(root, *cells):
    """A study of one notebook."""
    parts = ["profile: str = ''", *cells]
    code = [
        nbformat.v4.new_code_cell(text, metadata={"tags": ["parameters"] * (not i)}) for i, text in enumerate(parts)
    ]
    notebook = nbformat.v4.new_notebook(cells=code)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for folder in ("notebooks", "workflow/profiles"):
        (root / folder).mkdir(parents=True)
    nbformat.write(notebook, root / "notebooks" / "00_data.ipynb")
    (root / "workflow" / "profiles" / "x.yaml").write_text("classifiers: [a]\nnotebooks: {}")


def environment(**more):
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(CHECKOUT)]))
    return {**os.environ, "PYTHONPATH": path, **more}


def run(root, **more):
    return subprocess.run(RUN, cwd=root, env=environment(**more), capture_output=True, text=True)


def outputs(root, end=""):
    notebook = nbformat.read(root / "runs" / "x" / f"00_data{end}.ipynb", 4)
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


TOLD = """import os, sys
print("torch" in sys.modules, os.getcwd(), os.environ["SAID"], os.getppid() != 1, profile)
import matplotlib.pyplot as plt, pandas as pd
figure = plt.figure(figsize=(1, 1))
pd.DataFrame([range(19)])"""


def test_a_notebook_is_executed_as_by_a_command_of_its_own(server, study_root, monkeypatch):
    study(study_root, TOLD)
    done = run(study_root, SAID="so")
    assert done.returncode == 0, done.stderr
    forked = outputs(study_root)
    monkeypatch.delenv(preloaded.ADDRESS)
    assert run(study_root, SAID="so").returncode == 0
    own = outputs(study_root)
    said = [cell[0].pop("text") for cell in (forked[-1], own[-1])]
    assert said == [f"{known} {study_root} so True x\n" for known in (True, False)]
    assert forked == own  # the figure and the table


def test_the_preloaded_process_is_fit_to_be_forked(server, study_root):
    """One thread, no lock between processes, nothing on a graphics card, no fork of it left."""
    cell = """import os, torch, tqdm
print(torch.cuda.is_initialized(), hasattr(tqdm.tqdm, "_lock"), os.environ.get("PTAME_PRELOADED") is not None)"""
    study(study_root, cell)
    assert run(study_root).returncode == 0
    assert outputs(study_root)[-1][0]["text"] == "False False True\n"
    [process] = [each for each in psutil.Process().children() if "serve" in each.cmdline()]
    assert process.num_threads() == 1


def test_kernels_need_no_ports(server, study_root):
    """Ports that two jobs find free at the same moment would be the same, and one of the kernels would die."""
    cell = """import json, ipykernel
told = json.load(open(ipykernel.get_connection_file()))
print(told["transport"], told["ip"])"""
    study(study_root, cell)
    assert run(study_root).returncode == 0
    transport, address = outputs(study_root)[-1][0]["text"].split()
    assert transport == "ipc"
    assert not Path(address).parent.exists()


def test_a_failing_cell(server, study_root):
    study(study_root, "raise ValueError('no')")
    done = run(study_root)
    assert done.returncode == 1
    assert "notebooks/00_data.ipynb failed in cell 2 (In [3]): ValueError: no" in done.stderr
    assert outputs(study_root, ".failed")[-1][-1]["ename"] == "ValueError"
    assert not (study_root / "runs" / "x" / "00_data.ipynb").exists()


def test_other_commands(server, study_root):
    study(study_root)
    done = subprocess.run([*COMMAND, "seeds", "--profile", "x"], cwd=study_root, env=environment(), capture_output=True)
    assert done.returncode == 1
    assert b"ERROR: no comparison at results/x/per_image/a.csv" in done.stderr


def started(root, command=RUN):
    """A command whose notebook waits, with the processes of the kernel and its job."""
    study(root, WAIT)
    command = subprocess.Popen(command, cwd=root, env=environment(), stderr=subprocess.PIPE, text=True)
    until(lambda: (root / "started").is_file() or command.poll() is not None)
    return command, [psutil.Process(int(number)) for number in (root / "started").read_text().split()]


def until(condition):
    while not condition():
        time.sleep(0.01)


def gone(processes):
    try:
        return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)
    except psutil.NoSuchProcess:  # just now
        return False


@pytest.mark.parametrize("number", interrupts.SAID)
def test_a_signal(number, server, study_root):
    command, processes = started(study_root)
    command.send_signal(number)
    said = command.communicate()[1]
    assert command.returncode == 128 + number
    assert said.strip().splitlines()[-1] == interrupts.SAID[number]
    assert "Task exception" not in said  # of what the kernel says nothing is asked
    until(lambda: gone(processes))
    assert not [*study_root.rglob(".*.lock")]


def test_a_killed_command_ends_its_job(server, study_root):
    command, processes = started(study_root)
    command.kill()
    until(lambda: gone(processes))
    assert not [*study_root.rglob(".*.lock")]


def test_a_killed_job_is_told(server, study_root):
    command, [kernel, job] = started(study_root)
    job.kill()
    said = command.communicate()[1]
    assert command.returncode == 128 + signal.SIGKILL
    assert "\nERROR: the job was killed" in said
    until(lambda: gone([kernel]))


def test_nothing_outlives_a_killed_run(study_root, forks_at_once):
    graph, processes = started(study_root, [sys.executable, "-c", RUN_AND_WAIT, *RUN])
    processes += psutil.Process(graph.pid).children()
    assert len(processes) == 4  # kernel, job, server, command
    graph.kill()
    until(lambda: gone(processes))


def test_nothing_outlives_a_run_that_is_killed_while_it_starts(study_root, forks_at_once):
    """A command that waits for the server does not go on by itself."""
    plant(forks_at_once, READY_TOO_LATE)
    study(study_root, WAIT)
    graph = subprocess.Popen([sys.executable, "-c", RUN_AND_WAIT, *RUN], cwd=study_root, env=environment())
    until((study_root / "waited for").is_file)
    processes = psutil.Process(graph.pid).children()
    assert len(processes) == 2  # server, command
    graph.kill()
    until(lambda: gone(processes))
    assert not (study_root / "runs").exists()


def test_changed_code_is_not_run_by_the_old(study_root, forks_at_once, monkeypatch):
    """A command then works by itself."""
    for package in preloaded.PACKAGES:
        subprocess.run(["cp", "-r", CHECKOUT / package, forks_at_once], check=True)  # which comes first
    monkeypatch.chdir(forks_at_once)
    study(study_root, "import sys; print('ptame_study.forked_kernel' in sys.modules)")
    with preloaded.server():
        assert run(study_root).returncode == 0
        assert outputs(study_root)[-1][0]["text"] == "True\n"
        (forks_at_once / "ptame_lib" / "masking.py").touch()
        done = run(study_root)
        assert done.returncode == 0, done.stderr
        assert outputs(study_root)[-1][0]["text"] == "False\n"
