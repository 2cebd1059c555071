"""What the command says of arguments that it can't take, where the parser of arguments has words of its own."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import typer

from ptame_lib.texts import MOST, printable

IMAGE = re.compile(r"^[^=]+\.(jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)  # the name of one, there or not


def whole_number(least: int) -> Callable[[Any], int]:
    """A reader of an option's whole number of at least ``least``; it raises typer.BadParameter for anything else."""

    def read(text: Any) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise _refused(text, f"give a whole number of at least {least}")
        return number

    return read


def amount(text: Any) -> float:
    """An option's finite number that is not negative; raises typer.BadParameter for anything else."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise _refused(text, "give a number that is not negative, such as 0.001")
    return number


def _refused(text: Any, remedy: str) -> typer.BadParameter:
    return typer.BadParameter(f"it can't be {printable(text, MOST)!r}: {remedy}")


def name_file(error: Exception, arguments: Sequence[str]) -> None:
    """Add to the ``error`` for an unknown option how to name the file that is called so, if one may be meant."""
    if not hasattr(error, "option_name"):
        return
    for name in arguments:
        if name.startswith("-") and (os.path.exists(name) or IMAGE.search(name)):
            shown = printable(name, MOST)
            error.message += f". If you mean the file {shown}, write ./{shown}"
            return
