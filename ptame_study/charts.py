"""The figures that are drawn from tables: cost against quality, intervals, ROAD's curves, cascades, class confusion."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from .figures import GREY, MAP_COLOURS, PAGE, colour, marker
from .lettering import PLAIN, lettered

SMALL = 9  # points: the smallest letters
BEHIND = "#dddddd"  # lines of the other methods
SIDES = [(right, up) for up in (0, 8, -8, 16, -16) for right in (7, -7)]  # of a point, in points
AROUND = [*SIDES, (0, 10), (0, -10)]


def cost_quality(points: pd.DataFrame) -> Figure:
    """Mean rank against time: a named point for each row.

    ``points``: columns ``ms per image`` and ``mean rank``, by method.
    """
    figure, axis = plt.subplots(figsize=(PAGE, 6))
    for method, row in points.iterrows():
        axis.plot(row["ms per image"], row["mean rank"], marker(method), ms=9, color=colour(method))
    axis.set(xscale="log", xlabel="milliseconds per image (log)", ylabel="mean rank (1 is best)")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")
    axis.invert_yaxis()
    axis.margins(x=0.15, y=0.08)
    figure.tight_layout()
    _name_points(axis, points["ms per image"], points["mean rank"], list(points.index))
    return figure


def _name_points(axis: Axes, xs: Sequence[float], ys: Sequence[float], names: Sequence[str]) -> None:
    """Write a name beside each point, where it covers neither a point nor another name nor leaves the frame."""
    axis.figure.canvas.draw()
    renderer, frame = axis.figure.canvas.get_renderer(), axis.get_window_extent()
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axis.transData.transform(np.column_stack([xs, ys]))]
    for x, y, name in zip(xs, ys, names, strict=True):
        tried = []
        for right, up in AROUND:
            side = "left" if right > 0 else "right" if right < 0 else "center"
            look = {"ha": side, "va": "center", "fontsize": SMALL + 1, **PLAIN}
            text = axis.annotate(lettered(name), (x, y), (right, up), textcoords="offset points", **look)
            box = text.get_window_extent(renderer)
            outside = not (frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1)
            tried.append((10 * outside + sum(box.overlaps(other) for other in taken), len(tried), text, box))
            if not tried[-1][0]:
                break
        *_, best, box = min(tried)
        for *_, text, _ in tried:
            if text is not best:
                text.remove()
        taken.append(box)


def intervals(table: pd.DataFrame, metrics: Sequence[str], arrows: dict[str, bool]) -> Figure:
    """Means and 95 % intervals: a panel for each classifier and metric, with the methods that this classifier has.

    ``table``: as `tables.tidy` makes it. ``arrows``: whether higher is better, by metric. Each panel has the limits of
    its own values.
    """
    parts = list(table.groupby("classifier", sort=False))
    heights = [part["method"].nunique() + 4 for _, part in parts]
    shape = {"squeeze": False, "figsize": (PAGE + 1, 0.24 * sum(heights)), "height_ratios": heights, "sharey": "row"}
    figure, axes = plt.subplots(len(parts), len(metrics), **shape)
    for line, (classifier, part) in zip(axes, parts, strict=True):
        order = list(part["method"].unique())
        for axis, metric in zip(line, metrics, strict=True):
            for row in part[part["metric"] == metric].itertuples():
                look, at = {"color": colour(row.method)}, order.index(row.method)
                axis.plot([row.low, row.high], [at, at], lw=3, **look)
                axis.plot(row.value, at, "o", markeredgecolor="white", **look)
            axis.set_title(f"{metric.replace(' ', chr(10))} {'→' if arrows[metric] else '←'}", fontsize=SMALL + 1)
            axis.set_yticks(range(len(order)), [lettered(name) for name in order], fontsize=SMALL, **PLAIN)
            axis.set(ylim=(len(order) - 0.5, -0.5), xlabel="%")
            axis.tick_params(axis="x", labelsize=SMALL)
        line[0].set_ylabel(lettered(classifier), **PLAIN)
    figure.tight_layout()
    return figure


def road(table: pd.DataFrame, methods: Sequence[str], shares: Sequence[int] = (10, 30, 50, 70)) -> Figure:
    """ROAD's curves as small multiples: a column for each method, its interval as a band, all others in grey behind.

    ``table``: as `tables.tidy` makes it; two rows of panels for each classifier, MoRF and LeRF.
    """
    rows = [(name, way) for name in table["classifier"].unique() for way in ("MoRF", "LeRF")]
    shape = {"squeeze": False, "figsize": (PAGE + 1, 1.7 * len(rows) + 0.5), "sharex": True, "sharey": "row"}
    figure, axes = plt.subplots(len(rows), len(methods), **shape)
    for line, (classifier, way) in zip(axes, rows, strict=True):
        of = table[table["classifier"] == classifier].set_index(["method", "metric"])[["value", "low", "high"]]
        metrics = [f"{way} confidence {share}" for share in shares]
        curves = {m: of.loc[m].loc[metrics] for m in methods if (m, metrics[0]) in of.index}
        for axis, method in zip(line, methods, strict=True):
            for other in curves.values():
                axis.plot(shares, other["value"], color=BEHIND, lw=0.8)
            if method in curves:
                curve, look = curves[method], {"color": colour(method)}
                axis.fill_between(shares, curve["low"], curve["high"], alpha=0.3, **look)
                axis.plot(shares, curve["value"], marker=marker(method), ms=4, **look)
            axis.set_xticks(list(shares))
            axis.tick_params(labelsize=SMALL)
        line[0].set_ylabel(f"{lettered(classifier)}\n{way}, %", fontsize=SMALL, **PLAIN)
    for axis, method in zip(axes[0], methods, strict=True):
        axis.set_title(lettered(method).replace(" ", "\n", 1), fontsize=SMALL + 1, **PLAIN)
    figure.supxlabel("% of the pixels removed", fontsize=SMALL + 1)
    figure.tight_layout()
    return figure


def cascade(table: pd.DataFrame, stages: Sequence[str], apart: Sequence[str] = ()) -> Figure:
    """How like the original's a method's maps stay: a panel for each method, over the stages of a randomisation.

    ``table``: percent, a row for each method and a column for each of the ``stages`` and of the checks ``apart``, which
    are no stage and are drawn as points of their own.
    """
    rows = -(-len(table) // 5)
    columns = -(-len(table) // rows)
    shape = {"squeeze": False, "figsize": (PAGE, 2.4 * rows + 0.9), "sharex": True, "sharey": True}
    figure, axes = plt.subplots(rows, columns, **shape)
    labels = [*(name.removeprefix("random ") for name in stages), *apart]
    places = [*range(len(stages)), *(len(stages) + 0.5 + i for i in range(len(apart)))]
    for axis, method in zip(axes.flat, table.index, strict=False):
        for other in table.index:
            axis.plot(places[: len(stages)], table.loc[other, list(stages)], color=BEHIND, lw=0.8)
        axis.plot(places[: len(stages)], table.loc[method, list(stages)], color=colour(method), marker=marker(method))
        for place, name in zip(places[len(stages) :], apart, strict=True):
            axis.plot(place, table.loc[method, name], marker="D", ms=7, color=colour(method))
        axis.set_title(lettered(method), fontsize=SMALL + 1, **PLAIN)
        axis.axhline(0, color=GREY, lw=0.8)
        axis.set_xticks(places, labels, rotation=90, fontsize=SMALL, **PLAIN)
    for at, axis in enumerate(axes.flat):
        axis.tick_params(labelbottom=len(table) - columns <= at < len(table))  # the lowest of each column
        if at >= len(table):
            axis.set_axis_off()
    figure.supylabel("rank correlation with the original, %", fontsize=SMALL + 1)
    figure.tight_layout()
    return figure


def confusions(matrices: dict[str, pd.DataFrame]) -> Figure:
    """One matrix a row, by its title, with a bar of colours: percent from 0 to 100 of image classes by mask classes."""
    heights = [0.36 * len(wide) + 1.1 for wide in matrices.values()]
    width = min(PAGE, 0.62 * max(wide.shape[1] for wide in matrices.values()) + 2.5)
    shape = {"squeeze": False, "figsize": (width, sum(heights)), "height_ratios": heights}
    figure, axes = plt.subplots(len(matrices), 1, **shape)
    for axis, (title, wide) in zip(axes[:, 0], matrices.items(), strict=True):
        look = {"annot": True, "fmt": ".0f", "annot_kws": {"size": SMALL + 1}, "cmap": MAP_COLOURS}
        seaborn.heatmap(wide, vmin=0, vmax=100, ax=axis, cbar_kws={"label": "% probability"}, **look)
        axis.set_title(lettered(title), fontsize=SMALL + 3, **PLAIN)
        axis.set(xlabel="mask of class", ylabel="image has class")
        axis.tick_params(labelsize=SMALL + 1, rotation=0)
    figure.tight_layout()
    return figure
