"""Every method, every metric, per image: the numbers behind the comparison's tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from ptame_lib.classifiers.black_box import BlackBox
from ptame_lib.classifiers.wrapper import Classifier, decide, device_of
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.masking import keep as keep_part
from ptame_lib.masking import normalise, resize
from ptame_lib.methods.base import Method
from ptame_lib.methods.controls import ChannelMean
from ptame_lib.metrics.drop import average_drop, confidence, increase_in_confidence, masked_confidence
from ptame_lib.metrics.evidence import SHOWN, explain_with_evidence
from ptame_lib.metrics.memory import peak_memory
from ptame_lib.metrics.moving import moved
from ptame_lib.metrics.segmentation import aggregate_masks, roc_auc
from ptame_lib.metrics.statistics import mean_interval
from ptame_lib.metrics.suite import MAPS, Suite
from ptame_lib.progress import progress
from ptame_lib.validation import check_at_least, check_maps

from . import paths
from .cache import Rows, keep, read_values
from .settings import KIND


def aggregate(method: Method, pixels: Tensor, labels: Tensor, truth: Tensor | None = None) -> Tensor:
    """One mask (B,H,W) per image: the pixelwise maximum over its labels' masks; 0 without labels.

    ``labels`` (B,K); ``truth``, for a method that is given it: of each label (B,K,H,W), or of all together (B,H,W).
    """
    rows, classes = (labels > 0.5).nonzero(as_tuple=True)
    if not len(rows):
        return torch.zeros_like(pixels[:, 0])
    asked = classes
    if method.sees_truth:
        asked = truth[rows, classes] if truth.ndim == 4 else truth[rows]
    # every label of every image in one batch, then back to its place
    masks = pixels.new_zeros(*labels.shape, *pixels.shape[-2:])
    masks[rows, classes] = resize(method(pixels[rows], asked).float(), pixels.shape[-2:])
    return aggregate_masks(masks, labels)


def explain(method: Method, pixels: Tensor, wanted: Tensor, truth: Tensor | None) -> Tensor:
    """Maps (B,h,w) of decisions (B,), or of labels (B,K) by `aggregate`; see `Suite`."""
    if wanted.ndim == 2:
        return aggregate(method, pixels, wanted, truth)
    return method(pixels, truth if method.sees_truth else wanted)


def evaluate(
    classifier: nn.Module,
    method: Method,
    data: Dataset,
    suite: Suite = MAPS,
    *,
    batch_size: int = 20,
    unfinished: tuple[Path, dict] | None = None,
    once: dict | None = None,
    **options: Any,
) -> tuple[pd.DataFrame, dict]:
    """Let a method explain every image: per-image values (image, and the suite's columns) and its costs.

    ``data``: items with ``pixels`` (3,H,W) in [0,1] and, where it is known, the ``truth`` (H,W) bool, and the class
    that is ``asked`` about if it is not the decision; for `MASKS` also ``labels`` (K,), and the truth (K,H,W) of each
    or (H,W) of all. ``options`` of the suite's `measured_by`, such as ``curves=False``. Costs: forwards, backwards,
    ms_per_image, peak_mb, images, source. Only the method's own work is timed: the median over batches, since the first
    also warms up; the memory is that of one image.

    Maps are dropped after their batch and its values go to disk, so memory does not grow with the images, except for
    the table at the end: 8 bytes an image and column. ``unfinished``: the file for them and what they are made from,
    so that a killed evaluation goes on after its last whole batch; the caller removes it once the values are kept
    elsewhere. ``once``: for the next methods, holds what the classifier answers to each batch whatever the method, 125
    bytes an image (by batch, since a network may round differently in one of another size).

    Raises ValueError for no images, for pixels outside [0,1], for a method that needs a truth the data do not have, and
    for maps that are not (B,h,w) and finite, or must not be normalised as the suite does; FloatingPointError where the
    classifier answers NaN or infinity.
    """
    if not len(data):
        raise ValueError(f"no images to explain with {method.name}: give at least one")
    if not (suite.of_labels or method.normalised):
        raise ValueError(f"{method.name!r} gives masks that must not be normalised: evaluate it with the suite MASKS")
    check_at_least(1, batch_size=batch_size)
    file, made_from = unfinished or (None, {})
    made_from = made_from | {"suite": suite.measured_by.__name__, "batch_size": batch_size} | options
    peak = None
    with Rows(file, made_from) as rows, progress(len(data), method.name) as bar:
        # go on after what an earlier run left
        bar.update(rows.count)
        rest = Subset(data, range(rows.count, len(data))) if rows.count else data
        for batch in DataLoader(rest, batch_size):
            known = {} if once is None else once.setdefault((rows.count, len(batch["pixels"])), {})
            pixels, wanted, truth, answers = _ask(classifier, method, batch, suite, known, options)
            # explain: the memory is that of the first image, the time that of every batch
            peak = _peak(method, pixels, wanted, truth) if peak is None else peak
            maps, seconds = _timed(method, pixels, wanted, truth)
            check_maps(maps, len(pixels), of=method.name)
            # measure
            columns = suite.measured_by(classifier, pixels, wanted, maps, truth, **answers, **options)
            rows.append({name: column.tolist() for name, column in columns.items()}, seconds=seconds, peak=peak)
            bar.update(len(pixels))
        values, about = rows.table()
    values.insert(0, "image", range(len(values)))
    passes = {"forwards": method.forwards, "backwards": method.backwards}
    spent = {"ms_per_image": 1000 * statistics.median(about["seconds"]), "peak_mb": about["peak"][0]}
    return values, passes | spent | {"images": len(values), "source": method.source}


def _ask(
    classifier: nn.Module, method: Method, batch: dict, suite: Suite, known: dict, options: dict
) -> tuple[Tensor, Tensor, Tensor | None, dict]:
    """A batch's pixels, what the method is asked for, the truth if known, and what the suite may be told.

    All on the classifier's device. What the classifier answers without a map is asked only if it is not ``known`` of
    this batch, and kept there.
    """
    device = device_of(classifier)
    pixels, truth = batch["pixels"].to(device), batch["truth"].to(device) if "truth" in batch else None
    if method.sees_truth and truth is None:
        raise ValueError(f"{method.name!r} is given the truth, which these images do not have: leave it out")
    if suite.of_labels:
        return pixels, batch["labels"].to(device), truth, {}
    if not known:
        known["wanted"] = batch["asked"].to(device) if "asked" in batch else decide(classifier, pixels)
        known["answers"] = suite.ask(classifier, pixels, known["wanted"], **options)
    return pixels, known["wanted"], truth, {"answers": known["answers"]}


def _peak(method: Method, *asked: Tensor | None) -> float:
    """The memory in MB that explaining the first image takes."""
    first = [None if value is None else value[:1] for value in asked]
    return peak_memory(lambda: explain(method, *first))


def _timed(method: Method, pixels: Tensor, *asked: Tensor | None) -> tuple[Tensor, float]:
    """What `explain` gives, and the seconds per image until the device has finished it."""

    def now() -> float:
        if pixels.is_cuda:
            torch.cuda.synchronize(pixels.device)
        return time.perf_counter()

    start = now()
    maps = explain(method, pixels, *asked)
    return maps, (now() - start) / len(pixels)


def evaluate_all(
    name: str,
    classifier: nn.Module,
    methods: list[Method],
    data: Dataset,
    fewer: Mapping[str, int] | None = None,
    suite: Suite = MAPS,
    *,
    kept: tuple[Path, dict] | None = None,
    **options: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`evaluate` every method on one classifier: per-image values, and costs.

    Both tables have the columns classifier and method. ``fewer``: methods that explain only so many images, the
    first ones. ``kept``: a folder where each method's values are written once they are complete, and what they are made
    from; a later call with the same uses them (`cached`), and goes on after the last whole batch of one that was
    killed. Of data with ``kinds`` of images, the column classifier says which, too (`KIND`).
    """
    once: dict | None = {} if len(methods) > 1 else None
    kinds = getattr(data, "kinds", None)

    def compute(method: Method, part: Dataset, unfinished: tuple[Path, dict] | None = None) -> tuple:
        per_image, cost = evaluate(classifier, method, part, suite, unfinished=unfinished, once=once, **options)
        labels = {"classifier": name, "method": method.name}
        for at, (column, value) in enumerate(labels.items()):
            per_image.insert(at, column, value)
        if kinds:
            per_image["classifier"] = [f"{name}{KIND}{kinds[i]}" for i in per_image["image"]]
        return per_image, pd.DataFrame([labels | cost])

    def made(method: Method) -> tuple:
        """The table, or the file that holds it, and the costs."""
        part = Subset(data, range(min(len(data), (fewer or {}).get(method.name, len(data)))))
        if kept is None:
            return compute(method, part)
        # keep the finished table, and until then the finished batches
        folder, made_from = kept
        made_from = made_from | {"method": method.name, "images": len(part)}
        file = folder / f"{paths.slug(method.name)}.csv"
        unfinished = file.with_suffix(".partial.jsonl")
        cost = keep(file, made_from, partial(compute, method, part, (unfinished, made_from)))
        unfinished.unlink(missing_ok=True)
        return file, cost

    values, costs = zip(*map(made, methods), strict=True)
    once = None  # no longer needed, unlike the memory that it takes
    per_image = pd.concat(values, ignore_index=True) if kept is None else read_values(*values)
    return per_image, pd.concat(costs, ignore_index=True)


@torch.no_grad()
def own_shares(classifier: nn.Module, methods: list[Method], pairs: Dataset, batch_size: int = 20) -> pd.DataFrame:
    """How far a map of a pair is about the object that is asked about, and not about the other one.

    By the map's values, the *own share*: of what it shows of both objects, how much is in the own one. A power of the
    map or a constant added to it move this. By its order, *own first*: how often a pixel of the own object ranks above
    one of the other (`roc_auc`). A map that does not tell classes apart has 50 on average, one that shows nothing of
    both has 50.

    ``pairs``: items as of `Cutouts.each`, the two of a pair one after the other. Columns: method, metric, value (the
    mean over items, percent), low, high (95 % interval), n.
    """
    rows, device = [], device_of(classifier)
    for method in methods:
        found = {"own share": [], "own first": []}
        for batch in DataLoader(pairs, 2 * batch_size):
            pixels, truth, asked = (batch[key].to(device) for key in ("pixels", "truth", "asked"))
            maps = normalise(resize(method(pixels, truth if method.sees_truth else asked).float(), pixels.shape[-2:]))
            other_truth = truth.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
            own, other = ((maps * of).sum((1, 2)) for of in (truth, other_truth))
            both = own + other
            found["own share"].append(torch.where(both > 0, own / both.clamp_min(1e-12), 0.5))
            for one, inside, seen in zip(maps, truth, truth | other_truth, strict=True):
                found["own first"].append(roc_auc(one[seen][None, None], inside[seen][None, None]))
        for metric, parts in found.items():
            values = 100 * torch.cat(parts).double().cpu().numpy()
            rows.append((method.name, metric, values.mean(), *mean_interval(values), len(values)))
    return pd.DataFrame(rows, columns=["method", "metric", "value", "low", "high", "n"])


POWERS = (0.25, 0.5, 1.0, 2.0, 4.0)


def by_power(classifier: nn.Module, methods: list[Method], data: Dataset, batch_size: int = 20) -> pd.DataFrame:
    """What a power of the maps (`POWERS`), which leaves the order of pixels alone, does to a published metric.

    Columns: method, power, AD100 (the mean over images, percent).
    """
    rows = []
    for batch in DataLoader(data, batch_size):
        pixels = batch["pixels"].to(device_of(classifier))
        targets = batch["asked"].to(pixels.device) if "asked" in batch else decide(classifier, pixels)
        with torch.no_grad():
            p = confidence(classifier, pixels, targets)
        for method in methods:
            maps = normalise(resize(method(pixels, targets).float(), pixels.shape[-2:]))
            for power in POWERS:
                with torch.no_grad():
                    q = confidence(classifier, keep_part(pixels, maps.pow(power)), targets)
                rows += [(method.name, power, 100 * drop) for drop in average_drop(p, q).tolist()]
    found = pd.DataFrame(rows, columns=["method", "power", "AD100"])
    return found.groupby(["method", "power"], sort=False).mean().reset_index()


def measure_explainer(
    explainer: PTAME, model: Classifier | BlackBox, test: Dataset, batch_size: int
) -> dict[str, float]:
    """How good the explainer is on images it has not seen: their number, and means in percent.

    ``faithful``: the first ``shown`` percent of a map's pixels, all others black, are decided like the whole image;
    ``rest alike``: so is the rest; AD100 and IC100, of the soft map. ``moved``: how often the decision goes along when
    the map's first pixels are moved to another image; ``moved more``: by how much more often than with those of a map
    that knows no classifier (`ChannelMean`), and the interval ``from``, ``to`` of this difference, which `follows`
    judges.
    """
    names, parts, moves = ("faithful", "rest alike", "AD100", "IC100"), [], []
    device = device_of(explainer)
    model = model.to(device)
    for batch in DataLoader(test, batch_size):
        pixels = batch["pixels"].to(device)
        maps, proof = explain_with_evidence(explainer, model, pixels)
        q = masked_confidence(model, pixels, proof.targets, maps)
        drop, rise = average_drop(proof.whole, q), increase_in_confidence(proof.whole, q)
        columns = (proof.faithful[:, 0], proof.rest_too[:, 0], drop, rise)
        parts.append(torch.stack([column.double() for column in columns]).cpu())
        control = ChannelMean(explainer.auxiliary).explain(pixels, proof.targets)
        moves.append(torch.stack([moved(model, pixels, each, proof.targets) for each in (maps, control)]).cpu())
    means = (100 * torch.cat(parts, 1).mean(1)).tolist()
    found = {name: round(mean, 1) for name, mean in zip(names, means, strict=True)}
    return {"images": len(test), "shown": round(100 * SHOWN), **found, **_moved(100 * torch.cat(moves, 1))}


def _moved(values: Tensor) -> dict[str, float]:
    """What `measure_explainer` says of moved decisions (2,n), by the map and by the control; {} where none could."""
    values = values[:, ~values[0].isnan()].numpy()
    if not values.size:
        return {}
    gap = values[0] - values[1]
    low, high = mean_interval(gap)
    found = {"moved": values[0].mean(), "moved more": gap.mean(), "from": low, "to": high}
    return {name: round(float(value), 1) for name, value in found.items() if np.isfinite(value)}
