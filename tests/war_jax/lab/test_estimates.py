"""Estimates over seeds. Oracles: coverage on made-up studies whose truth is known, SciPy's t test,
the exact null distribution of Page's statistic by enumeration, and Holm's rule worked by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from war_jax.lab.estimates import change, complete, holm, over_seeds, paired, pooled, power, trend


@pytest.mark.parametrize(('num_widths', 'num_seeds'), [(3, 3), (5, 3), (6, 5)])
def test_intervals_of_slopes_cover_the_true_one(num_widths: int, num_seeds: int):
    """Seeds differ in level and in slope; the true mean slope lies in 95 % of the intervals."""
    rng = np.random.default_rng([7, num_widths, num_seeds])
    covered = 0
    for _ in range(2000):
        levels = rng.normal(0.0, 1.0, num_seeds)
        slopes = rng.normal(0.3, 0.2, num_seeds)
        samples = {
            2.0**step: {
                seed: 2 ** (levels[seed] + slopes[seed] * step + rng.normal(0.0, 0.1))
                for seed in range(num_seeds)
            }
            for step in range(num_widths)
        }
        found = power(samples)
        assert found is not None
        covered += found.low <= 0.3 <= found.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_estimate_agrees_with_a_t_test():
    ours, theirs = [71.0, 74.5, 73.0, 70.0], [70.0, 72.0, 73.5, 69.0]
    found = paired(dict(enumerate(ours)), dict(enumerate(theirs)))
    oracle = stats.ttest_rel(ours, theirs)
    low, high = oracle.confidence_interval()  # pyright: ignore[reportAttributeAccessIssue]
    assert found is not None
    assert found.p_value(0.0) == pytest.approx(oracle.pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    assert found.interval == pytest.approx((low, high))
    # The interval's own end is just on the level.
    assert found.p_value(found.low) == pytest.approx(0.05)


def test_one_seed_has_no_interval_and_equal_values_no_spread():
    single = over_seeds([2.0])
    assert single is not None and single.interval == (-math.inf, math.inf)
    assert single.p_value(0.0) == 1.0
    level = over_seeds([2.0, 2.0, 2.0])
    assert level is not None and level.interval == (2.0, 2.0)
    assert (level.p_value(0.0), level.p_value(2.0)) == (0.0, 1.0)
    assert over_seeds([]) is None


def test_only_whole_seeds_count_and_nothing_that_diverged():
    samples = {1.0: {0: 1.0, 1: 2.0, 2: 5.0}, 2.0: {0: 2.0, 1: 4.0}}
    assert complete(samples) == {0: [1.0, 2.0], 1: [2.0, 4.0]}
    found = power(samples)
    assert found is not None and found.value == pytest.approx(1.0) and found.num_seeds == 2
    assert power({1.0: {0: 1.0}, 2.0: {0: 0.0}}) is None
    assert power({1.0: {0: 1.0}, 2.0: {0: math.inf}}) is None
    assert power({1.0: {0: 1.0}}) is None
    rates = change({1.0: {0: 0.5}, 4.0: {0: 0.6}}, 100.0)
    assert rates is not None and rates.value == pytest.approx(5.0)  # points per doubling


def test_the_mean_over_places_is_of_the_seeds_that_all_have():
    """Seed 0: (1 + 3) / 2, seed 1: (2 + 6) / 2; seed 2 is missing at one of two places."""
    places = [{0: 1.0, 1: 2.0, 2: 9.0}, {}, {1: 6.0, 0: 3.0}]
    assert pooled(places) == over_seeds([2.0, 4.0])
    assert pooled([{}, {}]) is None and pooled([{0: 1.0}, {1: 1.0}]) is None


def test_trend_against_all_orders_of_the_ranks():
    """Page's one-sided p: the share of all arrangements with a statistic as large, by counting."""
    values = [[1.0, 3.0, 2.0], [0.1, 0.2, 0.3], [5.0, 4.0, 6.0]]
    samples = {
        float(x): {seed: values[seed][x] for seed in range(3)} for x in range(3)
    }
    statistic = sum((x + 1) * stats.rankdata(row)[x] for row in values for x in range(3))
    orders = list(itertools.permutations((1, 2, 3)))
    sums = [
        sum((x + 1) * row[x] for row in rows for x in range(3))
        for rows in itertools.product(orders, repeat=3)
    ]
    found = trend(samples)
    assert found is not None
    assert found.p_rises == pytest.approx(np.mean([total >= statistic for total in sums]))
    assert found.p_falls == pytest.approx(np.mean([total <= statistic for total in sums]))
    assert found.correlation == pytest.approx((0.5 + 1.0 + 0.5) / 3)


def test_trend_of_nothing():
    assert trend({1.0: {0: 1.0}, 2.0: {0: 2.0}}) is None
    level = trend({x: {0: 1.0, 1: 1.0, 2: 1.0} for x in (1.0, 2.0, 3.0)})
    assert level is not None and (level.correlation, level.p_rises, level.p_falls) == (0, 1, 1)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
