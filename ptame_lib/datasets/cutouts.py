"""Photographs cut out with an alpha channel, pasted onto other photographs: real images with truth to the pixel.

Stamps: those of `stamps`, by the tables in ``data/cutouts``. Backgrounds: photographs inside the wheels of scikit-image
and scikit-learn in which ImageNet classifiers see little. Splits share no stamp and no region of a photograph.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .. import files
from ..validation import check_at_least
from .composed import Composed, compose, remembered
from .images import check_split
from .stamps import find_stamps, read_stamp

SIZE = 224  # pixels per side
HALF = SIZE // 2
ROOMS = ((HALF, SIZE), (SIZE, HALF))  # width and height of the halves: left and right, upper and lower
LONGER = (90, 150)  # pixels of a stamp's longer side
LEAST = 128  # pixels of a photograph that become a background's side
QUARTER = (80, HALF)  # pixels of the longer side of a stamp in a quarter
SPLITS = ("train", "val", "test")
VERSION = 1  # of the composition: a new number makes old cache files unused
UNKNOWN = -1  # the label of a stamp whose class is not known
Part = tuple[np.ndarray, np.ndarray]  # premultiplied colours (h,w,3) and alpha (h,w), float32 in [0,1]


@dataclass(frozen=True)
class Stamp:
    """A cut-out photograph: its file's name, ImageNet class (or `UNKNOWN`) and SHA-256."""

    name: str
    label: int
    sha256: str


@dataclass(frozen=True)
class Cutouts(Composed):
    """Images (N,3,224,224) with their truth, as in `Composed`.

    Singles: ``labels`` (N,) int64, ``truth`` (N,224,224). Pairs: ``labels`` (N,2), ``truth`` (N,2,224,224), each the
    pixels of its own stamp. With ``asked``, an item says under ``asked`` that its label's class is to be explained,
    whatever the decision.
    """

    asked: bool = False

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        item = super().__getitem__(i)
        return item | {"asked": item["label"]} if self.asked else item

    def part(self, indices: Sequence[int] | Tensor) -> Cutouts:
        """The images of these indices, in this order."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        return Cutouts(self.images[rows], self.labels[rows], self.truth[rows], self.asked)

    def each(self) -> Cutouts:
        """Pairs as two items each, one for each class that is asked about, with its own stamp as the truth."""
        images = self.images.repeat_interleave(2, 0)
        return Cutouts(images, self.labels.flatten(), self.truth.flatten(0, 1), asked=True)


@dataclass(frozen=True)
class Scenes(Composed):
    """Images (N,3,224,224) of two or three stamps of different classes, for classifiers of several labels.

    ``labels`` (N,52) bool, in the order of ``names``: the classes that are there; ``truth`` (N,224,224): the pixels of
    all stamps together.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names, as ImageNet has them."""
        return tuple(scene_classes().values())


def load_cutouts(
    split: str,
    n: int,
    *,
    pairs: bool = False,
    seed: int = 0,
    start: int = 0,
    folder: str | Path | None = None,
    stamps: Sequence[Stamp] | None = None,
    cached: bool = True,
) -> Cutouts:
    """``n`` images of a split from image ``start`` on. Image i depends on (split, form, seed, i) and the stamps alone.

    The stamps are found by `find_stamps`, in ``folder`` or the cache folder. ``stamps``: None takes all of the split
    (`read_tables`). The composed images are kept in the cache folder: 200 KB each, 250 KB a pair.

    Raises ValueError for an unknown split, for n < 1, for too few stamps, and as `read_stamp`; FileNotFoundError where
    the stamps are missing.
    """
    check_split(split, SPLITS, "cutouts")
    check_at_least(1, n=n)
    check_at_least(0, start=start)
    stamps = read_tables(split) if stamps is None else list(stamps)
    if not stamps or (pairs and not any(_differ(stamps[0], other) for other in stamps)):
        needed = "two stamps of different classes" if pairs else "one stamp"
        raise ValueError(f"there are {len(stamps)} stamps: give at least {needed}")

    form = "pairs" if pairs else "singles"

    def make() -> tuple[Tensor, ...]:
        where = find_stamps(stamps[0].name, folder)

        def one(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            rng = np.random.default_rng([seed, SPLITS.index(split), int(pairs), start + i])
            canvas = draw_background(split, rng)
            return (_compose_pair if pairs else _compose_single)(canvas, stamps, where, rng)

        return compose(n, f"{split} {form},", one)

    which = f"{start}-{start + n}" if start else f"{n}"
    return Cutouts(*remembered(f"cutouts-v{VERSION}-{form}-{split}-seed{seed}-{which}-{digest(stamps)}", make, cached))


def load_scenes(
    split: str,
    n: int,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    stamps: Sequence[Stamp] | None = None,
    cached: bool = True,
) -> Scenes:
    """``n`` images of two or three stamps each; image i depends on (split, seed, i) and the stamps alone.

    Unlike those of `load_cutouts`, the splits share classes, since a classifier of several labels can name only what it
    was trained on: ``train`` has the first stamp of each class, ``val`` and ``test`` have all. Backgrounds share no
    region. Other arguments, and errors, as of `load_cutouts`.
    """
    check_split(split, SPLITS, "cutouts")
    check_at_least(1, n=n)
    stamps = scene_stamps(split) if stamps is None else list(stamps)
    if len({stamp.label for stamp in stamps}) < 3:
        raise ValueError(f"there are {len(stamps)} stamps: give at least three of different classes")
    number = {label: i for i, label in enumerate(scene_classes())}

    def make() -> tuple[Tensor, ...]:
        where = find_stamps(stamps[0].name, folder)

        def one(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            rng = np.random.default_rng([seed, SPLITS.index(split), 2, i])
            canvas = draw_background(split, rng)
            chosen = _draw_different(stamps, int(rng.integers(2, 4)), rng)
            if len(chosen) == 2:
                first = int(rng.integers(2))
                truth = _fill_halves(canvas, chosen, [first, 1 - first], where, rng)
            else:
                truth = _fill_quarters(canvas, chosen, where, rng)
            labels = np.zeros(len(number), dtype=bool)
            labels[[number[stamp.label] for stamp in chosen]] = True
            return canvas, labels, np.any(truth, axis=0)

        return compose(n, f"{split} scenes,", one)

    return Scenes(*remembered(f"cutouts-v{VERSION}-scenes-{split}-seed{seed}-{n}-{digest(stamps)}", make, cached))


def scene_classes() -> dict[int, str]:
    """The classes of `load_scenes`: ImageNet's number and name of each, in the order of the labels."""
    with (files.cutouts() / "chosen.csv").open(newline="", encoding="utf-8") as lines:
        return dict(sorted((int(row["class_id"]), row["label"]) for row in csv.DictReader(lines)))


def scene_stamps(split: str) -> list[Stamp]:
    """The stamps of `load_scenes`: the first of each class for ``train``, else all with a trusted class."""
    found = [stamp for part in SPLITS for stamp in read_tables(part) if stamp.label != UNKNOWN]
    return list({stamp.label: stamp for stamp in reversed(found)}.values())[::-1] if split == "train" else found


def digest(stamps: Sequence[Stamp]) -> str:
    """What the names, classes and contents of stamps, in this order, are called in a file's name."""
    rows = [(stamp.name, stamp.label, stamp.sha256) for stamp in stamps]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:12]


def read_tables(split: str, *, strict: bool = False) -> list[Stamp]:
    """The stamps of a split: those with a trusted class, and for ``train`` many without.

    ``strict`` leaves out those whose class is debatable. Raises ValueError for an unknown split.
    """
    check_split(split, SPLITS, "cutouts")
    with (files.cutouts() / "chosen.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == split]
    found = [Stamp(r["stamp"], int(r["class_id"]), r["sha256"]) for r in rows if not strict or r["strict"] == "yes"]
    if split == "train":
        with (files.cutouts() / "others.csv").open(newline="", encoding="utf-8") as lines:
            found += [Stamp(row["stamp"], UNKNOWN, row["sha256"]) for row in csv.DictReader(lines)]
    return found


@torch.no_grad()
def recognised(data: Cutouts, classifiers: Sequence[nn.Module], first: int = 5, batch_size: int = 20) -> Tensor:
    """Whether all of an image's classes are among the ``first`` of every classifier: (N,) bool.

    The classifiers take pixels (B,3,224,224) in [0,1] and give logits (B,K), K at least ``first``. A class that is not
    known never is. Raises ValueError for no classifiers.
    """
    if not classifiers:
        raise ValueError("no classifiers are given: who is to recognise the images?")
    found = []
    for images, labels in zip(data.images.split(batch_size), data.labels.split(batch_size), strict=True):
        labels, all_of_them = labels.reshape(len(labels), -1), torch.ones(len(labels), dtype=torch.bool)
        for classifier in classifiers:
            best = classifier(images.float() / 255).topk(first, 1).indices.cpu()
            all_of_them &= (best[:, None] == labels[..., None]).any(2).all(1)
        found.append(all_of_them)
    return torch.cat(found)


@lru_cache(maxsize=1)
def load_photographs() -> list[Image.Image]:
    """The six photographs and textures of the backgrounds, as RGB."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    found = [data.hubble_deep_field(), data.brick(), data.gravel(), data.rocket(), data.grass()]
    return [Image.fromarray(a).convert("RGB") for a in (*found, load_sample_image("china.jpg"))]


def draw_background(split: str, rng: np.random.Generator) -> np.ndarray:
    """A random square of a photograph, flipped or not: (224,224,3) float32 in [0,1].

    Training has the left half of each photograph, the test the upper right quarter, validation the lower right one.
    """
    photo = load_photographs()[rng.integers(len(load_photographs()))]
    left, right = (0, photo.width // 2) if split == "train" else (photo.width // 2, photo.width)
    middle = photo.height // 2
    top, bottom = {"train": (0, photo.height), "test": (0, middle), "val": (middle, photo.height)}[split]
    most = min(right - left, bottom - top)
    side = int(rng.integers(min(LEAST, most), most + 1))
    x, y = int(rng.integers(left, right - side + 1)), int(rng.integers(top, bottom - side + 1))
    # cropped first: a resized box would also see the pixels around it
    crop = photo.crop((x, y, x + side, y + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(crop, dtype=np.float32)[:, :: rng.choice((-1, 1))] / 255)


def scale(stamp: Image.Image, size: tuple[int, int], flip: bool = False) -> Part:
    """A stamp at a size (width, height): its colours times its alpha, and its alpha.

    Scaled premultiplied, so that the colours of transparent pixels leave no halo.
    """
    scaled = np.asarray(stamp.convert("RGBa").resize(size, Image.Resampling.BICUBIC), dtype=np.float32) / 255
    scaled = scaled[:, ::-1] if flip else scaled
    alpha = scaled[..., 3]
    return np.minimum(scaled[..., :3], alpha[..., None]), alpha


def paste(canvas: np.ndarray, part: Part, x: int, y: int) -> np.ndarray:
    """Paint a stamp onto the canvas, in place; return its truth (224,224) bool: where it is at least half opaque."""
    colours, alpha = part
    place = np.s_[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    canvas[place] = colours + (1 - alpha[..., None]) * canvas[place]
    truth = np.zeros((SIZE, SIZE), dtype=bool)
    truth[place] = alpha >= 0.5
    return truth


def _compose_single(
    canvas: np.ndarray, stamps: Sequence[Stamp], folder: Path, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stamp = stamps[rng.integers(len(stamps))]
    truth = _fill_halves(canvas, [stamp], [int(rng.integers(2))], folder, rng)
    return canvas, np.int64(stamp.label), truth[0]


def _compose_pair(
    canvas: np.ndarray, stamps: Sequence[Stamp], folder: Path, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one = other = stamps[rng.integers(len(stamps))]
    while not _differ(one, other):
        one, other = (stamps[k] for k in rng.integers(len(stamps), size=2))
    first = int(rng.integers(2))
    truth = _fill_halves(canvas, [one, other], [first, 1 - first], folder, rng)
    return canvas, np.array([one.label, other.label], dtype=np.int64), np.stack(truth)


def _draw_different(stamps: Sequence[Stamp], count: int, rng: np.random.Generator) -> list[Stamp]:
    """So many stamps of different classes."""
    chosen: list[Stamp] = []
    while len(chosen) < count:
        other = stamps[rng.integers(len(stamps))]
        if all(_differ(other, stamp) for stamp in chosen):
            chosen.append(other)
    return chosen


def _fill_quarters(
    canvas: np.ndarray, stamps: Sequence[Stamp], folder: Path, rng: np.random.Generator
) -> list[np.ndarray]:
    """Paste each stamp somewhere inside a quarter of its own; return their truths."""
    truths = []
    for stamp, quarter in zip(stamps, rng.permutation(4), strict=False):
        picture = read_stamp(folder / stamp.name, stamp.sha256)
        factor = int(rng.integers(QUARTER[0], QUARTER[1] + 1)) / max(picture.size)
        width, height = (max(1, int(side * factor)) for side in picture.size)
        part = scale(picture, (width, height), bool(rng.integers(2)))
        x, y = (int(rng.integers(HALF - side + 1)) for side in (width, height))
        truths.append(paste(canvas, part, x + HALF * int(quarter % 2), y + HALF * int(quarter // 2)))
    return truths


def _fill_halves(
    canvas: np.ndarray, stamps: Sequence[Stamp], halves: Sequence[int], folder: Path, rng: np.random.Generator
) -> list[np.ndarray]:
    """Paste each stamp somewhere inside its half (0 or 1) of the canvas; return their truths.

    The halves are left and right, or upper and lower: those in which all stamps fit, at the sizes that are drawn. Where
    none do, the stamps become smaller.
    """
    pictures = [read_stamp(folder / stamp.name, stamp.sha256) for stamp in stamps]
    factors = [int(rng.integers(LONGER[0], LONGER[1] + 1)) / max(picture.size) for picture in pictures]
    # the halves side by side, or one above the other
    most = [[_largest(picture, room) for picture in pictures] for room in ROOMS]
    ways = [way for way in (0, 1) if all(f <= m for f, m in zip(factors, most[way], strict=True))] or [0, 1]
    way = ways[rng.integers(len(ways))]
    # each stamp at its size, flipped or not, anywhere in its half
    truths = []
    for picture, factor, largest, half in zip(pictures, factors, most[way], halves, strict=True):
        width, height = (max(1, int(side * min(factor, largest))) for side in picture.size)
        part = scale(picture, (width, height), bool(rng.integers(2)))
        x, y = (int(rng.integers(room - side + 1)) for room, side in zip(ROOMS[way], (width, height), strict=True))
        truths.append(paste(canvas, part, x + (0 if way else HALF * half), y + (HALF * half if way else 0)))
    return truths


def _largest(picture: Image.Image, room: tuple[int, int]) -> float:
    """By how much a picture can be scaled to fit a room (width, height)."""
    return min(length / side for length, side in zip(room, picture.size, strict=True))


def _differ(one: Stamp, other: Stamp) -> bool:
    """Whether two stamps are of different classes; those without a class are if they are different stamps."""
    return one.name != other.name and (one.label != other.label or one.label == UNKNOWN)
