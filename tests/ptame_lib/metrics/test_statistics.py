"""Intervals and tests: answers worked out by hand, and properties."""

import numpy as np
import pytest

from ptame_lib.metrics.statistics import bootstrap_interval, holm, paired_permutation_test


def test_the_interval_of_a_constant_has_no_width():
    assert bootstrap_interval(np.full(17, 2.5)) == pytest.approx((2.5, 2.5), abs=1e-12)
    assert bootstrap_interval([3.0]) == (3.0, 3.0)


def test_the_interval_is_that_of_the_normal_distribution_for_many_values():
    values = np.random.default_rng(0).normal(10, 2, 400)
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.02)


def test_two_values_by_hand():
    """0 and 1: the mean is 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4."""
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], level=0.4) == (0.5, 0.5)  # between the quantiles .3 and .7


def test_interval_properties():
    values = np.random.default_rng(1).random(50)
    low, high = bootstrap_interval(values)
    assert values.min() < low < values.mean() < high < values.max()
    assert bootstrap_interval(values) == (low, high)  # seeded
    assert bootstrap_interval(values, seed=1) != (low, high)
    wide = bootstrap_interval(values, level=0.99)
    assert wide[0] < low
    assert wide[1] > high
    assert bootstrap_interval(10 * values + 3) == pytest.approx((10 * low + 3, 10 * high + 3))


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.random(40), resamples=400)
        covered += low <= 0.5 <= high
    assert 180 <= covered <= 199


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="no pairs"):
        paired_permutation_test([], [])


def test_permutation_by_hand():
    """Four equal differences: of the 16 sign patterns two are as extreme, so p = 1/8."""
    assert paired_permutation_test([2, 3, 4, 5], [1, 2, 3, 4]) == pytest.approx(1 / 8, abs=0.012)
    assert paired_permutation_test([1.0], [0.0]) == 1  # both patterns of one pair are as extreme
    assert paired_permutation_test([1, 2, 3], [1, 2, 3]) == 1
    assert paired_permutation_test([1, 0], [0, 1]) == 1  # the differences cancel


def test_permutation_properties():
    rng = np.random.default_rng(3)
    a = rng.normal(size=60)
    b = a + rng.normal(0.0, 1.0, 60)
    shifted = a + 3 + rng.normal(0.0, 1.0, 60)
    assert paired_permutation_test(a, shifted) == pytest.approx(1 / 10_001)  # never 0
    assert paired_permutation_test(a, b) == paired_permutation_test(b, a) == paired_permutation_test(a, b, seed=0)
    assert paired_permutation_test(5 * a, 5 * b) == paired_permutation_test(a, b)


def test_it_is_paired():
    """Large differences between images don't hide a small, constant one within them."""
    a = np.random.default_rng(4).normal(0, 100, 30)
    assert paired_permutation_test(a, a + 0.1) < 0.001


def test_p_is_uniform_where_nothing_differs():
    rng = np.random.default_rng(5)
    found = [paired_permutation_test(rng.normal(size=20), rng.normal(size=20), resamples=300) for _ in range(200)]
    assert 0.4 < np.mean(found) < 0.6
    assert np.mean(np.array(found) < 0.1) < 0.18


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 * .01, 1 * .04 raised to 2 * .03
    assert holm([0.5, 0.9]) == [1, 1]  # never above 1
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
    assert holm([0.01, 0.01]) == pytest.approx([0.02, 0.02])


def test_holm_properties():
    p = np.random.default_rng(6).random(8)
    corrected = np.array(holm(p.tolist()))
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, 8 * p) + 1e-12).all()  # never stricter than Bonferroni
    assert (np.diff(corrected[p.argsort()]) >= 0).all()
    assert holm(p[::-1].tolist()) == pytest.approx(corrected[::-1])
