"""Texts that strangers wrote, made fit for a terminal, Markdown, HTML and Python.

They are names, labels and metadata of files. A text is never dropped: what a terminal or a page would obey instead of
showing is written as an escape.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from typing import Any

MOST = 200  # letters of a name that are shown
JOINERS = "\u200c\u200d"  # format characters that Persian, Indic scripts and emoji need
# what Markdown would obey inside a line; an underscore inside a word and a lone bracket are letters to it
MARKDOWN = re.compile(r"[\\`*<>&|~$#@]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)


def printable(text: Any, most: int | None = None, keep: str = "") -> str:
    r"""A text in one line for a terminal, control characters as Python writes them.

    These are also the line breaks, and the marks that turn the direction of writing; those in ``keep`` stay. ``most``:
    of a longer text, only so many letters are given, and how many there were.

    >>> print(printable("a\x1b]0;b\nerror: c"))
    a\x1b]0;b\nerror: c
    """
    text = str(text)
    count, text = len(text), text if most is None else text[:most]
    shown = text if text.isascii() and text.isprintable() else "".join(_escape(c, keep) for c in text)
    return shown if count == len(text) else f"{shown}... ({count} letters)"


def _escape(letter: str, keep: str) -> str:
    unseen = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and letter not in JOINERS + keep
    return letter.encode("unicode_escape").decode() if unseen else letter


def in_markdown(text: Any, most: int | None = None) -> str:
    """`printable`, with HTML entities, which every dialect shows, for what Markdown would obey."""
    return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", printable(text, most))


def in_code(text: Any, most: int | None = None) -> str:
    """`printable`, as a code span of Markdown: between more backticks than it holds in a row."""
    shown = printable(text, most)
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{shown}{space}{fence}"


def in_python(text: str) -> str:
    """A string as a literal of Python in double quotes, in one line."""
    return printable(json.dumps(text, ensure_ascii=False))


def in_html(text: Any, most: int | None = None) -> str:
    """`printable`, with the characters that HTML would obey as entities, also for attributes in quotes."""
    return html.escape(printable(text, most))
