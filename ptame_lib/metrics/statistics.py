"""Intervals of means, paired tests over images, and corrections for many of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..validation import check_at_least

FEW = 100  # values below which the percentile bootstrap covers less than it says
ENUMERATED = 16  # differences up to which all sign patterns are counted
FLIPPED = 1000  # differences up to which signs are flipped at random; above, Student's t is as exact
HITS = 100  # flips as extreme as the data below which more flips are drawn
NUMBERS = 2**22  # random numbers in memory at a time


def bootstrap_interval(values: np.ndarray, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0) -> tuple:
    """Percentile bootstrap interval (low, high) of the mean of values (n,), or of columns (n,k).

    Columns are resampled together. A constant gives a zero-width interval. Of fewer than 100 values, it covers the mean
    less often than it says: see `mean_interval`. Resampled in parts, so that memory does not grow with the resamples;
    sums are exact, so that the digits depend on nothing but the seed. Raises ValueError for no values, for NaN or
    infinite ones, for no resamples and for a level outside (0, 1).
    """
    values = _checked(values, level)
    means = np.concatenate(list(resampled_means(values.reshape(len(values), -1), resamples=resamples, seed=seed)))
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return (low, high) if values.ndim > 1 else (float(low[0]), float(high[0]))


def resampled_means(values: np.ndarray, *, resamples: int, seed: int = 0, part: int | None = None) -> Iterator:
    """Means of the columns (n,k) in each of many resamples of the rows, as arrays (at most part, k).

    Whatever the ``part``, by default one that takes about 32 MB, the means are the same to the last digit. Raises
    ValueError for no resamples.
    """
    check_at_least(1, resamples=resamples)
    n, rng = len(values), np.random.default_rng(seed)
    start = values.min(0)
    whole, unit = _whole_numbers(values - start)
    for rows in _parts(resamples, n, part):
        drawn = [np.bincount(rng.integers(0, n, n, dtype=np.int32), minlength=n) for _ in range(rows)]
        yield start + np.stack(drawn).astype(float) @ whole * unit / n


def mean_interval(values: np.ndarray, *, share: bool = False, level: float = 0.95, seed: int = 0) -> tuple:
    """Interval (low, high) of the mean of values (n,), or of columns (n,k), fit for their number.

    From 100 values on the percentile bootstrap. Of fewer, Wilson's interval for a ``share``, whose values are 0 or one
    and the same positive number (100 for percent); else the bias-corrected and accelerated bootstrap (BCa), and NaN
    for columns of which fewer than 10 values differ from the most frequent one, which tell nothing of the rare rest.
    Raises as `bootstrap_interval`, and ValueError for a share with other values.
    """
    values = _checked(values, level)
    if len(values) >= FEW:
        return bootstrap_interval(values, level=level, seed=seed)
    columns = values.reshape(len(values), -1).T
    interval = _wilson if share else _bca
    low, high = np.transpose([interval(column, level, seed) for column in columns])
    return (low, high) if values.ndim > 1 else (float(low[0]), float(high[0]))


def _wilson(values: np.ndarray, level: float, seed: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    unit = values.max() or 100.0  # of none, percent are assumed: the interval's end must have a unit
    if not np.isin(values, (0, unit)).all():
        raise ValueError(f"a share's values are 0 and {unit:g}, got others, too: leave out share=True")
    found = binomtest(int((values > 0).sum()), len(values)).proportion_ci(level, method="wilson")
    return unit * found.low, unit * found.high


def _bca(values: np.ndarray, level: float, seed: int) -> tuple[float, float]:
    from scipy.stats import bootstrap

    if len(values) - np.unique(values, return_counts=True)[1].max() < 10:
        return np.nan, np.nan
    found = bootstrap((values,), np.mean, confidence_level=level, method="BCa", rng=np.random.default_rng(seed))
    return found.confidence_interval


def paired_permutation_test(
    a: np.ndarray, b: np.ndarray, *, resamples: int = 10_000, most: int = 1_000_000, seed: int = 0
) -> float | np.ndarray:
    """Two-sided p-value that paired values (n,) have one mean, by sign flips of their differences.

    For columns (n,k) a p-value (k,) each. Pairs without a difference do not count. Exact for up to 16 differences and
    for differences of one size (a binomial distribution). From 17 to 1000 by random flips: ``resamples``, and ``most``
    where fewer than 100 of these are as extreme as the data. Still smaller ones are the upper bound of Bentkus and
    Dzindzalieta (2015) for sums of random signs, 3.18 times the normal tail, so that p outlives the correction for
    thousands of tests. Above 1000, Student's t, to which the flips' distribution converges (Pitman 1937). Memory does
    not grow with the flips. Raises ValueError for no pairs, unpaired values, NaN and no resamples.
    """
    check_at_least(1, resamples=resamples, most=most)
    if np.shape(a) != np.shape(b):
        shapes = f"{np.shape(a)} and {np.shape(b)}"
        raise ValueError(f"values must be paired, got shapes {shapes}: take the images that both have")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if not len(difference):
        raise ValueError("no pairs to compare: give at least one image")
    if not np.isfinite(difference).all():
        bad = (~np.isfinite(difference)).sum()
        raise ValueError(f"{bad} of {difference.size} differences are not finite: drop those images first")
    whole, _ = _whole_numbers(difference.reshape(len(difference), -1))
    columns = [column[column != 0] for column in whole.T]
    p = np.array([_without_flips(column) for column in columns])
    flipped = np.flatnonzero(np.isnan(p))
    for flips in (resamples, most):
        if len(flipped):
            p[flipped] = _by_flips([columns[i] for i in flipped], flips, seed)
            p[flipped] = [min(p[i], bound) if (bound := _bound(columns[i])) < 1 / most else p[i] for i in flipped]
            flipped = flipped[(p[flipped] * flips < HITS) & (p[flipped] >= 1 / most)]
    return p if difference.ndim > 1 else float(p[0])


def _without_flips(differences: np.ndarray) -> float:
    """The p-value of differences other than 0 that need no random flips, NaN for others."""
    from scipy.stats import binomtest, t

    n, total, sizes = len(differences), abs(differences.sum()), np.abs(differences)
    if not n:
        return 1.0
    if sizes.min() == sizes.max():
        return float(binomtest(int((differences > 0).sum()), n).pvalue)
    if n <= ENUMERATED:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums - size, sums + size])
        return float((np.abs(sums) >= total).mean())
    if n > FLIPPED:
        spread = (differences**2).sum()
        return float(2 * t.sf(total * np.sqrt((n - 1) / (n * spread - total**2)), n - 1))
    return np.nan


def _bound(differences: np.ndarray) -> float:
    """What the p-value of differences is at most."""
    from scipy.stats import norm

    return float(2 * 3.18 * norm.sf(abs(differences.sum()) / np.sqrt((differences**2).sum())))


def _by_flips(columns: list[np.ndarray], flips: int, seed: int) -> np.ndarray:
    """p-values of columns of differences, from the same flips; the shorter ones are filled with zeros."""
    values = np.zeros((max(map(len, columns)), len(columns)))
    for i, column in enumerate(columns):
        values[: len(column), i] = column
    total, extreme = np.abs(values.sum(0)), 0
    for sums in _flipped_sums(values, flips, seed):
        extreme += (np.abs(sums) >= total).sum(0)
    return (extreme + 1) / (flips + 1)


def all_pairs_test(values: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> np.ndarray:
    """p-values (c,k,k) of each pair of k methods in each of c columns of values (n,c,k), corrected for all pairs.

    Two-sided, by random sign flips of the images' differences: the step-down procedure of the largest studentised
    difference (Westfall and Young 1993). In each column, the chance that any p of two methods with one mean is at most
    alpha is at most alpha. So it holds for pairs chosen by a look at the data, too, such as every method against the
    best. Images whose values are not finite do not count in that column. Raises ValueError for no images or resamples.
    """
    check_at_least(1, resamples=resamples)
    n, columns, k = np.shape(values)
    if not n:
        raise ValueError("no images to compare methods on: give at least one")
    values = np.where(np.isfinite(values).all(2, keepdims=True), values, 0.0)
    whole, _ = _whole_numbers(values, axis=(0, 2))
    first, second = np.triu_indices(k, 1)
    # how far apart the methods are, in units that make all pairs comparable
    norm = np.empty((columns, len(first)))
    for pair, (i, j) in enumerate(zip(first, second, strict=True)):
        norm[:, pair] = np.sqrt(((whole[:, :, i] - whole[:, :, j]) ** 2).sum(0))
    norm[norm == 0] = 1.0

    def apart(sums: np.ndarray) -> np.ndarray:
        return np.abs(sums[..., first] - sums[..., second]) / norm

    observed = apart(whole.sum(0))
    order = observed.argsort(1)
    ascending, extreme = np.take_along_axis(observed, order, 1), 0
    # the largest of the pairs that are not further apart than each
    for sums in _flipped_sums(whole.reshape(n, -1), resamples, seed, columns * len(first)):
        stats = np.take_along_axis(apart(sums.reshape(-1, columns, k)), order[None], 2)
        extreme += (np.maximum.accumulate(stats, 2) >= ascending * (1 - 1e-12)).sum(0)
    p = (np.broadcast_to(extreme, observed.shape) + 1) / (resamples + 1)
    p = np.maximum.accumulate(p[:, ::-1], 1)[:, ::-1]  # never smaller than that of a pair further apart
    found, back = np.ones((columns, k, k)), np.take_along_axis(p, order.argsort(1), 1)
    found[:, first, second] = found[:, second, first] = back
    return found


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


def _checked(values: np.ndarray, level: float) -> np.ndarray:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, without both, got {level}: 0.95 gives a 95 % interval")
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("no values to resample: give at least one image")
    if not np.isfinite(values).all():
        bad = (~np.isfinite(values)).sum()
        raise ValueError(f"{bad} of {values.size} values are not finite: drop them first, or check the metric")
    return values


def _whole_numbers(values: np.ndarray, axis: int | tuple[int, ...] = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values as whole numbers, and the unit of each column.

    The numbers are so small (36 bits for 50 000 rows) that sums of n of them are exact in float64, in whatever order
    and parts a machine adds them.
    """
    bits = 52 - int(np.ceil(np.log2(len(values) + 1)))
    largest = np.abs(values).max(axis=axis, keepdims=True)
    exponent = np.ceil(np.log2(largest, out=np.zeros_like(largest), where=largest > 0))
    unit = 2.0 ** (exponent - bits)
    return np.rint(values / unit), unit.squeeze(axis)


def _parts(count: int, numbers: int, part: int | None = None) -> Iterator[int]:
    """``count`` rows of so many numbers in parts, each given by its rows."""
    part = part or max(1, NUMBERS // max(1, numbers))
    for first in range(0, count, part):
        yield min(part, count - first)


def _flipped_sums(whole: np.ndarray, flips: int, seed: int, made: int = 0) -> Iterator[np.ndarray]:
    """Sums (rows,k) of the columns (n,k) with the signs of whole rows flipped at random, in parts.

    ``made``: how many numbers the caller makes of one row of sums.
    """
    n, rng, total = len(whole), np.random.default_rng(seed), whole.sum(0)
    width = 8 * -(-n // 64)  # bytes for the bits of one flip, whole words of the generator
    for rows in _parts(flips, max(n, whole.shape[1], made)):
        drawn = np.frombuffer(rng.bytes(rows * width), np.uint8).reshape(rows, width)
        yield 2 * (np.unpackbits(drawn, axis=1, count=n).astype(float) @ whole) - total
