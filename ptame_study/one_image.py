"""The figure of one explained image: its map, the pixels shown, the rest, and the evidence in words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ptame_lib.masking import normalise, resize
from ptame_lib.metrics.evidence import FILLS, Evidence, fill_in, percent

from . import figures
from .lettering import PLAIN, lettered


def explanation(
    image: Tensor,
    map_: Tensor,
    row: Evidence,
    labels: Sequence[str] | None = None,
    side: float = 2.9,
    whole: Tensor | None = None,
    title: str = "map",
) -> Figure:
    """One explained image (3,H,W): itself and its map (h,w), the pixels shown, the rest, and the evidence about them.

    What is not seen is black in the upper row and blurred in the lower one. Titles give the target's probability; a
    warning, if any, is framed. ``row``: the evidence of this image, ``evidence[i]``. ``labels``: names of the classes,
    by default the classifier's. ``whole``: the image (3,H,W) whose middle the classifier sees, which is framed there.
    ``title``: of the map.
    """
    if len(row) != 1:
        raise ValueError(f"the evidence of one image is wanted, got that of {len(row)}: pass evidence[i]")
    row = row if labels is None else replace(row, labels=tuple(labels))

    # two rows: the image and its map, then of each fill the pixels shown and the rest
    seen = row.pixels_shown.to(image.device)
    name = textwrap.shorten(lettered(row.name(row.targets[0])), 28)
    grey = image.mean(0, keepdim=True).expand(3, -1, -1)
    first = "" if row.decided[0] else "NOT THE DECISION\n"
    cells = [[(f"{first}{name}: {percent(row.whole[0])}", image)], [(title, grey)]]
    for k, (cell, fill) in enumerate(zip(cells, FILLS, strict=True)):
        first = f"first {percent(row.shown[0])}, others {fill}: {percent(row.kept[0, k])}"
        without = f"without them ({fill}): {percent(row.rest[0, k])}"
        cell += [(first, fill_in(image[None], seen, fill)[0]), (without, fill_in(image[None], ~seen, fill)[0])]

    # draw them, the map over the grey image
    below = 1.4
    aspect = image.shape[-2] / image.shape[-1]
    size = (3 * side, 2 * (side * aspect + 0.35) + below)
    figure, axes = plt.subplots(2, 3, figsize=size)
    for axis, (title, picture) in zip(axes.flat, [each for cell in cells for each in cell], strict=True):
        figures.draw(axis, picture)
        axis.set_title(title, fontsize=figures.WORDS, **PLAIN)
    if whole is not None and whole.shape != image.shape:
        _draw_whole(axes[0, 0], whole, image.shape[-2:])
    figures.draw(axes[1, 0], resize(normalise(map_[None]), image.shape[-2:])[0], alpha=0.65)
    for _ in range(2):  # the first time the pictures get their sizes, on which the room for words depends
        figure.tight_layout(pad=0.3, h_pad=1.5, rect=(0, below / size[1], 1, 1))
    _sentences(figure, row, below)
    return figure


def _draw_whole(axis: Axes, whole: Tensor, size: Sequence[int]) -> None:
    """The whole image instead of its middle of a ``size`` (height, width), which is framed."""
    title = axis.get_title()
    axis.clear()
    figures.draw(axis, whole)
    axis.set_title(title, fontsize=figures.WORDS, **PLAIN)
    axis.set_xlabel("the classifier sees what is framed", fontsize=figures.WORDS - 1)
    rows, columns = whole.shape[-2:]
    height, width = (min(pair) for pair in zip(size, whole.shape[-2:], strict=True))
    # where torchvision's crop begins, and the left and upper edge of that pixel
    corner = (round((columns - width) / 2) - 0.5, round((rows - height) / 2) - 0.5)
    for look in ({"edgecolor": "white", "linewidth": 2.5}, {"edgecolor": figures.BLACK, "linewidth": 1}):
        axis.add_patch(Rectangle(corner, width, height, fill=False, **look))


def _sentences(figure: Figure, row: Evidence, below: float) -> None:
    """Write the evidence into the lowest ``below`` inches, under a warning in a frame."""
    width, height = figure.get_size_inches()
    letters, top = int(12.8 * width), below - 0.08
    if row.warning():
        warning = textwrap.fill(lettered(row.warning()), letters - 14)
        frame = {"facecolor": "#fff3cd", "edgecolor": figures.PALETTE[3], "boxstyle": "round,pad=0.3"}
        look = {"fontsize": figures.WORDS, "va": "top", "weight": "bold", "bbox": frame, **PLAIN}
        figure.text(0.02, top / height, warning, **look)
        top -= 0.175 * (warning.count("\n") + 1) + 0.16
    said = textwrap.fill(lettered(row.text()), letters)
    figure.text(0.01, top / height, said, fontsize=figures.WORDS, va="top", **PLAIN)
