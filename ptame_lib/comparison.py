"""Every method, every metric, per image: the numbers behind the comparison's tables."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from . import checks, locks, paths
from .classifiers import decide, device_of
from .cost import peak_memory
from .methods import Method
from .metrics.suite import measure
from .progress import progress
from .rows import Rows
from .study import write_whole


def evaluate(
    classifier: nn.Module,
    method: Method,
    data: Dataset,
    *,
    batch_size: int = 20,
    curves: bool = True,
    partial: tuple[Path, dict] | None = None,
) -> tuple[pd.DataFrame, dict]:
    """Explain the classifier's decision on every image; returns per-image values and costs.

    ``data``: items with ``pixels`` (3,H,W) in [0,1] and, where it is known, the ``truth`` (H,W) bool. Columns of the values: image, and
    those of `metrics.suite.METRICS` that the data allow; ``curves`` as in `metrics.suite.measure`. Costs: forwards, backwards,
    ms_per_image, peak_mb, images, source. Only the method's own work is timed: the median over batches, since the first also warms
    up; the memory is that of one image.

    Maps are gone with their batch, and its values go to disk, so that the memory it takes does not grow with the images, but for the
    table returned at the end: half a kilobyte an image. ``partial``: the file where they go, and what they are made from, so that
    a killed evaluation goes on after its last whole batch; it stays, for the caller to remove once the values are kept elsewhere.

    Raises ValueError for no images, for pixels outside [0,1], for a method that needs a truth which the data have not, or whose maps are
    not (B,h,w) and finite; FloatingPointError where the classifier answers NaN or infinity.
    """
    if not len(data):
        raise ValueError(f"no images to explain with {method.name}: give at least one")
    checks.at_least(1, batch_size=batch_size)
    file, made_from = partial or (None, {})
    device = device_of(classifier)
    with Rows(file, made_from | {"batch_size": batch_size, "curves": curves}) as rows, progress(len(data), method.name) as bar:
        bar.update(rows.count)
        rest = Subset(data, range(rows.count, len(data))) if rows.count else data
        peak = None
        for batch in DataLoader(rest, batch_size):
            pixels = batch["pixels"].to(device)
            truth = batch["truth"].to(device) if "truth" in batch else None
            targets = decide(classifier, pixels)
            if method.sees_truth and truth is None:
                raise ValueError(f"{method.name!r} is given the truth, which these images have not: leave it out")
            asked = truth if method.sees_truth else targets
            if peak is None:
                peak = peak_memory(lambda pixels=pixels, asked=asked: method(pixels[:1], asked[:1]))
            start = time.perf_counter()
            maps = method(pixels, asked)
            if pixels.is_cuda:
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - start) / len(pixels)
            checks.maps(maps, len(pixels), of=method.name)
            columns = measure(classifier, pixels, targets, maps, truth, curves=curves)
            rows.append({name: column.tolist() for name, column in columns.items()}, seconds=seconds, peak=peak)
            bar.update(len(pixels))
        values, about = rows.table()
    values.insert(0, "image", range(len(values)))
    passes = {"forwards": method.forwards, "backwards": method.backwards}
    milliseconds = 1000 * statistics.median(about["seconds"])
    return values, {**passes, "ms_per_image": milliseconds, "peak_mb": about["peak"][0], "images": len(values), "source": method.source}


def evaluate_all(
    name: str,
    classifier: nn.Module,
    methods: list[Method],
    data: Dataset,
    fewer: Mapping[str, int] | None = None,
    *,
    curves: bool = True,
    kept: tuple[Path, dict] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every method on one classifier: per-image values (classifier, method, image, metrics) and costs (classifier, method, and what
    `evaluate` says).

    ``fewer``: methods that explain only so many images, the first ones. ``kept``: a folder where each method's values are written as soon
    as they are there, and what they are made from; a later call with the same uses them (`cached`), and where one was killed goes on
    after its last whole batch.
    """
    values, costs = [], []
    for method in methods:
        part = Subset(data, range(min(len(data), (fewer or {}).get(method.name, len(data)))))

        def compute(partial: tuple[Path, dict] | None = None, method: Method = method, part: Dataset = part) -> tuple[pd.DataFrame, pd.DataFrame]:
            per_image, cost = evaluate(classifier, method, part, curves=curves, partial=partial)
            labels = {"classifier": name, "method": method.name}
            return per_image.assign(**labels), pd.DataFrame([labels | cost])

        if kept is None:
            per_image, cost = compute()
        else:
            folder, made_from = kept
            made_from = made_from | {"method": method.name, "images": len(part)}
            file = folder / f"{paths.slug(method.name)}.csv"
            partial = file.with_suffix(".partial.jsonl"), made_from
            per_image, cost = cached(file, made_from, lambda compute=compute, partial=partial: compute(partial))
            partial[0].unlink(missing_ok=True)
        values.append(per_image)
        costs.append(cost)
    per_image = pd.concat(values, ignore_index=True)
    front = ["classifier", "method", "image"]
    return per_image[front + [c for c in per_image if c not in front]], pd.concat(costs, ignore_index=True)


def cached(file: Path, made_from: dict, compute: Callable[[], tuple[pd.DataFrame, pd.DataFrame]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per-image values and costs from ``file`` where they were made from the same things, else computed and kept there.

    Beside the CSV lies a JSON with what it was made from and the costs; it is written last, so a half-finished pair is never used.
    Raises RuntimeError where another run is computing it.
    """
    if (known := _known(file, made_from)) is not None:
        return known
    with locks.alone(file):
        if (known := _known(file, made_from)) is not None:  # another run has made it while this one waited
            return known
        note = file.with_suffix(".json")
        note.unlink(missing_ok=True)
        per_image, cost = compute()
        with paths.whole(file) as unfinished:
            per_image.to_csv(unfinished, index=False, float_format="%.10g", lineterminator="\n")
        write_whole(note, json.dumps({"made_from": made_from, "cost": cost.to_dict("records")}, indent=1))
    return pd.read_csv(file), cost  # as read, so that the first and later runs see the same digits


def _known(file: Path, made_from: dict) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    note = file.with_suffix(".json")
    if file.is_file() and note.is_file():
        try:
            known = json.loads(note.read_text())
            if known["made_from"] == made_from:
                return pd.read_csv(file), pd.DataFrame(known["cost"])
        except (ValueError, KeyError, TypeError):  # a damaged file is worth nothing: compute it again
            pass
    return None
