"""Every method, every metric, per image: the numbers behind the comparison's tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from ptame_lib.classifiers.black_box import BlackBox
from ptame_lib.classifiers.wrapper import Classifier, decide, device_of
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.masking import resize
from ptame_lib.methods.base import MaskMethod, Method
from ptame_lib.metrics.compactness import saliency_metric
from ptame_lib.metrics.drop import average_drop, increase_in_confidence
from ptame_lib.metrics.evidence import explain_with_evidence
from ptame_lib.metrics.localisation import THRESHOLDS
from ptame_lib.metrics.memory import peak_memory
from ptame_lib.metrics.segmentation import aggregate_masks, f1_score, mask_iou
from ptame_lib.metrics.specificity import label_confidence
from ptame_lib.metrics.suite import MASK_MEASURES, measure
from ptame_lib.progress import progress
from ptame_lib.validation import check_at_least, check_maps

from . import paths
from .cache import Rows, cached


def aggregate(method: MaskMethod, pixels: Tensor, labels: Tensor, truth: Tensor | None = None) -> Tensor:
    """One mask (B,H,W) per image: the pixelwise maximum over its labels' masks; 0 without labels. ``labels`` (B,K), ``truth`` (B,K,H,W)."""
    rows, classes = (labels > 0.5).nonzero(as_tuple=True)
    if not len(rows):
        return torch.zeros_like(pixels[:, 0])
    asked = truth[rows, classes] if method.sees_truth else classes
    masks = pixels.new_zeros(*labels.shape, *pixels.shape[-2:])
    masks[rows, classes] = resize(method.explain(pixels[rows], asked).float(), pixels.shape[-2:])
    return aggregate_masks(masks, labels)


def evaluate_masks(
    classifier: nn.Module, method: MaskMethod, data: Dataset, *, batch_size: int = 20
) -> tuple[pd.DataFrame, float]:
    """A method's aggregate masks on every image: per-image values, and milliseconds per image.

    ``data``: items with ``pixels``, ``labels`` (K,) and ``truth`` (K,H,W) bool, or (H,W) of all objects together. Columns: image, those
    of `MASKS` in percent, ``saliency score`` in nats, and ``F1 at t``, ``mask IoU at t`` for the thresholds .1, ..., .9. Raises
    ValueError for no images, and for masks that are not finite or not in [0,1].
    """
    if not len(data):
        raise ValueError(f"no images to explain with {method.name}: give at least one")
    check_at_least(1, batch_size=batch_size)
    rows, spent = [], []
    with progress(len(data), method.name) as bar:
        for batch in DataLoader(data, batch_size):
            pixels, labels, objects = (batch[key].to(classifier.mean.device) for key in ("pixels", "labels", "truth"))
            if objects.ndim == 3:
                objects = objects[:, None].expand(-1, labels.shape[1], -1, -1)
            start = time.perf_counter()
            masks = aggregate(method, pixels, labels, objects)
            spent.append(1000 * (time.perf_counter() - start) / len(pixels))
            truth = objects.any(1)
            columns = {name: 100 * metric(masks, truth).double() for name, metric in MASK_MEASURES.items()}
            kept = label_confidence(classifier, pixels, labels, masks)
            columns["saliency score"] = saliency_metric(masks, kept, as_they_are=True).double()
            for t in THRESHOLDS:
                columns[f"F1 at {t:g}"] = 100 * f1_score(masks, truth, t).double()
                columns[f"mask IoU at {t:g}"] = 100 * mask_iou(masks, truth, t).double()
            rows.append(torch.stack(list(columns.values()), 1).cpu())
            bar.update(len(pixels))
    values = pd.DataFrame(torch.cat(rows).numpy(), columns=list(columns))
    values.insert(0, "image", range(len(values)))
    return values, statistics.median(spent)


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
    check_at_least(1, batch_size=batch_size)
    file, made_from = partial or (None, {})
    device = device_of(classifier)
    with (
        Rows(file, made_from | {"batch_size": batch_size, "curves": curves}) as rows,
        progress(len(data), method.name) as bar,
    ):
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
            check_maps(maps, len(pixels), of=method.name)
            columns = measure(classifier, pixels, targets, maps, truth, curves=curves)
            rows.append({name: column.tolist() for name, column in columns.items()}, seconds=seconds, peak=peak)
            bar.update(len(pixels))
        values, about = rows.table()
    values.insert(0, "image", range(len(values)))
    passes = {"forwards": method.forwards, "backwards": method.backwards}
    milliseconds = 1000 * statistics.median(about["seconds"])
    return values, {
        **passes,
        "ms_per_image": milliseconds,
        "peak_mb": about["peak"][0],
        "images": len(values),
        "source": method.source,
    }


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

        def compute(
            partial: tuple[Path, dict] | None = None, method: Method = method, part: Dataset = part
        ) -> tuple[pd.DataFrame, pd.DataFrame]:
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


def measure_explainer(
    explainer: PTAME, model: Classifier | BlackBox, test: Dataset, batch_size: int
) -> dict[str, float]:
    """What the explainer is worth on images it has not seen: their number, and means in percent.

    ``faithful``: what the map keeps is decided as the whole image; ``rest alike``: so is the rest; AD and IC at 100 %.
    """
    device, parts = device_of(explainer), []
    model = model.to(device)
    for batch in DataLoader(test, batch_size):
        _, proof = explain_with_evidence(explainer, model, batch["pixels"].to(device))
        drop, rise = average_drop(proof.whole, proof.kept), increase_in_confidence(proof.whole, proof.kept)
        parts.append(
            torch.stack([proof.faithful.double(), proof.rest_too.double(), drop.double(), rise.double()]).cpu()
        )
    means = (100 * torch.cat(parts, 1).mean(1)).tolist()
    return {"images": len(test)} | {
        name: round(mean, 1) for name, mean in zip(("faithful", "rest alike", "AD100", "IC100"), means, strict=True)
    }
