"""The embedded data set: handwritten digits on photographs, from data of two installed libraries.

The pixels of the digit are the only evidence for its class, so that explanations can be checked against a known truth.
Digits: scikit-learn's ``load_digits`` (1797 real 8x8 handwritten digits). Photographs and textures: those inside the
wheels of scikit-learn and scikit-image. ``train`` and ``test`` share no digit and no part of a photograph; ``val`` has
its own digits and shares the training backgrounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from ..validation import check_at_least
from .composed import Composed, compose, remembered
from .images import check_split

SIZE = 64  # pixels per side
CLASSES = 10
SPLITS = ("train", "val", "test")
VERSION = 2  # of the composition: a new number makes old cache files unused
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Embedded(Composed):
    """Images (N,3,64,64) with their truth, as in `Composed`.

    ``labels`` (N,) int64, or (N,10) bool in the multi-label form; ``truth``, the pixels of the digits, (N,64,64) bool,
    or (N,10,64,64) with one mask per class.
    """

    names = tuple(str(digit) for digit in range(CLASSES))


def load_embedded(
    split: str, n: int, *, multi_label: bool = False, seed: int = 0, start: int = 0, cached: bool = True
) -> Embedded:
    """The ``n`` images of a split from ``start`` on. Image i depends on (split, form, seed, i) alone.

    The composed images are kept in the cache folder. Raises ValueError for an unknown split, n < 1 or
    start < 0.
    """
    check_split(split, SPLITS, "the embedded data set")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    check_at_least(0, start=start)

    def one(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, SPLITS.index(split), int(multi_label), i])
        return (_compose_multi if multi_label else _compose_single)(split, rng)

    form = "multi" if multi_label else "single"
    name = f"embedded-v{VERSION}-{form}-{split}-seed{seed}-{n}" + f"-from{start}" * (start > 0)
    return Embedded(*remembered(name, lambda: compose(n, split, lambda i: one(start + i)), cached))


@lru_cache(maxsize=1)
def load_digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Digits (n,8,8) uint8 and labels of each split: every fifth is test, every tenth (from 7) val."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    index = np.arange(len(images))
    parts = np.where(index % 5 == 0, 2, np.where(index % 10 == 7, 1, 0))
    return {name: (images[parts == k], bunch.target[parts == k]) for k, name in enumerate(SPLITS)}


@lru_cache(maxsize=1)
def load_photographs() -> list[Image.Image]:
    """The twelve photographs and textures, as RGB."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    colour = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.hubble_deep_field()]
    colour += [data.stereo_motorcycle()[0], *load_sample_images().images]
    grey = [data.brick(), data.grass(), data.gravel(), data.camera()]
    return [Image.fromarray(np.ascontiguousarray(a)).convert("RGB") for a in colour + grey]


def draw_background(split: str, rng: np.random.Generator) -> np.ndarray:
    """A random crop, shrunk, flipped, with exchanged colours and darkened: (64,64,3) float32 in [0,1].

    Training and validation crop from the left 62 % of each photograph, the test from the rest. There are only twelve
    photographs: with flips and exchanged colours, what is learned on one part of them holds on the other.
    """
    # a square of a photograph
    photo = load_photographs()[rng.integers(len(load_photographs()))]
    cut = int(0.62 * photo.width)
    left, right = (cut, photo.width) if split == "test" else (0, cut)
    side = int(rng.integers(SIZE, min(right - left, photo.height, 4 * SIZE) + 1))
    x, y = int(rng.integers(left, right - side + 1)), int(rng.integers(0, photo.height - side + 1))
    crop = photo.resize((SIZE, SIZE), Image.Resampling.BOX, box=(x, y, x + side, y + side))
    # its variation
    pixels = np.asarray(crop, dtype=np.float32) / 255
    pixels = pixels[:: rng.choice((-1, 1)), :: rng.choice((-1, 1)), rng.permutation(3)]
    return pixels * np.float32(rng.uniform(0.6, 1.0))


def draw_strokes(digit: np.ndarray, side: int, angle: float) -> np.ndarray:
    """The digit's opacity, enlarged with cubic zoom, rotated and steepened: (side,side) float32 in [0,1].

    Zoomed from 8x8 pixels, strokes fade over many pixels, and no mask could separate them from the background.
    Steepened they end within a pixel or two: outside the truth the opacity is zero.
    """
    image = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    zoomed = np.asarray(image.rotate(angle, Image.Resampling.BICUBIC), dtype=np.float32) / 255
    return np.clip((zoomed - np.float32(0.3)) / np.float32(0.4), 0, 1)


def paste(canvas: np.ndarray, opacity: np.ndarray, x: int, y: int, rng: np.random.Generator) -> None:
    """Paint strokes, in place, in a random colour that differs in brightness from what is under them."""
    under = canvas[y : y + opacity.shape[0], x : x + opacity.shape[1]]
    brightness = float((under @ GREY).mean())
    colour = rng.random(3, dtype=np.float32)
    while abs(float(colour @ GREY) - brightness) < 0.3:
        colour = rng.random(3, dtype=np.float32)
    under += opacity[..., None] * (colour - under)


def _clutter(canvas: np.ndarray, digits: np.ndarray, rng: np.random.Generator) -> None:
    """Paint, in place, two pieces of digits and two scrambled ones: the same strokes without the class."""
    for kind in range(4):
        strokes = draw_strokes(digits[rng.integers(len(digits))], int(rng.integers(20, 31)), rng.uniform(-20, 20))
        half = len(strokes) // 2
        quarters = [strokes[:half, :half], strokes[:half, -half:], strokes[-half:, :half], strokes[-half:, -half:]]
        if kind < 2:
            piece = quarters[rng.integers(4)]
        else:
            turned = [np.rot90(quarters[q], rng.integers(1, 4)) for q in rng.permutation(4)]
            piece = np.block([turned[:2], turned[2:]])
        x, y = rng.integers(0, SIZE - len(piece) + 1, size=2)
        paste(canvas, piece, int(x), int(y), rng)


def _start(split: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A background with clutter, and the split's digits and labels."""
    digits, labels = load_digits()[split]
    canvas = np.ascontiguousarray(draw_background(split, rng))
    _clutter(canvas, digits, rng)
    return canvas, digits, labels


def _compose_single(split: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    canvas, digits, labels = _start(split, rng)
    pick = int(rng.integers(len(digits)))
    opacity = draw_strokes(digits[pick], int(rng.integers(26, 38)), rng.uniform(-20, 20))
    x, y = rng.integers(0, SIZE - len(opacity) + 1, size=2)
    paste(canvas, opacity, int(x), int(y), rng)
    truth = np.zeros((SIZE, SIZE), dtype=bool)
    truth[y : y + len(opacity), x : x + len(opacity)] = opacity > 0
    return canvas, np.int64(labels[pick]), truth


def _compose_multi(split: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    canvas, digits, labels = _start(split, rng)
    present = np.zeros(CLASSES, dtype=bool)
    truth = np.zeros((CLASSES, SIZE, SIZE), dtype=bool)
    taken = np.zeros((SIZE, SIZE), dtype=bool)
    wanted = int(rng.integers(1, 4))
    while present.sum() < wanted:
        # draw a digit and a place for it
        pick = int(rng.integers(len(digits)))
        side = int(rng.integers(22, 30))
        x, y = (int(v) for v in rng.integers(0, SIZE - side + 1, size=2))
        label = labels[pick]
        if present[label]:
            continue
        if taken[y : y + side, x : x + side].any():
            wanted -= int(rng.random() < 0.02)  # so that a crowded image ends, with fewer digits
            continue
        # paint it
        opacity = draw_strokes(digits[pick], side, rng.uniform(-20, 20))
        paste(canvas, opacity, x, y, rng)
        truth[label, y : y + side, x : x + side] = opacity > 0
        taken[y : y + side, x : x + side] = True
        present[label] = True
    return canvas, present, truth
