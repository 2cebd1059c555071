"""Intervals and tests: answers worked out by hand, and properties."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, ttest_1samp

from ptame_lib.metrics.statistics import (
    all_pairs_test,
    bootstrap_interval,
    holm,
    mean_interval,
    paired_permutation_test,
    resampled_means,
)


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
        low, high = bootstrap_interval(rng.random(40), resamples=300)
        covered += low <= 0.5 <= high
    assert 180 <= covered <= 199


def test_resampling_in_parts_gives_the_same_digits():
    values = np.random.default_rng(7).normal(3, 1, (501, 4))
    parts = [np.concatenate(list(resampled_means(values, resamples=60, seed=5, part=part))) for part in (None, 1, 7)]
    assert parts[0].shape == (60, 4)
    assert (parts[0] == parts[1]).all()
    assert (parts[0] == parts[2]).all()
    alone = np.concatenate(list(resampled_means(values[:, :1], resamples=60, seed=5)))
    assert (parts[0][:, :1] == alone).all()  # columns are resampled together


def peak(work):
    tracemalloc.start()
    work()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found / 2**20


def test_memory_does_not_grow_with_resamples_or_flips():
    """10 000 resamples of 20 000 values would be 1600 MB at once."""
    values = np.random.default_rng(8).normal(size=(20_000, 1))
    few, many = (peak(lambda r=r: list(resampled_means(values, resamples=r))) for r in (300, 600))
    assert many < 1.1 * few < 150
    pairs = np.random.default_rng(9).normal(size=(2000, 1, 2))
    few, many = (peak(lambda r=r: all_pairs_test(pairs, resamples=r)) for r in (3000, 6000))
    assert many < 1.1 * few < 150


def shares(interval, draw, mean, n, samples=300):
    """How often the intervals of the mean of n drawn values hold it."""
    low, high = interval(draw(np.random.default_rng(10), (n, samples)))
    assert (low[~np.isnan(low)] <= high[~np.isnan(low)]).all()
    return ((low <= mean) & (mean <= high)).mean()


def test_wilson_covers_a_rare_event_and_the_percentiles_do_not():
    def rare(rng, shape):
        return 100.0 * (rng.random(shape) < 0.012)

    assert shares(lambda v: bootstrap_interval(v, resamples=400), rare, 1.2, 25) < 0.4
    assert shares(lambda v: mean_interval(v, share=True), rare, 1.2, 25) > 0.93
    low, high = mean_interval(np.zeros(25), share=True)  # by hand: z^2 / (n + z^2)
    assert (low, high) == pytest.approx((0, 100 * 1.959964**2 / (25 + 1.959964**2)))
    with pytest.raises(ValueError, match="a share's values are 0 and 3, got others"):
        mean_interval([0, 1, 3.0], share=True)


def test_bca_covers_a_skewed_mean_more_often_than_the_percentiles():
    """Half of the values 0, the others with a long tail, like an average drop."""

    def drop(rng, shape):
        return np.where(rng.random(shape) < 0.5, 0, 100 * rng.beta(0.3, 2.5, shape))

    mean = 0.5 * 100 * 0.3 / 2.8
    percentiles = shares(lambda v: bootstrap_interval(v, resamples=400), drop, mean, 25, 200)
    assert percentiles < 0.88
    values = drop(np.random.default_rng(10), (25, 200))
    found = bootstrap((values,), np.mean, axis=0, n_resamples=600, rng=0).confidence_interval
    assert 0.85 < ((found.low <= mean) & (mean <= found.high)).mean() > percentiles
    full = values[:, (values > 0).sum(0).argmax()]
    assert mean_interval(full) == pytest.approx(tuple(bootstrap((full,), np.mean, rng=1).confidence_interval), abs=0.4)


def test_few_values_of_a_rare_size_have_no_interval():
    assert np.isnan(mean_interval(np.r_[np.zeros(30), np.arange(9.0) + 1])).all()
    assert np.isfinite(mean_interval(np.r_[np.zeros(30), np.arange(10.0) + 1])).all()
    many = np.r_[np.zeros(99), 1.0]
    assert mean_interval(many) == bootstrap_interval(many)  # of 100 values on


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="no pairs"):
        paired_permutation_test([], [])


def test_permutation_by_hand():
    """Four equal differences: of the 16 sign patterns two are as extreme, so p = 1/8."""
    assert paired_permutation_test([2, 3, 4, 5], [1, 2, 3, 4]) == pytest.approx(1 / 8)
    assert paired_permutation_test([1, 2, 4], [0, 0, 0]) == pytest.approx(2 / 8)
    assert paired_permutation_test([1, 2, -4], [0, 0, 0]) == 1  # no sum is smaller than 1
    assert paired_permutation_test([1.0], [0.0]) == 1  # both patterns of one pair are as extreme
    assert paired_permutation_test([1, 2, 3], [1, 2, 3]) == 1
    assert paired_permutation_test([1, 0], [0, 1]) == 1  # the differences cancel


def test_permutation_properties():
    rng = np.random.default_rng(3)
    a = rng.normal(size=60)
    b = a + rng.normal(0.0, 1.0, 60)
    shifted = a + 3 + rng.normal(0.0, 1.0, 60)
    assert 0 < paired_permutation_test(a, shifted) < 1e-6
    assert paired_permutation_test(a, b) == paired_permutation_test(b, a) == paired_permutation_test(a, b, seed=0)
    assert paired_permutation_test(5 * a, 5 * b) == paired_permutation_test(a, b)


def test_it_is_paired():
    """Large differences between images don't hide a small, constant one within them."""
    a = np.random.default_rng(4).normal(0, 100, 30)
    assert paired_permutation_test(a, a + 0.1) < 0.001


def test_p_is_uniform_where_nothing_differs():
    rng = np.random.default_rng(5)
    nothing, shape = {"resamples": 300, "most": 300}, (20, 200)
    found = paired_permutation_test(rng.normal(size=shape), rng.normal(size=shape), **nothing)
    assert 0.4 < np.mean(found) < 0.6
    assert np.mean(np.array(found) < 0.1) < 0.18


def test_the_ways_to_a_p_value_agree():
    """Exact, by flips and Student's t where they meet; differences of one size are the sign test."""
    rng = np.random.default_rng(11)
    sixteen = rng.normal(0.6, 1, 16)
    exact, nothing = paired_permutation_test(sixteen, np.zeros(16)), np.zeros(17)
    flipped = paired_permutation_test(np.r_[sixteen, 1e-9], nothing, most=200_000)  # one more: at random
    assert flipped == pytest.approx(exact, rel=0.1)
    ones = np.where(rng.random(400) < 0.6, 1.0, -1.0)
    assert paired_permutation_test(ones, 0 * ones) == pytest.approx(binomtest(int((ones > 0).sum()), 400).pvalue)
    thousand = rng.normal(0.09, 1, 1001)
    by_t = paired_permutation_test(thousand, 0 * thousand)
    assert by_t == pytest.approx(ttest_1samp(thousand, 0).pvalue)
    by_flips = paired_permutation_test(thousand[1:], np.zeros(1000), most=20_000)
    assert by_flips == pytest.approx(ttest_1samp(thousand[1:], 0).pvalue, rel=0.25)


def test_a_clear_difference_outlives_the_correction_for_thousands_of_tests():
    for n, shift in ((40, 1.5), (300, 0.6), (5000, 0.2)):
        difference = np.random.default_rng(12).normal(shift, 1, n)
        assert 5000 * paired_permutation_test(difference, np.zeros(n)) < 0.01


def test_pairs_without_a_difference_do_not_count():
    some = np.random.default_rng(13).normal(0.5, 1, 30)
    padded = np.r_[some, np.zeros(2000)]
    alone = paired_permutation_test(some, 0 * some)
    assert paired_permutation_test(padded, 0 * padded) == alone
    assert paired_permutation_test(np.stack([padded, padded], 1), np.zeros((2030, 2))).tolist() == [alone, alone]


def skewed(rng, shape):
    return np.where(rng.random(shape) < 0.5, 0, rng.beta(0.3, 2.5, shape))


@pytest.mark.parametrize("draw", [lambda rng, shape: rng.normal(size=shape), skewed], ids=["normal", "like a drop"])
def test_all_pairs_err_in_one_of_twenty_tables(draw):
    """20 methods of one mean on 100 images: the best is chosen from the same data."""
    rng, tables = np.random.default_rng(14), 300
    values = draw(rng, (100, tables, 20)) + rng.normal(size=(100, tables, 1))  # an image is hard for all methods
    p = all_pairs_test(values, resamples=500)
    allowed = 0.05 + 2 * np.sqrt(0.05 * 0.95 / tables)
    assert (p < 0.05).any((1, 2)).mean() < allowed
    # tests against the best of the same data, corrected for the others alone, err far more often
    wrong = 0
    for c in range(100):
        best = values[:, c].mean(0).argmax()
        others = np.delete(values[:, c], best, 1)
        wrong += min(holm(ttest_1samp(values[:, c, best][:, None] - others, 0).pvalue.tolist())) < 0.05
    assert wrong / 100 > allowed


def test_all_pairs_err_as_seldom_where_some_methods_differ():
    rng, tables = np.random.default_rng(15), 300
    values = rng.normal(size=(60, tables, 6)) + np.r_[3.0, 0, 0, 0, 0, 0]
    p = all_pairs_test(values, resamples=500)
    assert (p[:, 0, 1:] < 0.05).all()  # the better one is found
    assert (p[:, 1:, 1:] < 0.05).any((1, 2)).mean() < 0.05 + 2 * np.sqrt(0.05 * 0.95 / tables)


def test_all_pairs_properties():
    rng = np.random.default_rng(16)
    values = rng.normal(size=(40, 2, 4)) + np.arange(4) / 4
    p = all_pairs_test(values, resamples=2000)
    assert p.shape == (2, 4, 4)
    assert (p == p.transpose(0, 2, 1)).all()
    assert (p[:, range(4), range(4)] == 1).all()
    assert (all_pairs_test(5 * values + 1, resamples=2000) == p).all()
    alone = all_pairs_test(values[:, 1:], resamples=2000)
    assert (alone[0] == p[1]).all()  # columns do not change each other
    two = all_pairs_test(values[:, :1, :2], resamples=20_000)[0, 0, 1]
    assert two == pytest.approx(paired_permutation_test(values[:, 0, 0], values[:, 0, 1]), abs=0.01)
    missing = np.concatenate([values, np.full((3, 2, 4), np.nan)])
    assert all_pairs_test(missing, resamples=2000) == pytest.approx(p, abs=0.05)
    same = np.repeat(values[:, :, :1], 3, 2)
    assert (all_pairs_test(same, resamples=100) == 1).all()
    with pytest.raises(ValueError, match="no images to compare methods on"):
        all_pairs_test(np.empty((0, 1, 2)))


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
