"""Ctrl-C and SIGTERM end a command with one line and the shell's exit code (130, 143), without a traceback.

Nothing is imported here but the standard library: a command calls `at_once` before its own imports, which take seconds.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SAID = {signal.SIGINT: "interrupted (Ctrl-C)", signal.SIGTERM: "ended by SIGTERM"}


class Ended(KeyboardInterrupt):
    """A signal that ends the command, once whatever is open has been closed."""

    def __init__(self, number: int = signal.SIGINT):
        self.code = 128 + number
        super().__init__(SAID[number])


def at_once() -> None:
    """From now on a signal ends the process without cleaning up, since nothing has been begun."""
    handle(_leave)


@contextmanager
def nothing_begun() -> Iterator[None]:
    """`at_once` while the block imports what takes seconds: an exception could get lost in strangers' modules."""
    before = handle(_leave)
    try:
        yield
    finally:
        _restore(before)


def after_cleaning(work: Callable[[], int | None]) -> int:
    """The exit code of ``work()``, in which a signal raises `Ended`; a second one ends the process."""

    def close(number: int, frame: FrameType | None) -> None:
        for each in SAID:
            signal.signal(each, signal.SIG_DFL)
        raise Ended(number)

    before = handle(close)
    try:
        return work() or 0
    except KeyboardInterrupt as stop:
        return told(stop)
    finally:
        _restore(before)


def told(stop: KeyboardInterrupt) -> int:
    """Say in one line what ended the command, and return the exit code."""
    stop = stop if isinstance(stop, Ended) else Ended()
    print(f"\n{stop}", file=sys.stderr)
    return stop.code


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, f"\n{SAID[number]}\n".encode())
    os._exit(128 + number)


def handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, object]:
    """Set the signals' handler and return those before; an ignored signal stays ignored."""
    before = {number: signal.getsignal(number) for number in SAID}
    before = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    return before


def _restore(handlers: dict[int, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
