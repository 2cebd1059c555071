"""Data sets: all give pixels in [0,1]."""

from __future__ import annotations

from torch.utils.data import Dataset, Subset


def first(data: Dataset, n: int) -> Subset:
    """The first ``n`` items of a data set, with their ``labels``, and with ``draw`` if it augments.

    Raises ValueError if it has fewer.
    """
    if not 0 < n <= len(data):
        raise ValueError(f"the first {n} images are asked for, but there are {len(data)}")
    part = Subset(data, range(n))
    if hasattr(data, "draw"):
        part.draw = data.draw  # the indices are the same
    if hasattr(data, "labels"):
        part.labels = data.labels[:n]
    return part
