"""Times and memory side by side: interleaved rounds in one process, peaks in processes of their own."""

from __future__ import annotations

import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

ROUNDS = 9
COLUMNS = ["name", "value", "reference", "ratio", "low", "high", "device"]


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"


def seconds(work: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each work in each round; every round runs all works, so that a slow machine slows all."""
    for work in works.values():
        work()
        work()  # the first calls also warm up
    times = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def row(name: str, value: list[float], reference: list[float], scale: float = 1000.0) -> dict:
    """Medians in milliseconds (``scale``), and the median, smallest and largest ratio over the rounds."""
    ratios = [a / b for a, b in zip(value, reference, strict=True)]
    medians = scale * statistics.median(value), scale * statistics.median(reference)
    return dict(
        zip(COLUMNS, [name, *medians, statistics.median(ratios), min(ratios), max(ratios), device_name()], strict=True)
    )


def peak(case: str, repeats: int = 3) -> list[float]:
    """Peak megabytes of a case beyond what was in memory before, in each of several processes."""
    command = [sys.executable, str(Path(__file__).parent), "--peak", case]
    return [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        for _ in range(repeats)
    ]


def megabytes_of(work: Callable[[], object]) -> float:
    """Peak megabytes of one call beyond the present state, in this process, which must do nothing else."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = _highest()
    work()
    return _highest() - before


def _highest() -> float:
    """This process's highest resident memory so far, in MB."""
    # on Linux from /proc, since getrusage also counts the parent process
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def table(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)
