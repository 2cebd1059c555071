"""Work in separate processes, to be killed or to train side by side (forked: nothing is imported again); and voila."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, PartialState

import ptame_lib

HUNG = 900  # seconds after which a process will never come
CHECKOUT = Path(ptame_lib.__file__).parent.parent
# Code to `plant`: the process that forks the jobs imports nothing beforehand, which takes 10 s.
FORKS_AT_ONCE = """from ptame_study import preloaded
preloaded._preload = preloaded._code
"""
FORK = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else None


def plant(folder, code=FORKS_AT_ONCE):
    """Have Python run some code at its start: give the PYTHONPATH with it and the checkout."""
    (folder / "sitecustomize.py").write_text(code)
    return f"{folder}{os.pathsep}{CHECKOUT}"


def start(work, *arguments, **environment):
    """Start a forked process that does ``work`` on one thread, with accelerate as in a new process."""

    def run():
        os.environ.update(environment)
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.set_num_threads(1)
        work(*arguments)

    process = FORK.Process(target=run, daemon=True)
    process.start()
    return process


def wait():
    """Stay here until killed: what a process does at the moment that another one waits for."""
    threading.Event().wait()


def kill_when(process, condition):
    """kill -9 once ``condition()`` holds; the process must `wait` there, however long it takes to be seen."""
    while not condition():
        assert process.is_alive(), "it ended before it could be killed"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def team(count, work, *arguments):
    """Do ``work(rank, ...)`` in ``count`` processes of one group, like ``accelerate launch``; give their exit codes."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # it has its port from the start
    connected = FORK.Barrier(count)

    def join(rank):
        PartialState(cpu=True)  # the group: none may leave it before all have come, however busy the machine is
        connected.wait(HUNG)
        work(rank, *arguments)

    common = {
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": store.port,
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # all are this store's clients
        "ACCELERATE_USE_CPU": "true",
    }
    processes = []
    for rank in range(count):
        environment = {key: str(value) for key, value in (common | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        processes.append(start(join, rank, **environment))
    for process in processes:
        process.join(HUNG)
    return [process.exitcode for process in processes]


def ask(address):
    """Status and content; None where nobody answers."""
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return None, b""


@contextmanager
def voila_server(folder, environment):
    """The address of voila on ``notebooks/09_explorer.ipynb`` in a folder, as README starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/"
    port = address.rstrip("/").rsplit(":", 1)[1]
    command = [sys.executable, "-m", "voila", "notebooks/09_explorer.ipynb", "--no-browser", f"--port={port}"]
    options = {"cwd": folder, "env": environment}
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, **options) as server:
        try:
            while ask(f"{address}voila/files/x")[0] is None:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
            yield address
        finally:
            server.terminate()
