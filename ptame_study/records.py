"""Records of runs with their provenance, fingerprints of what results are made from, and tables."""

from __future__ import annotations

import hashlib
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptame_lib import files

from . import paths

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("ptame_lib", "ptame_study")
RECORDED = ("torch", "torchvision", "timm", "grad-cam", "accelerate", "numpy", "scikit-learn")


class Record:
    """One run's JSON: ``Record(cfg, "02_train_ptame")`` at its start, ``write(accuracy=...)`` at its end."""

    def __init__(self, cfg: Any, name: str):
        self.cfg, self.name, self.start = cfg, name, time.perf_counter()

    def write(self, **results: Any) -> Path:
        """Write ``results/<profile>/<name>.json`` with the results and their provenance."""
        origin = provenance(self.cfg, time.perf_counter() - self.start)
        content = {"run": self.name, "results": results, "provenance": origin}
        return write_whole(paths.results(self.cfg.profile) / f"{self.name}.json", json.dumps(content, indent=1) + "\n")


def provenance(cfg: Any, seconds: float) -> dict[str, Any]:
    """Commit, versions, seed, device, parameters, seconds, and peak memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    parameters = asdict(cfg)
    return {
        "commit": commit(),
        "versions": versions(),
        "seed": parameters.get("seed"),
        "device": device_name(),
        "parameters": parameters,
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(peak),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in RECORDED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def device_name() -> str:
    """The GPU, else the kind of CPU and the number of threads."""
    import torch

    cpu = f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else cpu


def commit() -> str:
    """The commit of the checkout, with a mark if the code was changed since."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(files.checkout()), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if files.checkout():
            changed = git("status", "--porcelain", "--", *PACKAGES, "workflow")
            return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    return "unknown (no git checkout)"


def sha256(file: Path) -> str:
    """The SHA-256 of a file's content, in 64 hexadecimal digits, as the command sha256sum prints it."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def fingerprint(*made_from: Path, **parameters: Any) -> dict[str, Any]:
    """What a result was made from: parameters, hashes of files, and one of both packages and the weights."""
    here = Path(__file__).resolve().parent.parent
    sources = [file for package in PACKAGES for file in sorted((here / package).rglob("*.py"))]
    weights = [file for folder in (files.embedded(), files.zoo()) for file in sorted(folder.glob("*.safetensors"))]
    library = _hash(sources + weights)
    hashes = {files.show(file): _hash([file]) for file in made_from}
    return {**parameters, "files": hashes, "library": library, "torch": version("torch")}


def _hash(contents: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in contents:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def write_whole(file: Path, text: str) -> Path:
    """Write a text file whole or not at all, and return it."""
    with files.whole(file) as unfinished:
        unfinished.write_text(text)
    return file


def write_table(file: Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV, numbers to four decimals, whole or not at all."""
    return write_whole(file, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
