"""Names and labels in figures: never as mathematics, and only in letters that the fonts have."""

from __future__ import annotations

from functools import cache

import matplotlib
from matplotlib import font_manager

from ptame_lib.texts import printable

PLAIN = {"parse_math": False}  # for every matplotlib text that holds a name: "$x_$" is no formula
WIDE = (  # fonts with letters that matplotlib's own lacks; those that are installed are used for these letters
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "PingFang SC",
    "WenQuanYi Micro Hei",
)


def families() -> list[str]:
    """matplotlib's ``font.family``: its usual font, then those of `WIDE` that are installed."""
    installed = set(font_manager.get_font_names())
    return ["sans-serif", *(name for name in WIDE if name in installed)]


def lettered(text: str, most: int | None = None) -> str:
    """`printable` (line breaks stay), with escapes for letters that no font in use has."""
    shown = printable(text, most, keep="\n")
    if shown.isascii():
        return shown
    known = _letters(tuple(matplotlib.rcParams["font.family"]))
    return "".join(c if ord(c) in known else c.encode("unicode_escape").decode("ascii") for c in shown)


@cache
def _letters(names: tuple[str, ...]) -> frozenset[int]:
    """The code points that any of these fonts has."""
    files = [font_manager.findfont(font_manager.FontProperties(family=[name])) for name in names]
    return frozenset().union([10], *(font_manager.get_font(file).get_charmap() for file in files))
