"""Figures: one palette, grids of images and maps, every figure written as PNG and SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ptame_lib import files
from ptame_lib.explainers.names import AUXILIARY_CAM, CHANNEL_MEAN, SWAPPED
from ptame_lib.masking import keep
from ptame_lib.metrics.evidence import FILLS, Evidence, percent
from ptame_lib.texts import MOST, printable

from . import paths
from .lettering import PLAIN, families, lettered

PALETTE = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"]  # seaborn's, for the colour-blind
PALETTE += ["#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"]
GREY, LIGHT, BLACK = "#7f7f7f", "#c8c8c8", "#000000"
STYLES = {  # method: its colour in all figures, and its marker on lines; the others are grey circles
    "P-TAME": (PALETTE[0], "o"),
    "Swap-TAME": (PALETTE[0], "d"),
    "Swap-TAME+5": (PALETTE[0], "p"),
    "Swap-TAME+5 averaged": (PALETTE[0], "*"),
    "Swap-TAME+8 areas": (PALETTE[0], "h"),
    "P-TAME+5": (PALETTE[0], "P"),
    "P-TAME+20": (PALETTE[0], "X"),
    "T-TAME": (PALETTE[9], "D"),
    "L-CAM-Img": (PALETTE[4], "o"),
    "FastSHAP": ("#332288", "^"),
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
PAGE = 11.0  # inches of a figure: at 80 dots per inch as wide as a notebook's page
MEANING = (  # of the words that `annotate` writes
    "kept, rest: the probability of the class on the {shown} of the pixels that the map puts first, and without them. "
    "black, blurred: the smallest share of these pixels that is enough, all others black or blurred; no: those shown "
    "are not enough; –: a wholly black or blurred image is decided alike, so this says little."
)
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
    rows: Sequence[Sequence[Tensor]],
    columns: Sequence[str],
    labels: Sequence[str] | None = None,
    side: float | None = None,
) -> Figure:
    """A grid of images (3,H,W) in [0,1] and maps (h,w) in [0,1], with column titles and row labels.

    ``side``: of a picture, in inches; by default as large as a page allows, 1.5 at most.
    """
    side = side or min(1.5, PAGE / len(columns))
    size, letters = (side * len(columns), side * len(rows) + 0.3), int(13 * side)  # a line's letters beside a picture
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            draw(axes[i, j], cell)
            if i == 0:
                axes[i, j].set_title(_wrapped(lettered(columns[j], MOST), letters), fontsize=9, **PLAIN)
        if labels is not None:
            axes[i, 0].set_ylabel(_wrapped(lettered(labels[i], MOST), letters), fontsize=8, **PLAIN)
    return figure


def _wrapped(text: str, letters: int) -> str:
    """Each line of a text in lines of at most so many letters."""
    return "\n".join(textwrap.fill(line, letters) for line in text.split("\n"))


def draw(axis: Axes, picture: Tensor, alpha: float | None = None) -> None:
    """An image (3,H,W), or a map (h,w) in colours, without ticks."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    if picture.ndim == 3:
        axis.imshow(picture.permute(1, 2, 0).clamp(0, 1).cpu().numpy())
    else:
        axis.imshow(picture.cpu().numpy(), cmap=MAP_COLOURS, vmin=0, vmax=1, alpha=alpha)


def annotate(axes: Sequence[Axes], proof: Evidence, whole: bool = True) -> None:
    """Write below each picture of a `grid` what the pixels shown are worth, in red where there is reason for doubt.

    ``proof``: the evidence of as many images as there are axes, whose pixels not shown are black, as they are for the
    probabilities. ``whole``: also the probability on the whole image. What the words mean stands below the figure.
    """
    if not axes:
        return
    figure, cells = axes[0].figure, axes[0].get_gridspec()
    width = figure.get_size_inches()[0]
    for i, axis in enumerate(axes):
        lines = [f"whole {percent(proof.whole[i])}"] if whole else []
        lines += [f"kept {percent(proof.kept[i, 0])}", f"rest {percent(proof.rest[i, 0])}", *_enough(proof, i)]
        lines += [doubt for doubt in proof.doubts(i) if doubt != "not enough"]  # which a line of its fill says
        said = _wrapped("\n".join(lines), int(15 * width / cells.ncols))
        axis.set_xlabel(said, fontsize=WORDS - 2, labelpad=2, linespacing=1.1)
        if proof.doubts(i):
            axis.xaxis.label.set(color=DOUBT)
    meaning = textwrap.fill(MEANING.format(shown=percent(proof.shown.max())), int(14 * width))
    figure.supxlabel(meaning, x=0.01, ha="left", fontsize=WORDS - 2)

    # the height of what is written, on top of the pictures'
    lines = [0] * cells.nrows
    for axis in figure.axes:
        row = axis.get_subplotspec().rowspan.start
        lines[row] = max(lines[row], axis.get_xlabel().count("\n") + bool(axis.get_xlabel()))
    written = (sum(lines) + meaning.count("\n") + 2) * 1.15 * (WORDS - 2) / 72
    figure.set_size_inches(width, width / cells.ncols * cells.nrows + 0.3 + written)


def _enough(proof: Evidence, i: int) -> list[str]:
    """For each fill of what is not shown a line: the smallest share that is enough, or that the one shown is not."""
    if not proof.pixels_shown[i].any():
        return []
    lines = []
    for k, fill in enumerate(FILLS):
        enough = percent(proof.share[i, k]) if proof.faithful[i, k] else "no"
        lines.append(f"{fill}: {'–' if proof.empty_too[i, k] else enough}")
    return lines


def methods(
    pixels: Tensor,
    decided: Sequence[str],
    truth: dict[str, Tensor],
    maps: dict[str, Tensor],
    proofs: dict[str, Evidence],
) -> Figure:
    """Two rows for each of the ``pixels`` (B,3,H,W): the maps (B,h,w) of methods, and the pixels that each puts first.

    ``decided``: a label for each image; ``truth``: columns of maps that are kept as they are; ``proofs``: the evidence
    of each of the ``maps``, which is written below what its map keeps.
    """
    kept = [keep(pixels, m) for m in truth.values()]
    kept += [keep(pixels, proofs[name].pixels_shown.float()) for name in maps]
    shown, rows, labels = truth | maps, [], []
    for i, label in enumerate(decided):
        whole = percent(next(iter(proofs.values())).whole[i])
        rows += [[pixels[i], *(m[i] for m in shown.values())], [pixels[i], *(k[i] for k in kept)]]
        labels += [label, f"whole {whole}"]
    figure = grid(rows, ["image", *shown], labels)
    cells = np.array(figure.axes).reshape(len(rows), -1)
    for j, name in enumerate(maps, start=1 + len(truth)):
        annotate(list(cells[1::2, j]), proofs[name], whole=False)
    return figure


def pages(names: Sequence[str], most: int = 5) -> list[list[str]]:
    """The names in as few groups of at most ``most`` as possible, equally large up to one."""
    return [list(page) for page in np.array_split(np.array(names), -(-len(names) // most))]
