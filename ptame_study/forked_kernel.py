"""The kernel of a notebook as a fork of a process that has imported everything; see `preloaded`."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from multiprocessing.connection import Connection
from typing import Any

import pandas
from ipykernel.kernelapp import IPKernelApp
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

FORK = multiprocessing.get_context("fork")


class Process(FORK.Process):
    """A forked process with the part of `subprocess.Popen` that provisioners of kernels use."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.exitcode

    def wait(self) -> int | None:
        """Wait for its end; returns the exit code."""
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


class ForkedKernel(LocalProvisioner):
    """Starts the kernel that `ready_kernel` has forked, if this Python's is asked for; another one as usual."""

    ready: tuple[Process, Connection] | None = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        """Start the kernel, and return how to connect to it."""
        own = cmd[:3] == [sys.executable, "-m", "ipykernel_launcher"]
        if not own or not ForkedKernel.ready:
            return await super().launch_kernel(cmd, **kwargs)
        (self.process, told), ForkedKernel.ready = ForkedKernel.ready, None
        self.cwd = str(kwargs.get("cwd") or os.getcwd())
        told.send((cmd[3:], self.cwd, kwargs["env"]))
        self.pid = self.pgid = self.process.pid
        return self.connection_info


def move(folder: str, environment: dict[str, str]) -> None:
    """Have this process work in a folder, with an environment."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


@contextmanager
def ready_kernel(job: socket.socket) -> Iterator[None]:
    """While the block runs, the first kernel that is started is one forked now, before this process has threads.

    ``job``: a connection that the kernel must not keep open.
    """
    factory = KernelProvisionerFactory.instance()
    factory.provisioners["forked"] = EntryPoint("forked", f"{__name__}:ForkedKernel", factory.GROUP_NAME)
    factory.default_provisioner_name = "forked"
    here, there = multiprocessing.Pipe()
    process = Process(target=_become, args=(here, there, job))
    process.start()
    there.close()
    ForkedKernel.ready = process, here
    with here:
        yield


def _become(here: Connection, there: Connection, job: socket.socket) -> None:
    """Wait for a notebook in a session of its own, and be its kernel."""
    os.setsid()
    here.close()
    job.close()
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, usual)
    try:
        arguments, folder, environment = there.recv()
    except EOFError:  # there was no notebook
        return
    there.close()
    move(folder, environment)
    sys.argv = ["ipykernel_launcher", *arguments]
    pandas.set_option("display.max_columns", 20)  # as in every notebook: it was imported outside of one
    # its watch over its parent would have been set up by an environment variable at the import
    IPKernelApp.launch_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
    atexit._run_exitfuncs()  # as a new process does at its end
