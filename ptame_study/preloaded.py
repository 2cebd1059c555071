"""One process that has imported everything forks the jobs of a machine: they start neither Python nor a kernel.

`server` starts it beside a graph; ``python -m ptame_study run ...`` hands itself over to it (`hand_over`), or works by
itself where there is none. It has one thread and has computed nothing, so that a fork of it is like a new process.
This module imports only the standard library, since commands use it before anything that takes time.
"""

from __future__ import annotations

import atexit
import json
import logging
import multiprocessing
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

from . import interrupts

ADDRESS = "PTAME_PRELOADED"  # the environment's name for where the server listens
PACKAGES = ("ptame_lib", "ptame_study")  # whose modules are all imported
ALSO = ("papermill", "ipykernel.kernelapp", "matplotlib.pyplot", "seaborn")  # which modules import when they are used
ALSO += ("captum.attr", "pytorch_grad_cam", "skimage.segmentation", "sklearn.linear_model", "timm", "torch._dynamo")
ALSO += ("zennit.composites", "cv2")
PLOTS = "module://matplotlib_inline.backend_inline"  # a kernel's MPLBACKEND, which matplotlib reads when imported
TAKEN, BACK = b"t", b"b"  # the answers to a request
LENGTH = 8  # bytes that say how long a request is


@contextmanager
def server() -> Iterator[None]:
    """Have one process do the commands that are started while the block runs; on Linux only.

    It ends with the block, or with this process however that ends, and ends the jobs that still run then.
    """
    if sys.platform != "linux":  # system libraries of others do not survive a fork
        yield
        return
    with socket.socket(socket.AF_UNIX) as door, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        address = str(Path(folder) / "jobs")  # in a folder that no other user may enter
        try:
            door.bind(address)
        except OSError:  # the folder's name is too long for a socket's: jobs start by themselves
            yield
            return
        door.listen(128)
        # in a session of its own: a terminal's Ctrl-C goes to the commands, which pass it on
        command = [sys.executable, "-m", "ptame_study", "serve", str(door.fileno())]
        options = {"stdin": subprocess.PIPE, "pass_fds": [door.fileno()], "start_new_session": True}
        environment = {"MPLBACKEND": PLOTS, **os.environ}
        with subprocess.Popen(command, env=environment, **options):  # its end closes the pipe, and waits
            door.close()
            os.environ[ADDRESS] = address
            try:
                yield
            finally:
                del os.environ[ADDRESS]


def hand_over() -> None:
    """Let the server do this command, and leave with its exit code; return if there is none."""
    if not (address := os.environ.get(ADDRESS)):
        return
    asked = {"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}
    request, signals = json.dumps(asked).encode(), []
    with socket.socket(socket.AF_UNIX) as job:
        try:
            job.connect(address)
        except OSError:
            return
        with suppress(ConnectionError):
            socket.send_fds(job, [len(request).to_bytes(LENGTH, "big")], [1, 2])
            job.sendall(request)
        answer = _answer(job)
        if answer == BACK:
            return
        if not answer:
            sys.exit("\nERROR: the process that forks the jobs has ended before this one began: start it again")

        def pass_on(number: int, frame: object) -> None:
            signals.append(number)
            with suppress(OSError):  # it is just ending
                job.send(bytes([number]))

        interrupts.handle(pass_on)
        code = _answer(job)
    if not code and not signals:
        print("\nERROR: the job was killed: if nobody did that, it needs more memory than there is", file=sys.stderr)
    sys.exit(code[0] if code else 128 + (signals or [signal.SIGKILL])[-1])


def _answer(job: socket.socket) -> bytes:
    try:
        return job.recv(1)
    except ConnectionError:
        return b""


def serve(number: int, work: Callable[[list[str]], int]) -> None:
    """Fork a process for each command that comes through socket ``number``, until stdin is closed.

    ``work``: gets a command's arguments and returns its exit code. Once code of the packages has changed, commands are
    sent back, to work by themselves.
    """
    fork = multiprocessing.get_context("fork")
    with socket.socket(fileno=number) as door:
        try:
            loaded = _preload()
            while 0 not in (ready := select.select([door, 0], [], [])[0]):
                job, _ = ready[0].accept()
                with job:
                    if _code() == loaded:
                        fork.Process(target=_do, args=(job, door, work)).start()
                    else:
                        with suppress(OSError):  # the command is gone already
                            job.send(BACK)
        finally:
            shutil.rmtree(Path(door.getsockname()).parent, ignore_errors=True)
            for each in multiprocessing.active_children():
                each.terminate()


def _preload() -> dict[str, int]:
    """Import what jobs need; returns when the files of the packages were changed."""
    code = _code()
    for package in map(import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    for name in ALSO:
        import_module(name)
    return code


def _code() -> dict[str, int]:
    here = Path(__file__).parent.parent
    found = {}
    for file in (file for name in PACKAGES for file in (here / name).rglob("*.py")):
        with suppress(FileNotFoundError):  # just being saved by an editor
            found[str(file)] = file.stat().st_mtime_ns
    return found


def _do(job: socket.socket, door: socket.socket, work: Callable[[list[str]], int]) -> None:
    """Do one command as if its own process did: in its folder and environment, with its outputs and signals."""
    from .forked_kernel import move, ready_kernel

    door.close()
    length, outputs, *_ = socket.recv_fds(job, LENGTH, 2)
    with job.makefile("rb") as stream:
        request = stream.read(int.from_bytes(length, "big"))
    if not request:  # the command is gone already
        return
    asked = json.loads(request)
    for number, output in zip((1, 2), outputs, strict=True):
        os.dup2(output, number)
        os.close(output)
    move(asked["folder"], asked["environment"])
    sys.argv[1:] = asked["arguments"]
    with ready_kernel(job):  # before there are threads
        job.sendall(TAKEN)
        threading.Thread(target=_obey, args=(job,), daemon=True).start()
        code = interrupts.after_cleaning(lambda: work(asked["arguments"]))
    if code > 1:  # a notebook that was stopped would be reported by asyncio, too
        logging.disable()
    atexit._run_exitfuncs()  # as a new process does at its end
    interrupts.handle(signal.SIG_IGN)  # the command ends as soon as it has the code
    job.sendall(bytes([code]))


def _obey(job: socket.socket) -> None:
    """Pass on the signals that a command gets: SIGTERM once it is gone."""
    while number := job.recv(1):
        signal.pthread_kill(threading.main_thread().ident, number[0])
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
