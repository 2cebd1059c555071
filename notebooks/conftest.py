"""How nbval starts the notebooks' kernels: each is reached over sockets of its own, not over ports of the machine.

Two workers that look for free ports at the same moment can find the same ones, and then one of the kernels dies.
"""

import itertools
import tempfile

import nbval.kernel
from jupyter_client.manager import KernelManager

SOCKETS = tempfile.TemporaryDirectory(prefix="kernels-")  # not beside the notebooks: names of sockets must be short
NUMBERS = itertools.count()


def kernel_manager(**options):
    """Return a manager of one kernel, which listens in this process's folder."""
    return KernelManager(transport="ipc", ip=f"{SOCKETS.name}/{next(NUMBERS)}", **options)


nbval.kernel.KernelManager = kernel_manager
