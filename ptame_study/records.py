"""Records with provenance, fingerprints, and tables written whole."""

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
from typing import Any

import pandas as pd

from ptame_lib import files

from . import paths

PACKAGES = ("ptame_lib", "ptame_study")
RECORDED = ("torch", "torchvision", "timm", "grad-cam", "accelerate", "numpy")


# ----------------------------------------------------------------------------------------------------- records


class Record:
    """One run's JSON: ``record = Record(cfg, "02_train_ptame")`` at the start, ``record.write(accuracy=...)`` at the end."""

    def __init__(self, cfg: Any, name: str):
        self.cfg, self.name, self.start = cfg, name, time.perf_counter()

    def write(self, **results: Any) -> Path:
        """Write ``results/<profile>/<name>.json`` with the results and their provenance."""
        content = {
            "run": self.name,
            "results": results,
            "provenance": provenance(self.cfg, time.perf_counter() - self.start),
        }
        return write_whole(paths.results(self.cfg.profile) / f"{self.name}.json", json.dumps(content, indent=1) + "\n")


def provenance(cfg: Any, seconds: float) -> dict[str, Any]:
    """Commit, versions, seed, device, parameters, seconds, peak memory in MB (of this process)."""
    import torch

    versions = {"python": platform.python_version()}
    for package in RECORDED:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    parameters = asdict(cfg)
    return {
        "commit": _commit(),
        "versions": versions,
        "seed": parameters.get("seed"),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)",
        "parameters": parameters,
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
        ),
    }


def _commit() -> str:
    git = ["git", "-C", str(files.root())]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", *PACKAGES, "workflow"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git checkout)"
    return commit + ("+changes" if changed else "")


def fingerprint(*made_from: Path, **parameters: Any) -> dict[str, Any]:
    """What a result was made from: the parameters, a hash of the files' contents and one of both packages and the data."""
    sources = [file for package in PACKAGES for file in sorted((files.root() / package).rglob("*.py"))]
    hashes = {files.show(f): _hash([f]) for f in made_from}
    library = _hash(sources + sorted(files.embedded().glob("*.safetensors")))
    return {**parameters, "files": hashes, "library": library, "torch": version("torch")}


def _hash(contents: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in contents:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def write_whole(file: Path, text: str) -> Path:
    """Write a text file under a temporary name and rename it, so that it is never half there."""
    with files.whole(file) as unfinished:
        unfinished.write_text(text)
    return file


def write_table(file: Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV, numbers to four decimals, whole or not at all."""
    return write_whole(file, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
