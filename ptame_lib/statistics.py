"""Intervals and paired tests over images."""

from __future__ import annotations

import numpy as np


def bootstrap_interval(values: np.ndarray, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of per-image values (n,). A constant gives a zero-width interval.

    Raises ValueError for no values.
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("no values to resample")
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    means = counts @ values / len(values)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def paired_permutation_test(a: np.ndarray, b: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that paired values a and b (n,) have one mean: random sign flips of the differences."""
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if not len(difference):
        raise ValueError("no pairs to compare")
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, size=(resamples, len(difference)), dtype=np.int8) * 2 - 1
    extreme = np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12 * np.abs(difference).sum()
    return float((extreme.sum() + 1) / (resamples + 1))


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction for a family of tests, in the given order."""
    order = np.argsort(p_values)
    corrected, running = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected.tolist()
