"""Figures: one palette, grids of images and maps, every figure written as PNG and SVG."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ptame_lib import files
from ptame_lib.explainers.names import AUXILIARY_CAM, CHANNEL_MEAN, SWAPPED
from ptame_lib.masking import keep, normalise, remove, resize
from ptame_lib.metrics.evidence import Evidence
from ptame_lib.texts import MOST, printable

from . import paths
from .lettering import PLAIN, families, lettered

PALETTE = seaborn.color_palette("colorblind").as_hex()
GREY, LIGHT, BLACK = "#7f7f7f", "#c8c8c8", "#000000"
STYLES = {  # method: its colour in all figures, and its marker on lines; the others are grey circles
    "P-TAME": (PALETTE[0], "o"),
    "T-TAME": (PALETTE[9], "D"),
    "L-CAM-Img": (PALETTE[4], "o"),
    "Grad-CAM": (PALETTE[1], "s"),
    "RISE": (PALETTE[2], "^"),
    "Opti-CAM": (PALETTE[3], "o"),
    "Score-CAM": (PALETTE[5], "o"),
    "extremal perturbations": (PALETTE[6], "o"),
    "iGOS++": (PALETTE[8], "o"),
    "Explainer": ("#332288", "v"),
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
MAP_COLOURS = "viridis"  # of saliency maps: even in brightness, readable for the colour-blind


def colour(method: str) -> str:
    """The method's colour in every figure."""
    return STYLES.get(method, (GREY, "o"))[0]


def marker(method: str) -> str:
    """The method's marker on lines."""
    return STYLES.get(method, (GREY, "o"))[1]


def use_style() -> None:
    """Set the look of all figures; SVG ids are fixed, so that equal figures give equal files."""
    seaborn.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
    matplotlib.rcParams.update({"svg.hashsalt": "ptame", "figure.dpi": 80, "savefig.dpi": 160, "savefig.bbox": "tight"})
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
    """Write below each image how good its map is, in a few words, in red where there is reason for doubt.

    ``proof``: the evidence of as many images as there are axes. ``whole``: also the probability on the whole image.
    """
    for i, axis in enumerate(axes):
        share = float(proof.share[i])
        lines = [f"whole {float(proof.whole[i]):.0%}"] if whole else []
        lines += [
            f"kept {float(proof.kept[i]):.0%}, rest {float(proof.rest[i]):.0%}",
            "no part enough" if math.isnan(share) else f"{share:.0%} enough",
        ]
        axis.set_xlabel("\n".join([*lines, proof.doubt(i)]), fontsize=6.5, labelpad=2, linespacing=1.1)
        if proof.doubt(i):
            axis.xaxis.label.set(color=DOUBT)
    if axes:
        axes[0].figure.tight_layout(pad=0.3)


def explanation(
    image: Tensor, map_: Tensor, row: Evidence, labels: Sequence[str] | None = None, side: float = 2.2
) -> Figure:
    """One explained image (3,H,W): itself, its map (h,w), what the map keeps, the rest, the evidence.

    Titles give the target's probability; a warning, if any, is framed. ``row``: the evidence of this image,
    ``evidence[i]``. ``labels``: names of the classes, by default the classifier's.
    """
    if len(row) != 1:
        raise ValueError(f"the evidence of one image is wanted, got that of {len(row)}: pass evidence[i]")
    row = row if labels is None else replace(row, labels=tuple(labels))

    # the four pictures and their titles
    mask = resize(normalise(map_[None]), image.shape[-2:])  # (1,H,W)
    grey = image.mean(0, keepdim=True).expand(3, -1, -1)
    pictures = (image, grey, keep(image[None], mask)[0], remove(image[None], mask)[0])
    whole, on_kept, on_rest = (f"{float(p[0]):.0%}" for p in (row.whole, row.kept, row.rest))
    name = textwrap.shorten(lettered(row.name(row.targets[0])), 28)
    titles = (f"{name}: {whole}", "map", f"kept: {on_kept}", f"rest: {on_rest}")

    # draw them side by side, the map over the grey image
    height = side + 1.1
    figure, axes = plt.subplots(1, 4, figsize=(4 * side, height))
    for axis, title, picture in zip(axes, titles, pictures, strict=True):
        _draw(axis, picture)
        axis.set_title(title, fontsize=9, **PLAIN)
    _draw(axes[1], mask[0], alpha=0.65)
    figure.tight_layout(pad=0.3, rect=(0, 0.8 / height, 1, 1))

    # the evidence below, and a warning in a frame
    width = int(15 * 4 * side)  # letters of this size to the line
    figure.text(0.01, 0.75 / height, textwrap.fill(lettered(row.text()), width), fontsize=8, va="top", **PLAIN)
    if row.warning():
        frame = {"facecolor": "#fff3cd", "edgecolor": PALETTE[3], "boxstyle": "round,pad=0.3"}
        look = {"fontsize": 8, "va": "top", "weight": "bold", "bbox": frame, **PLAIN}
        figure.text(0.01, 0.38 / height, textwrap.fill(lettered(row.warning()), width), **look)
    return figure
