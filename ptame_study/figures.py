"""Figures: one palette, grids of maps, PNG and SVG written alike."""

from __future__ import annotations

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
from ptame_lib.masking import keep, normalise, remove, resize
from ptame_lib.metrics.evidence import Evidence

from . import paths

PALETTE = seaborn.color_palette("colorblind").as_hex()


METHOD_COLOURS = {  # the trained methods and those most often compared; all others are grey
    "P-TAME": PALETTE[0],
    "T-TAME": PALETTE[9],
    "L-CAM-Img": PALETTE[4],
    "Grad-CAM": PALETTE[1],
    "RISE": PALETTE[2],
    "Opti-CAM": PALETTE[3],
    "Score-CAM": PALETTE[5],
    "extremal perturbations": PALETTE[6],
    "iGOS++": PALETTE[8],
    "Explainer": "#332288",
    "RTIS": PALETTE[9],
    "random": "#c8c8c8",
    "centred Gaussian": "#c8c8c8",
    "edges": "#c8c8c8",
    "ground truth": "#000000",
}


DOUBT = "#a03000"  # of warnings


MARKERS = {  # so that lines of one colour can be told apart; all others have a circle
    "Grad-CAM": "s",
    "RISE": "^",
    "T-TAME": "D",
    "Explainer": "v",
    "RTIS": "P",
    "guided backpropagation": "X",
    "integrated gradients": "p",
    "LayerCAM": "<",
    "HiResCAM": ">",
    "LIME": "h",
    "KernelSHAP": "*",
    "edges": "d",
    "centred Gaussian": "8",
    "random": "x",
    "ground truth": "+",
}


MAP_COLOURS = "viridis"  # of saliency maps: even in brightness, readable for the colour-blind


def colour(method: str) -> str:
    """The method's colour in every figure."""
    return METHOD_COLOURS.get(method, "#7f7f7f")


def marker(method: str) -> str:
    """The method's marker on lines."""
    return MARKERS.get(method, "o")


def use_style() -> None:
    """The look of all figures; SVG ids are fixed, so that one input gives one file."""
    seaborn.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
    matplotlib.rcParams.update({"svg.hashsalt": "ptame", "figure.dpi": 80, "savefig.dpi": 160, "savefig.bbox": "tight"})


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
    """Show a figure in a notebook, once, with ``alt``: what is to be seen, in a sentence or two, for readers who don't see it.

    Jupyter keeps the text beside the PNG; the site has it as the image's alternative text.
    """
    from IPython.display import display  # here, since the library does without notebooks

    display(figure, metadata={"image/png": {"alt": " ".join(alt.split())}})
    plt.close(figure)  # else the cell's end shows it again


def grid(
    rows: Sequence[Sequence[Tensor]], columns: Sequence[str], labels: Sequence[str] | None = None, side: float = 1.25
) -> Figure:
    """A grid of images (3,H,W) in [0,1] and maps (h,w) in [0,1], with column titles and row labels."""
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(side * len(columns), side * len(rows) + 0.3), squeeze=False
    )
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            axis = axes[i, j]
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            if cell.ndim == 3:
                axis.imshow(cell.permute(1, 2, 0).clamp(0, 1).numpy())
            else:
                axis.imshow(cell.numpy(), cmap=MAP_COLOURS, vmin=0, vmax=1)
            if i == 0:
                axis.set_title(
                    textwrap.fill(columns[j], int(13 * side)), fontsize=9
                )  # as many letters as fit above one image
        if labels is not None:
            axes[i, 0].set_ylabel(labels[i], fontsize=8)
    figure.tight_layout(pad=0.3)
    return figure


def annotate(axes: Sequence[Axes], proof: Evidence, whole: bool = True) -> None:
    """Write under each axis what the map of its image is worth, in a few words; a reason for doubt in red.

    ``proof``: the evidence of as many images as there are axes. ``whole``: also the probability on the whole image.
    """
    for i, axis in enumerate(axes):
        share = float(proof.share[i])
        lines = [f"whole {float(proof.whole[i]):.0%}"] if whole else []
        lines += [
            f"kept {float(proof.kept[i]):.0%}, rest {float(proof.rest[i]):.0%}",
            "no part enough" if share != share else f"{share:.0%} enough",
        ]
        axis.set_xlabel("\n".join([*lines, proof.doubt(i)]), fontsize=6.5, labelpad=2, linespacing=1.1)
        if proof.doubt(i):
            axis.xaxis.label.set(color=DOUBT)
    if axes:
        axes[0].figure.tight_layout(pad=0.3)


def explanation(
    image: Tensor, map_: Tensor, row: Evidence, labels: Sequence[str] | None = None, side: float = 2.2
) -> Figure:
    """One explained image (3,H,W) in [0,1]: itself, the map (h,w) over it, what the map keeps, and the rest, each with the target's
    probability there; below, the evidence in words, and the warning in a frame where there is one.

    ``row``: the image's own evidence, ``evidence[i]``; ``labels``: names of the classes, by default the classifier's.
    """
    if len(row) != 1:
        raise ValueError(f"the evidence of one image is wanted, got that of {len(row)}: pass evidence[i]")
    row = row if labels is None else replace(row, labels=tuple(labels))
    mask = resize(normalise(map_[None]), image.shape[-2:])
    kept, rest = keep(image[None], mask)[0], remove(image[None], mask)[0]
    whole, on_kept, on_rest = (f"{float(p[0]):.0%}" for p in (row.whole, row.kept, row.rest))
    titles = [
        f"{textwrap.shorten(row.name(row.targets[0]), 28)}: {whole}",
        "map",
        f"kept: {on_kept}",
        f"rest: {on_rest}",
    ]
    figure, axes = plt.subplots(1, 4, figsize=(4 * side, side + 1.1))
    for axis, title, shown in zip(
        axes, titles, (image, image.mean(0, keepdim=True).expand(3, -1, -1), kept, rest), strict=True
    ):
        axis.imshow(shown.permute(1, 2, 0).clamp(0, 1).cpu().numpy())
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.set_title(title, fontsize=9)
    axes[1].imshow(mask[0].cpu().numpy(), cmap=MAP_COLOURS, vmin=0, vmax=1, alpha=0.65)
    figure.tight_layout(pad=0.3, rect=(0, 0.8 / (side + 1.1), 1, 1))
    width = int(15 * 4 * side)  # letters of this size to the line
    figure.text(0.01, 0.75 / (side + 1.1), textwrap.fill(row.text(), width), fontsize=8, va="top")
    if row.warning():
        frame = {"facecolor": "#fff3cd", "edgecolor": PALETTE[3], "boxstyle": "round,pad=0.3"}
        figure.text(
            0.01,
            0.38 / (side + 1.1),
            textwrap.fill(row.warning(), width),
            fontsize=8,
            va="top",
            weight="bold",
            bbox=frame,
        )
    return figure
