"""binomial_interval against Wilson's closed form, a published table and its own coverage."""

import math

import numpy as np
import pytest
from scipy import special, stats

from war_jax.measures.statistics import binomial_interval


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
