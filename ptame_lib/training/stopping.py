"""Ctrl-C and SIGTERM during a training: the step that has begun is finished, so that its state can be kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal that ends the training; ``number`` is the signal's."""

    def __init__(self, number: int):
        self.number = number
        super().__init__(signal.Signals(number).name)


class Stops:
    """Raises `Stopped` for a signal: at once, or when the step that has begun is finished.

    A second signal does what it would without this. In another thread than the main one, which gets no signals,
    nothing is done.
    """

    def __init__(self) -> None:
        self.before: dict[int, object] = {}
        self.number, self.in_step = 0, False

    def __enter__(self) -> Stops:
        if threading.current_thread() is threading.main_thread():
            known = {number: signal.getsignal(number) for number in SIGNALS}
            self.before = {n: old for n, old in known.items() if old not in (signal.SIG_IGN, None)}  # ignored stays so
            for number in self.before:
                signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    @contextmanager
    def finished_first(self) -> Iterator[None]:
        """The block is not interrupted by the first signal; `Stopped` is raised after it."""
        self.in_step = True
        try:
            yield
        finally:
            self.in_step = False
        if self.number:
            raise Stopped(self.number)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()
        if not self.in_step:
            raise Stopped(number)

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
