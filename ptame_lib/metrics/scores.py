"""Maps of any origin judged: every metric, with intervals, for one classifier.

    found = score(classifier, images, maps)                  # images (N,3,H,W) in [0,1], maps (N,h,w)
    found = score(classifier, images, maps, truth=masks, method=rise)
    print(found.text())

With the ``method`` that made the maps, the checks that ask it again are made, too: how much a map changes with noise
that nobody sees, and whether it changes when the classifier is randomised.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..classifiers.wrapper import decide, device_of
from ..progress import progress
from ..validation import check_at_least, check_targets
from .robustness import Explain, max_sensitivity, rank_stability
from .sanity import randomise, similarity
from .statistics import mean_interval
from .suite import METRICS, SHARE, Metric, measure

AGAIN = {  # of a method that can be asked again
    "max-sensitivity": Metric(False, scale=1.0),
    "rank stability": Metric(True),
    "randomised: correlation": Metric(False),
    "randomised: SSIM": Metric(False),
}
SCORES = METRICS | AGAIN
MEANINGS = {  # how metrics' names begin, or end: what they are, in words
    "AD": "Average Drop: the share of the class's probability that is lost where only the map's part is kept",
    "IC": "Increase in Confidence: how often that probability rises instead",
    "AG": "Average Gain: by which share of what it lacks to 100 % the probability rises",
    "100": "(AD100, IC100, AG100) the map itself is the mask; 50 and 15: only the largest 50 or 15 % of its values",
    "@": "(AD@25 ...) the map's first 25 % of the pixels are kept, whatever the map's values",
    "MoRF": "the most relevant pixels are removed first: what is left of the probability, or of the decisions",
    "LeRF": "the least relevant pixels are removed first: the same",
    "insertion": "the mean probability while the most relevant pixels are put into a blurred image",
    "deletion": "the mean probability while the most relevant pixels are taken out",
    "SaCo": "of two groups of pixels, has the one of larger values the larger effect? 100: always, -100: never",
    "pointing": "how often the map's largest value lies in the truth",
    "energy": "the share of the map's sum that lies in the truth",
    "IoU": "intersection over union with the truth, at the best threshold of each image",
    "AP": "average precision of the pixels, by the map's values, against the truth",
    "precision@truth": "of the map's first pixels, as many as the truth has, the share that lies in it",
    "contour": "how well their outline follows the truth's (boundary F-measure)",
    "saliency": "log of the area that the map needs, minus log of the probability there",
    "sparseness": "how unequal the map's values are (Gini index); it says nothing of right or wrong",
    "max-sensitivity": "how far the map moves, at most, by noise that nobody sees",
    "rank stability": "how well the order of its pixels survives that noise",
    "randomised": "how much the maps of a randomised classifier are like these: they should not be",
}
NO_INTERVAL = "no 95 % interval: fewer than 10 images differ"


class Score(NamedTuple):
    """The ``mean`` of a metric over so many ``images``, and its 95 % interval; NaN where there is none to tell."""

    mean: float
    low: float
    high: float
    images: int


@dataclass(frozen=True)
class Scores:
    """What `score` found: ``values`` (N,) float64 of each metric in the order of `SCORES`, and ``notes`` for people."""

    values: dict[str, Tensor]
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Score:
        """A metric's `Score`, over the images for which it is defined, as of `mean_interval`."""
        if name not in self.values:
            raise KeyError(f"no score {name!r}: there are {', '.join(self.values)}")
        values = self.values[name].numpy()
        values = values[np.isfinite(values)]
        if not len(values):
            return Score(math.nan, math.nan, math.nan, 0)
        share = bool(SHARE.fullmatch(name)) and bool(np.isin(values, (0, SCORES[name].scale)).all())
        return Score(float(values.mean()), *map(float, mean_interval(values, share=share)), len(values))

    def as_dict(self) -> dict[str, Any]:
        """All scores as plain values for JSON; None where there is no number."""
        found = {}
        for name in self.values:
            numbers = {key: None if value != value else value for key, value in self[name]._asdict().items()}
            found[name] = numbers | {"higher is better": SCORES[name].higher_is_better}
        return {"scores": found, "notes": list(self.notes)}

    def text(self, every: bool = False) -> str:
        """A line for each metric: its mean, 95 % interval and number of images, and whether higher or lower is better.

        Those of the main tables, or ``every`` one; then what their names mean.
        """
        names = [name for name in self.values if every or SCORES[name].main]
        wide, lines = max(map(len, names)), []
        for name in names:
            (mean, low, high, images), metric = self[name], SCORES[name]
            unit = " %" if metric.scale == 100 else "  "
            bounds = NO_INTERVAL if low != low else f"{low:.2f} to {high:.2f}"
            better = "higher" if metric.higher_is_better else "lower"
            lines.append(f"{name:{wide}}  {mean:8.2f}{unit}  ({bounds}); {better} is better; {images} images")
        meant = {_part(name) for name in names}
        meant |= {end[0] for name in names if (end := re.search(r"100$|@(?=\d)", name))}
        told = [f"{part}: {MEANINGS[part]}." for part in MEANINGS if part in meant]
        return "\n".join([*lines, "In words:", *told, *(f"Note: {note}." for note in self.notes)])


def _part(name: str) -> str:
    """The key of `MEANINGS` for a metric: the longest with which its name begins, behind that of an imputer.

    >>> _part("AD@25 blurred"), _part("TELEA MoRF accuracy"), _part("AP")
    ('AD', 'MoRF', 'AP')
    """
    name = name.removeprefix("TELEA ")
    return max((part for part in MEANINGS if name.startswith(part)), key=len)


def score(
    classifier: nn.Module,
    images: Tensor | Dataset,
    maps: Tensor | Sequence[Tensor],
    *,
    targets: Tensor | None = None,
    truth: Tensor | Sequence[Tensor] | None = None,
    method: Callable[[nn.Module], Explain] | None = None,
    explain: Explain | None = None,
    names: Sequence[str] | None = None,
    curves: bool = True,
    draws: int = 10,
    batch_size: int = 20,
    seed: int = 0,
) -> Scores:
    """Every metric of `SCORES` that can be had for ``maps`` of ``images``, per image and with intervals.

    ``images``: (N,3,H,W) in [0,1], or a data set whose items have such ``pixels`` (3,H,W), all of one size. ``maps``:
    (N,h,w), or a sequence of (h,w), which may differ in size but have their image's shape; they show the same part of
    it. ``targets`` (N,) int64: the classes that they explain, by default the classifier's decisions. ``truth``: (N,H,W)
    bool, or a sequence of (H,W), the pixels of the evidence, for the metrics of localisation.

    ``method``: how the maps were made, a function classifier -> explain(pixels, targets), such as `rise`; or only
    ``explain``, of an explainer that does not ask the classifier, such as ``PTAME.explain``. Either adds the checks of
    robustness with so many ``draws``, the former also that of the randomised classifier: the given maps against those
    that the method makes for a copy of which all layers are drawn again with ``seed``. ``curves`` as of `measure`;
    ``names``: of the maps, for messages.

    Raises ValueError for another number of maps, targets or masks than of images, and for one that has another shape or
    values that are not finite, naming it; FloatingPointError where the classifier answers NaN.
    """
    n, named = len(images), names or [f"map {i}" for i in range(len(images))]
    _check_numbers(n, maps, targets, truth, named, batch_size=batch_size, draws=draws)
    again, parts, constant = _Again(classifier, method, explain, draws, seed), [], 0
    device = device_of(classifier)
    with progress(n, "score") as bar:
        for start in range(0, n, batch_size):
            at = range(start, min(start + batch_size, n))
            pixels = _pixels(images, at)
            size = tuple(pixels.shape[-2:])
            given = [_checked(maps[i], size, named[i]) for i in at]
            # maps of one size at a time, so that the others of a batch change nothing
            for _, same in groupby(range(len(at)), key=lambda k: given[k].shape):
                some = list(same)
                shown = torch.stack([given[k] for k in some]).to(device)
                asked = pixels[some].to(device)
                classes = decide(classifier, asked) if targets is None else targets[[at[k] for k in some]].to(device)
                masks = [_mask(truth[at[k]], size, named[at[k]]) for k in some] if truth is not None else None
                known = None if masks is None else torch.stack(masks).to(device)
                found = measure(classifier, asked, classes, shown, known, curves=curves)
                found |= again.measure(asked, classes, shown)
                parts.append({name: column.double().cpu() for name, column in found.items()})
                constant += int((shown.amax((1, 2)) == shown.amin((1, 2))).sum())
            bar.update(len(at))
    notes = [f"{constant} of {n} maps are constant: they put no pixels first"] if constant else []
    values = {name: torch.cat([part[name] for part in parts]) for name in SCORES if name in parts[0]}
    return Scores(values, (*notes, *again.notes))


class _Again:
    """The checks that ask a method again; ``notes``: why some are left out."""

    def __init__(
        self,
        classifier: nn.Module,
        method: Callable[[nn.Module], Explain] | None,
        explain: Explain | None,
        draws: int,
        seed: int,
    ):
        self.options, self.notes = {"draws": draws, "seed": seed}, []
        self.explain = method(classifier) if method else explain
        self.spoiled: Explain | None = None
        if method is None and explain is not None:
            self.notes.append("an explainer that does not ask the classifier is not tried on a randomised one")
        if method is None:
            return
        layers = [name for name, _ in classifier.model.named_children()] if hasattr(classifier, "model") else []
        if layers and getattr(classifier, "differentiable", True):
            self.spoiled = method(randomise(classifier, layers[-1], seed))
        else:
            self.notes.append("a classifier without layers of its own can't be randomised")

    def measure(self, pixels: Tensor, targets: Tensor, maps: Tensor) -> dict[str, Tensor]:
        """The metrics of `AGAIN`, times their scale."""
        if self.explain is None:
            return {}
        asked = (self.explain, pixels, targets)
        found = {"max-sensitivity": max_sensitivity(*asked, **self.options)}
        found["rank stability"] = rank_stability(*asked, **self.options)
        if self.spoiled is not None:
            other = self.spoiled(pixels, targets).detach().float()
            alike = similarity(maps, other, tuple(pixels.shape[-2:]))
            found |= dict(zip(("randomised: correlation", "randomised: SSIM"), alike, strict=True))
        return {name: AGAIN[name].scale * column for name, column in found.items()}


def _check_numbers(
    n: int,
    maps: Tensor | Sequence[Tensor],
    targets: Tensor | None,
    truth: Tensor | Sequence[Tensor] | None,
    names: Sequence[str],
    **counts: int,
) -> None:
    """Raise ValueError unless there is one of each for each of ``n`` images."""
    if not n:
        raise ValueError("no images to score maps of: give at least one")
    check_at_least(1, **counts)
    for what, given in (("maps", maps), ("masks of the truth", truth), ("names", names)):
        if given is not None and len(given) != n:
            raise ValueError(f"{len(given)} {what} for {n} images: give one for each, in the same order")
    if targets is not None:
        check_targets(targets, n)


def _pixels(images: Tensor | Dataset, at: range) -> Tensor:
    """The images (B,3,H,W) of a batch."""
    if isinstance(images, Tensor):
        return images[at.start : at.stop]
    return torch.stack([images[i]["pixels"] for i in at])


def _checked(map_: Tensor, size: tuple[int, int], name: str) -> Tensor:
    """A map (h,w) as float; ValueError, with its ``name``, for what can't be one of an image of this ``size``."""
    if not isinstance(map_, Tensor) or map_.ndim != 2 or not map_.numel():
        shape = tuple(map_.shape) if isinstance(map_, Tensor) else type(map_).__name__
        raise ValueError(f"{name} is {shape}: a map is a tensor (h,w), one number for each pixel or cell")
    if map_.is_complex():
        raise ValueError(f"{name} has complex numbers: a map has real ones")
    map_ = map_.detach().float()
    if bad := int((~map_.isfinite()).sum()):
        raise ValueError(f"{name} has {bad} values that are NaN or infinite: check the method that made it")
    if not same_shape(tuple(map_.shape), size):
        shapes = f"{map_.shape[0]} x {map_.shape[1]}, of another shape than its image of {size[0]} x {size[1]}"
        raise ValueError(f"{name} is {shapes}: a map must show the same part of the image that the classifier sees")
    return map_


def same_shape(cells: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a grid of so many cells has the shape of an image of this ``size``, up to a cell.

    >>> same_shape((7, 10), (224, 320)), same_shape((300, 400), (224, 224)), same_shape((1, 1), (50, 60))
    (True, False, True)
    """
    pairs = list(zip(cells, size, strict=True))  # a cell of this side, of each axis: at least and at most
    most = min(side / (n - 1) if n > 1 else math.inf for n, side in pairs)
    return max(side / (n + 1) for n, side in pairs) < most


def _mask(mask: Tensor, size: tuple[int, int], name: str) -> Tensor:
    """A mask (H,W) bool; ValueError for anything else."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != tuple(size):
        got = f"{tuple(mask.shape)} {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"the truth of {name} must be ({size[0]},{size[1]}) bool, got {got}")
    return mask
