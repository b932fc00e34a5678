"""Intervals against closed forms, published tables and their own coverage; fits against NumPy's."""

import math

import numpy as np
import pytest
from scipy import special, stats

from war_jax.measures.statistics import (
    binomial_interval,
    geometric_interval,
    mean_interval,
    slope,
)


def wilson(successes: int, total: int, confidence: float) -> tuple[float, float]:
    """The closed form, in float64: centre and half width of the score interval."""
    z = float(special.ndtri(0.5 + confidence / 2.0))
    rate = successes / total
    shrink = 1.0 + z * z / total
    centre = (rate + z * z / (2.0 * total)) / shrink
    half = z / shrink * math.sqrt(rate * (1.0 - rate) / total + z * z / (4.0 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


@pytest.mark.parametrize('confidence', [0.8, 0.95, 0.99])
@pytest.mark.parametrize(
    ('successes', 'total'), [(0, 1), (1, 1), (0, 10), (7, 10), (351, 360), (5661, 10000)]
)
def test_equals_the_closed_form(successes: int, total: int, confidence: float) -> None:
    actual = binomial_interval(successes, total, confidence=confidence)
    np.testing.assert_allclose(actual, wilson(successes, total, confidence), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ('successes', 'total', 'expected'),
    [  # Newcombe, Statistics in Medicine 17 (1998), Table I, method 3 (score without correction)
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0000, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_default_of_95_percent_equals_a_published_table(
    successes: int, total: int, expected: tuple[float, float]
) -> None:
    np.testing.assert_allclose(binomial_interval(successes, total), expected, rtol=0, atol=5e-5)


def test_failures_mirror_successes() -> None:
    lower, upper = binomial_interval(3, 40)
    np.testing.assert_allclose(binomial_interval(37, 40), (1 - upper, 1 - lower), atol=1e-15)


def test_contains_the_true_rate_about_as_often_as_promised() -> None:
    """Oracle: the exact coverage, summed over the binomial distribution of the count."""
    total, rate = 200, 0.9
    counts = np.arange(total + 1)
    intervals = np.array([binomial_interval(int(count), total) for count in counts])
    covered = (intervals[:, 0] <= rate) & (rate <= intervals[:, 1])
    coverage = float(stats.binom.pmf(counts, total, rate)[covered].sum())
    assert 0.93 <= coverage <= 0.97


def test_numpy_integers_count() -> None:
    assert binomial_interval(np.int64(3), np.int32(4)) == binomial_interval(3, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize(('successes', 'total'), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_named(successes: int, total: int) -> None:
    with pytest.raises(ValueError, match=f'{successes} successes of {total}'):
        binomial_interval(successes, total)


def test_a_rate_in_place_of_a_count_is_refused() -> None:
    with pytest.raises(TypeError):
        binomial_interval(0.97, 100)  # type: ignore[arg-type]


@pytest.mark.parametrize('confidence', [0.0, 1.0, 95.0])
def test_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(ValueError, match=f'confidence = {confidence}'):
        binomial_interval(1, 2, confidence=confidence)


@pytest.mark.parametrize(
    ('values', 'quantile'),
    [  # two-sided 95 % quantiles of Student's t for 1, 2 and 4 degrees of freedom, from tables
        ([0.70, 0.74], 12.7062047364),
        ([0.71, 0.74, 0.73], 4.3026527297),
        ([5.0, 7.0, 6.5, 9.0, 3.0], 2.7764451052),
    ],
)
def test_mean_interval_is_students(values: list[float], quantile: float) -> None:
    """Oracle: mean +- t s / sqrt(n) with s from squared differences, and a printed table of t."""
    n = len(values)
    mean = sum(values) / n
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = quantile * spread / math.sqrt(n)
    expected = (mean, mean - half, mean + half)
    np.testing.assert_allclose(mean_interval(values), expected, rtol=1e-9)


def test_mean_interval_covers_the_mean_about_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    for confidence in (0.8, 0.95):
        draws = rng.normal(1.0, 2.0, (2000, 3)).tolist()
        intervals = [mean_interval(draw, confidence=confidence) for draw in draws]
        covered = np.mean([lower <= 1.0 <= upper for _, lower, upper in intervals])
        assert abs(covered - confidence) < 4 * math.sqrt(confidence * (1 - confidence) / 2000)


def test_one_value_says_nothing_about_the_spread() -> None:
    assert mean_interval([0.7]) == (0.7, -math.inf, math.inf)
    assert geometric_interval([3.0]) == (3.0, 0.0, math.inf)


def test_equal_values_have_no_spread_at_all() -> None:
    assert mean_interval([0.1, 0.1, 0.1]) == (0.1, 0.1, 0.1)
    assert geometric_interval([3.0, 3.0, 3.0]) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize('values', [[], [0.5, math.nan], [math.inf]])
def test_a_mean_of_nothing_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match='at least one value'):
        mean_interval(values)
    with pytest.raises(ValueError, match='confidence = 95'):
        mean_interval([1.0], confidence=95.0)


def test_geometric_interval_is_symmetric_in_factors() -> None:
    """Oracle: logarithms to base 2 of 2, 8, 4 are 1, 3, 2: mean 2, s = 1."""
    half = 4.3026527297 / math.sqrt(3)
    expected = (4.0, 2 ** (2 - half), 2 ** (2 + half))
    np.testing.assert_allclose(geometric_interval([2.0, 8.0, 4.0]), expected, rtol=1e-9)
    with pytest.raises(ValueError, match='positive'):
        geometric_interval([1.0, 0.0])


def test_slope_is_that_of_numpys_fit() -> None:
    rng = np.random.default_rng(1)
    for size in (2, 3, 7):
        x, y = rng.normal(size=(2, size)).tolist()
        np.testing.assert_allclose(slope(x, y), np.polyfit(x, y, 1)[0], rtol=1e-10)
    assert slope([-3.0, -1.0, 0.0], [0.7, 0.7, 0.7]) == 0.0  # not even by rounding
    for x, y in (([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError, match='two different x'):
            slope(x, y)
