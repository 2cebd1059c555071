"""Downloads of pretrained networks from a hub: where it does not answer, only what is cached is tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 5  # for the hub's first answer
UNREACHED = f"its hub did not answer within {SECONDS} seconds, and the cache does not hold it"


@contextmanager
def asked_once() -> Iterator[bool]:
    """Whether the hub answers; where it does not, the block finds what is cached, and nothing is asked for again.

    Without this, the hub's client tries for minutes. Its setting is as before afterwards.
    """
    try:
        from huggingface_hub import constants
    except ImportError:  # nothing can be downloaded by it
        yield True
        return
    before = constants.HF_HUB_OFFLINE
    there = bool(before) or _answers(constants.ENDPOINT)  # who chose to be offline is told so by the client
    constants.HF_HUB_OFFLINE = before or not there
    try:
        yield there
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(address: str) -> bool:
    from huggingface_hub.utils import get_session

    try:
        get_session().head(address, timeout=SECONDS)
    except Exception:  # whatever its client raises for a missing name, network or answer
        return False
    return True
