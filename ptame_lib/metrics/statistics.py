"""Intervals and paired tests over images."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..validation import check_at_least


def bootstrap_interval(values: np.ndarray, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0) -> tuple:
    """Percentile bootstrap interval (low, high) of the mean of values (n,), or of columns (n,k).

    Columns are resampled together. A constant gives a zero-width interval. Raises ValueError for no values, for NaN or
    infinite ones, for no resamples and for a level outside (0, 1).
    """
    check_at_least(1, resamples=resamples)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, without both, got {level}: 0.95 gives a 95 % interval")
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("no values to resample: give at least one image")
    if not np.isfinite(values).all():
        bad = (~np.isfinite(values)).sum()
        raise ValueError(f"{bad} of {values.size} values are not finite: drop them first, or check the metric")
    tail = (1 - level) / 2
    low, high = np.quantile(_shares(len(values), resamples, seed) @ values, [tail, 1 - tail], axis=0)
    return (low, high) if values.ndim > 1 else (float(low), float(high))


@lru_cache(maxsize=4)
def _shares(n: int, resamples: int, seed: int) -> np.ndarray:
    """The share (resamples,n) of each value in each resample."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n


def paired_permutation_test(
    a: np.ndarray, b: np.ndarray, *, resamples: int = 10_000, seed: int = 0
) -> float | np.ndarray:
    """Two-sided p-value that paired values (n,) have one mean, by random sign flips of their differences.

    For columns (n,k) a p-value (k,) each, from the same flips. Raises ValueError for no pairs, unpaired values,
    NaN and no resamples.
    """
    check_at_least(1, resamples=resamples)
    if np.shape(a) != np.shape(b):
        shapes = f"{np.shape(a)} and {np.shape(b)}"
        raise ValueError(f"values must be paired, got shapes {shapes}: take the images that both have")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if not len(difference):
        raise ValueError("no pairs to compare: give at least one image")
    if not np.isfinite(difference).all():
        bad = (~np.isfinite(difference)).sum()
        raise ValueError(f"{bad} of {difference.size} differences are not finite: drop those images first")
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, size=(resamples, len(difference)), dtype=np.int8).astype(float) * 2 - 1
    margin = 1e-12 * np.abs(difference).sum(0)  # sums that differ only by rounding count as equal
    p = ((np.abs(signs @ difference) >= np.abs(difference.sum(0)) - margin).sum(0) + 1) / (resamples + 1)
    return p if difference.ndim > 1 else float(p)


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction for a family of tests, in the given order."""
    order = np.argsort(p_values)
    corrected, running = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected.tolist()


def mean_of_batch_means(values: np.ndarray, batch_size: int) -> float:
    """The mean over batches, as the original evaluation takes it; the last batch may be smaller.

    For parity with published numbers only, since it depends on the batch size; this study averages images.

    >>> float(mean_of_batch_means([0.0, 0.0, 3.0], batch_size=2))
    1.5
    """
    values = np.asarray(values, dtype=float)
    return np.mean([values[i : i + batch_size].mean() for i in range(0, len(values), batch_size)])
