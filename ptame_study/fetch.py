"""Fetch the package of stamps by the system's own package manager."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from ptame_lib import files
from ptame_lib.datasets.cutouts import read_tables
from ptame_lib.datasets.stamps import DEB, PACKAGE, VERSION, find_stamps, unpack, unpacked

from . import paths


def fetch_stamps() -> Path:
    """The folder with the stamps of the cutouts, unpacked and, where they are missing, fetched by ``apt-get download``.

    That needs no root. Raises FileNotFoundError, with the file that is wanted, where there is no apt-get; RuntimeError
    where it fails; ValueError for another file than the expected one.
    """
    known = read_tables("test")[0].name
    try:
        return find_stamps(known, paths.data())
    except FileNotFoundError:
        if not shutil.which("apt-get"):
            raise
    with TemporaryDirectory(dir=files.cache(), prefix=".apt-") as folder:
        Path(folder).chmod(0o755)  # apt has a user of its own
        impatient = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=30"]  # a first run also goes on without
        command = ["apt-get", "download", *impatient, f"{PACKAGE}={VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode or not Path(folder, DEB).is_file():
            said = (done.stderr.strip() or "it left no such file").splitlines()[-1]
            remedy = f"run apt-get update, or get {DEB} elsewhere and put it into {files.cache()}"
            raise RuntimeError(f"apt-get download {command[-1]} failed ({said}): {remedy}")
        return unpack(Path(folder, DEB), unpacked())
