"""The parts of docs/whose_evidence.md that hold the study's numbers, made from tables of ``results/reference``.

`readme.renew` writes them there.
"""

from __future__ import annotations

import pandas as pd

from ptame_lib.texts import in_markdown

from .answers import count_pairs, listed, of_stickers, own_better, what_decides
from .results_page import markdown_table, wrapped
from .whose_evidence import RIGHT

AIM = 90  # percent of right evidence, with at most nine passes
KNOWS_NONE = " on zoo/rotations"  # explainers of an auxiliary that knows no class
SHOWN = (  # rows of the table
    *("P-TAME", "P-TAME+2", "FastSHAP", "Swap-TAME", "Swap-TAME+2", "Swap-TAME without regions"),
    *(f"{name}{KNOWS_NONE}" for name in ("P-TAME", "FastSHAP", "Swap-TAME")),
    f"Swap-TAME{KNOWS_NONE}+2",
    *("guided backpropagation", "occlusion", "RISE", "integrated gradients", "LayerCAM", "Grad-CAM"),
    "centred Gaussian",
)


def evidence(shown: pd.DataFrame, swapped: pd.DataFrame) -> str:
    """Right evidence by method and network, where the own explainer wins, and what that says.

    ``shown``: `whose_evidence.tidy`, ``swapped``: `whose_evidence.gaps`.
    """
    right = _right(shown)
    means, better = right.mean(axis=1), own_better(swapped)
    pairs = count_pairs(swapped)
    rows = [["method", *right, "mean", f"own better (of {pairs})"]]
    for name in SHOWN:
        shares = [f"{v:.0f}" for v in (*right.loc[name], means[name])]
        rows.append([in_markdown(name), *shares, str(better.get(name, ""))])

    # what they say
    percent = means.map("{:.0f} %".format)
    background = right["background"].map("{:.0f} %".format)
    ptame, fastshap, swap = (f"{name}{KNOWS_NONE}" for name in ("P-TAME", "FastSHAP", "Swap-TAME"))
    small = right.loc[["Grad-CAM", "LayerCAM"], ["frame", "background"]].to_numpy().max()
    discs = {
        name: " and ".join(f"{value:.0f}" for value in right.loc[name, ["quadrant", "quadrant-vit"]])
        for name in ("LayerCAM", "Grad-CAM")
    }
    told = [
        f"**P-TAME as published** shows the right evidence in {percent['P-TAME']} in the mean of the networks, "
        f"FastSHAP, with the same auxiliary, size and passes, in {percent['FastSHAP']}: a small mask on which the "
        "decision stays need not lie on what decides.",
        f"**Swap-TAME's own explainer is better than another network's** in {better['Swap-TAME']} of {pairs} pairs, in "
        f"all three metrics, FastSHAP's in {better['FastSHAP']}, P-TAME's in {better['P-TAME']}.",
        f"**It needs no auxiliary that knows the classes**: on `zoo/rotations` it has {percent[swap]} instead of "
        f"{percent['Swap-TAME']}; but {background[swap]} instead of {background['Swap-TAME']} on the background. "
        f"P-TAME has {percent[ptame]} there instead of {percent['P-TAME']}, "
        f"FastSHAP {percent[fastshap]} instead of {percent['FastSHAP']}.",
        "**Gradients are a strong rival**: guided backpropagation, with two passes and no training, has "
        f"{percent['guided backpropagation']}. Grad-CAM and LayerCAM have at most {small:.0f} % on the frame and the "
        f"background; on the two quadrant networks LayerCAM has {discs['LayerCAM']} %, Grad-CAM {discs['Grad-CAM']} %.",
    ]
    return markdown_table(rows) + "\n" + "\n".join(wrapped(f"- {line}", "  ") for line in told) + "\n"


def with_questions(whose_evidence: pd.DataFrame) -> str:
    """Right evidence of the methods that ask, by network, and whether they reach the `AIM` on each of them.

    ``whose_evidence``: `whose_evidence.tidy`. The method whose lowest network is highest is last.
    """
    right = _right(whose_evidence)
    lowest = right.min(axis=1).sort_values()
    rows, told = [["method", *right, "lowest"]], []
    for name, least in lowest.items():
        rows.append([in_markdown(name), *(f"{v:.1f}" for v in right.loc[name]), f"{least:.1f}"])
        under = [network for network, value in right.loc[name].items() if value < AIM]
        count, below = right.shape[1], f" (below on {listed(under)})" if under else ""
        told.append(f"{name} has {AIM} % or more on {count - len(under)} of {count} networks{below}.")
    seeds = whose_evidence.groupby("method")["seed"].nunique().max()
    told.append(f"Means of {seeds} trainings." if seeds > 1 else "One training.")
    return markdown_table(rows) + f"\n{wrapped(' '.join(told))}\n"


def _right(shown: pd.DataFrame) -> pd.DataFrame:
    """Right evidence: a row per method, a column per network, means over training seeds."""
    right = shown[shown["metric"] == RIGHT].groupby(["method", "network"], sort=False)["value"].mean().unstack()
    right.columns = right.columns.str.removeprefix("zoo/")
    return right


def sticker_network(sticker: pd.DataFrame, sticker_swap: pd.DataFrame) -> str:
    """What each method shows of a classifier that decides by a sticker, and of the same one as it was.

    ``sticker``: `whose_evidence.tidy` of both networks, ``sticker_swap``: `whose_evidence.gaps`. A method with a star
    explains fewer images.
    """
    wanted = (RIGHT, "AP", "precision@truth")
    at = what_decides(sticker)
    own = sticker[sticker["evidence"] == sticker["network"].map(at)]  # what decides there
    values = own.set_index(["network", "metric", "method"])["value"]
    counts = sticker.groupby("method", sort=False)["n"].min()
    columns = [(network, metric) for network in at.index for metric in wanted]
    order = values.unstack("method").loc[columns].mean().sort_values(ascending=False).index
    rows = [["method", *(f"{network}: {metric}" for network, metric in columns)]]
    for name in order:
        starred = "*" if counts[name] < counts.max() else ""
        rows.append([in_markdown(name) + starred, *(f"{values[n, m, name]:.1f}" for n, m in columns)])
    return f"\n{wrapped(in_markdown(of_stickers(sticker, sticker_swap)))}\n{markdown_table(rows)}\n"
