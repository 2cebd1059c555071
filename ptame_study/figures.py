"""Figures: one palette, grids of images and maps, every figure written as PNG and SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ptame_lib import files
from ptame_lib.explainers.names import AUXILIARY_CAM, CHANNEL_MEAN, SWAPPED
from ptame_lib.masking import normalise, resize
from ptame_lib.metrics.evidence import FILLS, Evidence, fill_in, percent
from ptame_lib.texts import MOST, printable

from . import paths
from .lettering import PLAIN, families, lettered

PALETTE = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"]  # seaborn's, for the colour-blind
PALETTE += ["#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"]
GREY, LIGHT, BLACK = "#7f7f7f", "#c8c8c8", "#000000"
STYLES = {  # method: its colour in all figures, and its marker on lines; the others are grey circles
    "P-TAME": (PALETTE[0], "o"),
    "Swap-TAME": (PALETTE[0], "d"),
    "P-TAME+5": (PALETTE[0], "P"),
    "P-TAME+20": (PALETTE[0], "X"),
    "T-TAME": (PALETTE[9], "D"),
    "L-CAM-Img": (PALETTE[4], "o"),
    "Grad-CAM": (PALETTE[1], "s"),
    "RISE": (PALETTE[2], "^"),
    "Opti-CAM": (PALETTE[3], "o"),
    "Score-CAM": (PALETTE[5], "o"),
    "extremal perturbations": (PALETTE[6], "o"),
    "iGOS++": (PALETTE[8], "o"),
    "NN-Explainer": ("#332288", "v"),
    "RTIS": (PALETTE[9], "P"),
    "guided backpropagation": (GREY, "X"),
    "integrated gradients": (GREY, "p"),
    "LayerCAM": (GREY, "<"),
    "HiResCAM": (GREY, ">"),
    "LIME": (GREY, "h"),
    "KernelSHAP": (GREY, "*"),
    AUXILIARY_CAM: (PALETTE[7], "1"),
    CHANNEL_MEAN: (PALETTE[7], "2"),
    SWAPPED: (PALETTE[7], "3"),
    "edges": (LIGHT, "d"),
    "centred Gaussian": (LIGHT, "8"),
    "random": (LIGHT, "x"),
    "ground truth": (BLACK, "+"),
}
DOUBT = "#a03000"  # colour of warnings
WORDS = 10  # points: letters of sentences and titles, which a reader sees at 80 dots per inch
MAP_COLOURS = "viridis"  # of saliency maps: even in brightness, readable for the colour-blind


def colour(method: str) -> str:
    """The method's colour in every figure."""
    return STYLES.get(method, (GREY, "o"))[0]


def marker(method: str) -> str:
    """The method's marker on lines."""
    return STYLES.get(method, (GREY, "o"))[1]


def use_style() -> None:
    """Set the look of all figures; SVG ids are fixed, so that equal figures give equal files."""
    plt.style.use(Path(__file__).with_name("figures.mplstyle"))
    matplotlib.rcParams["font.family"] = families()
    matplotlib.rcParams["text.parse_math"] = PLAIN["parse_math"]  # titles and legends hold names of a profile


def save(figure: Figure, profile: str, name: str) -> list[Path]:
    """Write ``figures/<profile>/<name>.png`` and ``.svg``, each whole or not at all."""
    written = []
    for suffix in ("png", "svg"):
        file = paths.figures(profile) / f"{name}.{suffix}"
        with files.whole(file) as unfinished:
            figure.savefig(unfinished, metadata={"Date": None} if suffix == "svg" else None)
        written.append(file)
    return written


def show(figure: Figure, alt: str) -> None:
    """Show a figure in a notebook, with alternative text for readers who don't see it.

    ``alt``: what there is to see, in a sentence or two. Jupyter keeps it next to the PNG, and the site shows it.
    """
    from IPython.display import display  # here, since the commands work without notebooks

    display(figure, metadata={"image/png": {"alt": printable(" ".join(alt.split()))}})
    plt.close(figure)  # else the end of the cell shows it again


def grid(
    rows: Sequence[Sequence[Tensor]], columns: Sequence[str], labels: Sequence[str] | None = None, side: float = 1.25
) -> Figure:
    """A grid of images (3,H,W) in [0,1] and maps (h,w) in [0,1], with column titles and row labels."""
    size = (side * len(columns), side * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            _draw(axes[i, j], cell)
            if i == 0:  # as many letters to the line as fit above one image
                axes[i, j].set_title(textwrap.fill(lettered(columns[j], MOST), int(13 * side)), fontsize=9, **PLAIN)
        if labels is not None:
            axes[i, 0].set_ylabel(lettered(labels[i], MOST), fontsize=8, **PLAIN)
    figure.tight_layout(pad=0.3)
    return figure


def _draw(axis: Axes, picture: Tensor, alpha: float | None = None) -> None:
    """An image (3,H,W), or a map (h,w) in colours, without ticks."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    if picture.ndim == 3:
        axis.imshow(picture.permute(1, 2, 0).clamp(0, 1).cpu().numpy())
    else:
        axis.imshow(picture.cpu().numpy(), cmap=MAP_COLOURS, vmin=0, vmax=1, alpha=alpha)


def annotate(axes: Sequence[Axes], proof: Evidence, whole: bool = True) -> None:
    """Write below each image of the pixels shown what they are worth, in red where there is reason for doubt.

    ``proof``: the evidence of as many images as there are axes, whose pixels not shown are black, as they are for the
    probabilities; a line for each fill says whether the pixels shown are enough. ``whole``: also the probability on the
    whole image.
    """
    for i, axis in enumerate(axes):
        lines = [f"whole {percent(proof.whole[i])}"] if whole else []
        lines += [f"kept {percent(proof.kept[i, 0])}", f"rest {percent(proof.rest[i, 0])}", *_enough(proof, i)]
        lines += [doubt for doubt in proof.doubts(i) if doubt != "not enough"]  # which a line of its fill says
        axis.set_xlabel("\n".join(lines), fontsize=WORDS - 2, labelpad=2, linespacing=1.1)
        if proof.doubts(i):
            axis.xaxis.label.set(color=DOUBT)
    if axes:
        axes[0].figure.tight_layout(pad=0.3)


def _enough(proof: Evidence, i: int) -> list[str]:
    """For each fill of what is not shown a line: the smallest share that is enough, or that the one shown is not."""
    if not proof.pixels_shown[i].any():
        return []
    lines = []
    for k, fill in enumerate(FILLS):
        share, shown = percent(proof.share[i, k]), percent(proof.shown[i])
        enough = f"{share} enough" if proof.faithful[i, k] else f"{shown} not enough"
        lines.append(f"{fill}: {'says little' if proof.empty_too[i, k] else enough}")
    return lines


def explanation(
    image: Tensor,
    map_: Tensor,
    row: Evidence,
    labels: Sequence[str] | None = None,
    side: float = 2.9,
    whole: Tensor | None = None,
) -> Figure:
    """One explained image (3,H,W): itself and its map (h,w), the pixels shown, the rest, and the evidence about them.

    What is not seen is black in the upper row and blurred in the lower one. Titles give the target's probability; a
    warning, if any, is framed. ``row``: the evidence of this image, ``evidence[i]``. ``labels``: names of the classes,
    by default the classifier's. ``whole``: the image (3,H,W) whose middle the classifier sees, which is framed there.
    """
    if len(row) != 1:
        raise ValueError(f"the evidence of one image is wanted, got that of {len(row)}: pass evidence[i]")
    row = row if labels is None else replace(row, labels=tuple(labels))

    # two rows: the image and its map, then of each fill the pixels shown and the rest
    seen = row.pixels_shown.to(image.device)
    name = textwrap.shorten(lettered(row.name(row.targets[0])), 28)
    grey = image.mean(0, keepdim=True).expand(3, -1, -1)
    first = "" if row.decided[0] else "NOT THE DECISION\n"
    cells = [[(f"{first}{name}: {percent(row.whole[0])}", image)], [("map", grey)]]
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
        _draw(axis, picture)
        axis.set_title(title, fontsize=WORDS, **PLAIN)
    if whole is not None and whole.shape != image.shape:
        _draw_whole(axes[0, 0], whole, image.shape[-2:])
    _draw(axes[1, 0], resize(normalise(map_[None]), image.shape[-2:])[0], alpha=0.65)
    figure.tight_layout(pad=0.3, h_pad=1.5, rect=(0, below / size[1], 1, 1))
    _sentences(figure, row, below)
    return figure


def _draw_whole(axis: Axes, whole: Tensor, size: Sequence[int]) -> None:
    """The whole image instead of its middle of a ``size`` (height, width), which is framed."""
    title = axis.get_title()
    axis.clear()
    _draw(axis, whole)
    axis.set_title(title, fontsize=WORDS, **PLAIN)
    axis.set_xlabel("the classifier sees what is framed", fontsize=WORDS - 1)
    rows, columns = whole.shape[-2:]
    height, width = (min(pair) for pair in zip(size, whole.shape[-2:], strict=True))
    # where torchvision's crop begins, and the left and upper edge of that pixel
    corner = (round((columns - width) / 2) - 0.5, round((rows - height) / 2) - 0.5)
    for look in ({"edgecolor": "white", "linewidth": 2.5}, {"edgecolor": BLACK, "linewidth": 1}):
        axis.add_patch(Rectangle(corner, width, height, fill=False, **look))


def _sentences(figure: Figure, row: Evidence, below: float) -> None:
    """Write the evidence into the lowest ``below`` inches, under a warning in a frame."""
    width, height = figure.get_size_inches()
    letters, top = int(12.8 * width), below - 0.08
    if row.warning():
        warning = textwrap.fill(lettered(row.warning()), letters - 14)
        frame = {"facecolor": "#fff3cd", "edgecolor": PALETTE[3], "boxstyle": "round,pad=0.3"}
        look = {"fontsize": WORDS, "va": "top", "weight": "bold", "bbox": frame, **PLAIN}
        figure.text(0.02, top / height, warning, **look)
        top -= 0.175 * (warning.count("\n") + 1) + 0.16
    figure.text(0.01, top / height, textwrap.fill(lettered(row.text()), letters), fontsize=WORDS, va="top", **PLAIN)
