"""The command ``ptame``."""

from __future__ import annotations

import sys

from .. import interrupts


def main() -> None:
    """Entry point of the installed command."""
    interrupts.at_once()
    from . import cli

    sys.exit(interrupts.after_cleaning(cli.main))
