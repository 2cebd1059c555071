"""The HTML of the page of notebook 09: names and labels from files are shown as text."""

from __future__ import annotations

import torch
from torch import Tensor

from ptame_lib.texts import MOST, in_html

from .explorer import LARGEST

FILLED = {"kept": "#9ecae1", "rest": "#fdd0a2"}  # colours of the bars
LEGEND = (
    "<b>kept</b>: the pixels that a map puts first, alone; <b>rest</b>: the image without them. The others are black "
    "or blurred, as chosen. Bars: the class's probability there; → 3: decided for 3 instead."
)
LIMIT = f"up to {LARGEST // 2**20} MB; the classifier sees the middle of the image"  # beside the button to upload
WAITING = "<div>The map is being made …</div>"
FIRST = '<div class="ptame-first"></div>'  # above the figure of the image that is open first
_CELL = ".jp-OutputArea-child"
HIDE = f"<style>{_CELL}:has(.ptame-first) + {_CELL} {{display: none}}</style>"  # this figure: another image is open
OTHER = HIDE + "<div>Another image or class is open: the button draws its figure.</div>"


def blank(image: Tensor) -> Tensor:
    """A light grey image of the same size, shown until there is a map."""
    return torch.full_like(image, 0.94)


def name(text: str) -> str:
    """A name from a file as HTML; its direction of writing changes nothing around it."""
    return f"<bdi>{in_html(text, MOST)}</bdi>"


def title(text: str) -> str:
    """A name in bold letters."""
    return f"<b>{name(text)}</b>"


def bar(kind: str, probability: float, instead: str = "") -> str:
    """A line of text on a bar as long as the probability.

    ``kind``: kept or rest. ``instead``: the class that is decided for there, if it is not the explained one.
    """
    words = f"{kind} (→ {name(instead)}):" if instead else f"{kind}:"
    colours = f"background:linear-gradient(90deg,{FILLED[kind]} {100 * probability:.1f}%,#f0f0f0 0);color:#000"
    look = f"{colours};line-height:22px;padding-left:4px"
    return f'<div class="ptame-{kind}" style="{look}">{words} <b>{100 * probability:.0f} %</b></div>'


def verdict(text: str, warning: str) -> str:
    """What the pixels shown are worth: the evidence in words, below a warning or nothing."""
    look = "background:#fff3cd;color:#000;padding:3px;margin-bottom:3px"
    caution = f'<div style="{look}">{in_html(warning)}</div>' if warning else ""
    whole = "line-height:1.25;font-size:12px;white-space:normal;overflow-wrap:anywhere"
    return f'<div class="ptame-verdict" style="{whole}">{caution}{in_html(text)}</div>'


def shown(file: str) -> str:
    """That the uploaded file of this name is shown."""
    return f"shown: {name(file)}"


def refused(error: Exception) -> str:
    """Why something can't be shown."""
    return f"<b>{in_html(error)}</b>"
