"""Images in which several things could decide: the data of the zoo, whose networks look at one of them each.

Every image has seven independent factors, each with a class and with pixels of its own (`EVIDENCE`, in this order):

- ``shape``: a handwritten digit of 24 pixels; its class is the digit;
- ``badge``: a square of 9x9 pixels; its class is a colour of `COLOURS`;
- ``frame``: a band of 6 pixels around the image; its class is one of ten textures;
- ``second``: a handwritten digit of 14 pixels; its class is the digit;
- ``quadrant``: a disc of 9 pixels; its class is the quadrant in which it lies (0 upper left, 1 upper right, 2 lower
  left, 3 lower right), and its pixels those of the disc: without it nothing tells the class;
- ``watermark``: a translucent letter of 15 pixels; its class is one of `LETTERS`;
- ``background``: a photograph; its class is its tint, its pixels all that belong to nothing else.

Classes, places and colours are drawn independently, so a network trained on one factor's labels
can only use that one. Boxes do not overlap, and what fades at its edge fades into the untinted photograph, so each
pixel belongs to one factor: changing a factor changes no pixel outside its own masks, before and after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .composed import Composed, compose, remembered
from .embedded import GREY, SIZE, SPLITS, draw_background, draw_strokes, load_digits
from .images import check_split

EVIDENCE = ("shape", "badge", "frame", "second", "quadrant", "watermark", "background")
CLASSES = dict.fromkeys(EVIDENCE, 10) | {"quadrant": 4}
VERSION = 1  # of the composition: a new number makes old cache files unused
FRAME, DISC = 6, 9  # pixels: the frame's width, the disc's diameter
BOXES = {"shape": 24, "watermark": 15, "second": 14, "badge": 9}  # pixels per side, the largest first
COLOURS = {  # of badges and tints
    "red": (0.90, 0.10, 0.10),
    "orange": (1.00, 0.55, 0.05),
    "yellow": (0.95, 0.95, 0.10),
    "green": (0.10, 0.70, 0.15),
    "cyan": (0.10, 0.85, 0.90),
    "blue": (0.10, 0.20, 0.95),
    "violet": (0.50, 0.10, 0.80),
    "pink": (1.00, 0.55, 0.80),
    "white": (0.97, 0.97, 0.97),
    "brown": (0.42, 0.24, 0.08),
}
TEXTURES = {  # of the frame: which pixels (y, x) are light
    "lying stripes": lambda y, x: y % 4 < 2,
    "standing stripes": lambda y, x: x % 4 < 2,
    "falling stripes": lambda y, x: (x - y) % 6 < 3,
    "rising stripes": lambda y, x: (x + y) % 6 < 3,
    "wide lying stripes": lambda y, x: y % 10 < 5,
    "wide standing stripes": lambda y, x: x % 10 < 5,
    "squares": lambda y, x: (x // 2 + y // 2) % 2 == 0,
    "wide squares": lambda y, x: (x // 5 + y // 5) % 2 == 0,
    "dots": lambda y, x: (x % 4 < 2) & (y % 4 < 2),
    "plain": lambda y, x: x >= 0,
}
LETTERS = {  # 5x5 cells of 3x3 pixels
    "A": ".###. #...# ##### #...# #...#",
    "C": ".#### #.... #.... #.... .####",
    "E": "##### #.... ####. #.... #####",
    "H": "#...# #...# ##### #...# #...#",
    "K": "#...# #..#. ###.. #..#. #...#",
    "L": "#.... #.... #.... #.... #####",
    "T": "##### ..#.. ..#.. ..#.. ..#..",
    "U": "#...# #...# #...# #...# .###.",
    "X": "#...# .#.#. ..#.. .#.#. #...#",
    "Z": "##### ...#. ..#.. .#... #####",
}
NAMES = {
    **dict.fromkeys(("shape", "second"), tuple(map(str, range(10)))),
    **dict.fromkeys(("badge", "background"), tuple(COLOURS)),
    "frame": tuple(TEXTURES),
    "quadrant": ("upper left", "upper right", "lower left", "lower right"),
    "watermark": tuple(LETTERS),
}


@dataclass(frozen=True)
class Evidence(Composed):
    """Images (N,3,64,64) uint8 with the class and the pixels of each of the seven factors.

    ``labels`` (N,7) int64, in the order of `EVIDENCE`; ``truth`` (N,64,64) uint8, the number of the factor to which a
    pixel belongs. An item is a dict of ``pixels`` (3,64,64) float32 in [0,1], ``labels`` (7,), ``masks`` (7,64,64)
    bool, disjoint, and, with an ``evidence`` chosen, its ``label`` and ``truth`` (64,64) bool.
    """

    evidence: str = ""

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        pixels, masks = self.images[i].float() / 255, self.masks(slice(i, i + 1))[0]
        item = {"pixels": pixels, "labels": self.labels[i], "masks": masks}
        if self.evidence:
            number = EVIDENCE.index(self.evidence)
            item |= {"label": self.labels[i, number], "truth": masks[number]}
        return item

    def masks(self, rows: slice = slice(None)) -> Tensor:
        """The pixels of every factor, (n,7,64,64) bool."""
        return self.truth[rows, None] == torch.arange(len(EVIDENCE), dtype=torch.uint8)[:, None, None]

    def alone(self) -> Composed:
        """The same images with the chosen evidence as the only label (N,) and truth (N,64,64) bool."""
        number = EVIDENCE.index(self.evidence)
        return Composed(self.images, self.labels[:, number], self.truth == number)


def load_evidence(
    split: str, n: int, evidence: str = "", *, changed: str = "", seed: int = 0, cached: bool = True
) -> Evidence:
    """The first ``n`` images of a split. Image i depends on (split, seed, i) and what is ``changed`` alone.

    ``evidence``: the factor whose class is the ``label``. ``changed``: the factor that is redrawn, to another class;
    outside its masks, before and after, the images are equal to those without a change. Digits and photographs are
    split as in the embedded data set. The composed images are kept in the cache folder. Raises ValueError for an
    unknown split or factor and n < 1.
    """
    check_split(split, SPLITS, "the data set of evidence")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    for factor in filter(None, (evidence, changed)):
        if factor not in EVIDENCE:
            raise ValueError(f"unknown evidence {factor!r}: choose one of {', '.join(EVIDENCE)}")

    def one(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, SPLITS.index(split), i])
        scene = _draw_scene(split, rng)
        if changed:
            count = CLASSES[changed]
            other = (scene.classes[changed] + 1 + int(rng.integers(count - 1))) % count
            scene = replace(scene, classes=scene.classes | {changed: other})
        canvas, owners = _render(split, scene)
        return canvas, np.array([scene.classes[e] for e in EVIDENCE], dtype=np.int64), owners

    name = f"evidence-v{VERSION}-{changed or 'as-drawn'}-{split}-seed{seed}-{n}"
    return Evidence(*remembered(name, lambda: compose(n, split, one), cached), evidence)


@dataclass(frozen=True)
class _Scene:
    """What an image is made of: classes by factor, and what is independent of them."""

    classes: dict[str, int]
    photo: np.ndarray  # (64,64) grey
    places: dict[str, tuple[int, int]]  # upper left corners (y, x) of the boxes
    discs: list[tuple[int, int]]  # the place of the disc in each quadrant
    which: dict[str, float]  # in [0,1): the digit among those of the class
    angles: dict[str, float]  # degrees
    colours: dict[str, np.ndarray]  # of digits, disc and the frame's two tones
    noise: np.ndarray  # (3,) of the badge's colour
    phase: tuple[int, int]  # of the frame's texture
    opacity: float  # of the watermark


def _draw_scene(split: str, rng: np.random.Generator) -> _Scene:
    places, discs = _layout(rng)
    photo = draw_background(split, rng) @ GREY
    photo = 0.45 + 0.1 * (photo - photo.mean()) / max(photo.std(), 0.02)
    light, dark = (0.75, 1.0), (0.0, 0.15)
    tones = {"shape": light, "second": light, "disc": dark, "frame light": light, "frame dark": dark}
    return _Scene(
        classes={e: int(rng.integers(CLASSES[e])) for e in EVIDENCE},
        photo=np.clip(photo, 0.2, 0.65).astype(np.float32),
        places=places,
        discs=discs,
        which={name: rng.random() for name in ("shape", "second")},
        angles={name: rng.uniform(-10, 10) for name in ("shape", "second")},
        colours={name: rng.uniform(*of, size=3) for name, of in tones.items()},
        noise=rng.uniform(-0.04, 0.04, size=3),
        phase=(int(rng.integers(60)), int(rng.integers(60))),
        opacity=rng.uniform(0.4, 0.6),
    )


def _layout(rng: np.random.Generator) -> tuple[dict[str, tuple[int, int]], list[tuple[int, int]]]:
    """Places of boxes that do not overlap, and of the disc in each of the quadrants, all inside the frame."""
    middle = SIZE // 2
    halves = [slice(FRAME, middle - DISC + 1), slice(middle, SIZE - FRAME - DISC + 1)]  # corners of discs in each half
    while True:
        taken = np.ones((SIZE, SIZE), dtype=bool)
        taken[FRAME:-FRAME, FRAME:-FRAME] = False
        places = {name: _take(taken, side, (slice(None), slice(None)), rng) for name, side in BOXES.items()}
        discs = [_take(taken, DISC, (rows, columns), rng) for rows in halves for columns in halves]
        if None not in (*places.values(), *discs):
            return places, discs


def _take(taken: np.ndarray, side: int, among: tuple[slice, slice], rng: np.random.Generator) -> tuple | None:
    """A free place for a square, with a pixel around it, which is then taken; None if there is none."""
    total = np.pad(taken, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    allowed = np.zeros_like(inside, dtype=bool)
    allowed[among] = inside[among] == 0
    free = np.argwhere(allowed)
    if not len(free):
        return None
    y, x = (int(v) for v in free[rng.integers(len(free))])
    taken[max(y - 1, 0) : y + side + 1, max(x - 1, 0) : x + side + 1] = True
    return y, x


def _render(split: str, scene: _Scene) -> tuple[np.ndarray, np.ndarray]:
    """The image (64,64,3) in [0,1], and the number of the factor of each pixel (64,64) uint8."""
    classes, codes = scene.classes, np.array(list(COLOURS.values()))
    canvas = np.repeat(scene.photo[..., None], 3, axis=2)
    owners = np.full((SIZE, SIZE), EVIDENCE.index("background"), dtype=np.uint8)

    def put(name: str, place: tuple[int, int], opacity: np.ndarray, colour: np.ndarray) -> None:
        y, x = place
        box = slice(y, y + len(opacity)), slice(x, x + len(opacity))
        canvas[box] += opacity[..., None] * (colour - canvas[box])
        owners[box][opacity > 0] = EVIDENCE.index(name)

    # what lies in boxes
    for name in ("shape", "second"):
        strokes = draw_strokes(_digit(split, classes[name], scene.which[name]), BOXES[name], scene.angles[name])
        put(name, scene.places[name], strokes, scene.colours[name])
    badge = np.ones((BOXES["badge"],) * 2)
    put("badge", scene.places["badge"], badge, np.clip(codes[classes["badge"]] + scene.noise, 0, 1))
    rows = list(LETTERS.values())[classes["watermark"]].split()
    cells = np.array([[cell == "#" for cell in row] for row in rows], dtype=float)
    put("watermark", scene.places["watermark"], scene.opacity * cells.repeat(3, 0).repeat(3, 1), np.ones(3))
    y, x = np.mgrid[:DISC, :DISC] - DISC // 2
    disc = (y**2 + x**2 <= (DISC / 2) ** 2).astype(float)
    put("quadrant", scene.discs[classes["quadrant"]], disc, scene.colours["disc"])

    # the frame, and the tint of what is left
    y, x = np.mgrid[:SIZE, :SIZE]
    lit = list(TEXTURES.values())[classes["frame"]](y + scene.phase[0], x + scene.phase[1])
    texture = np.where(lit[..., None], scene.colours["frame light"], scene.colours["frame dark"])
    border = np.ones((SIZE, SIZE), dtype=bool)
    border[FRAME:-FRAME, FRAME:-FRAME] = False
    canvas[border], owners[border] = texture[border], EVIDENCE.index("frame")
    rest = owners == EVIDENCE.index("background")
    canvas[rest] *= 0.35 + codes[classes["background"]]
    return canvas, owners


def _digit(split: str, label: int, which: float) -> np.ndarray:
    digits, labels = load_digits()[split]
    among = digits[labels == label]
    return among[int(which * len(among))]
