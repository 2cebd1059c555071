"""Figures: one palette, grids of maps, PNG and SVG written alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import seaborn
from matplotlib.figure import Figure
from torch import Tensor

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
    "random": "#c8c8c8",
    "centred Gaussian": "#c8c8c8",
    "edges": "#c8c8c8",
    "ground truth": "#000000",
}
MAP_COLOURS = "viridis"  # of saliency maps: even in brightness, readable for the colour-blind


def colour(method: str) -> str:
    """The method's colour in every figure."""
    return METHOD_COLOURS.get(method, "#7f7f7f")


def use_style() -> None:
    """The look of all figures; SVG ids are fixed, so that one input gives one file."""
    seaborn.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
    matplotlib.rcParams.update({"svg.hashsalt": "ptame", "figure.dpi": 80, "savefig.dpi": 160, "savefig.bbox": "tight"})


def save(figure: Figure, profile: str, name: str) -> list[Path]:
    """Write ``figures/<profile>/<name>.png`` and ``.svg``, each whole or not at all."""
    files = []
    for suffix in ("png", "svg"):
        file = paths.figures(profile) / f"{name}.{suffix}"
        with paths.whole(file) as unfinished:
            figure.savefig(unfinished, metadata={"Date": None} if suffix == "svg" else None)
        files.append(file)
    return files


def grid(rows: Sequence[Sequence[Tensor]], columns: Sequence[str], labels: Sequence[str] | None = None, side: float = 1.25) -> Figure:
    """A grid of images (3,H,W) in [0,1] and maps (h,w) in [0,1], with column titles and row labels."""
    figure, axes = plt.subplots(len(rows), len(columns), figsize=(side * len(columns), side * len(rows) + 0.3), squeeze=False)
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
                axis.set_title(columns[j], fontsize=9)
        if labels is not None:
            axes[i, 0].set_ylabel(labels[i], fontsize=8)
    figure.tight_layout(pad=0.3)
    return figure
