"""The saturating power law. Oracles: made-up errors whose law is known, without and with noise, the
coverage of the intervals, and doublings worked out by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from war_jax.studies.scaling.law import Law, Point, can_fit, estimates, fit

WIDTHS, IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0), (64.0, 128.0, 256.0, 512.0)


def law_of(x: tuple[float, ...]) -> float:
    width, images = x
    return 0.2 + 0.3 * width**-0.7 + 0.25 * (images / 64) ** -0.4


def points_of(noise: float, seeds: int, rng: np.random.Generator) -> list[Point]:
    """Seeds differ in the level of all their errors, and cell by cell."""
    levels = rng.normal(0.0, noise, seeds)
    return [
        Point(x, {s: law_of(x) + levels[s] + rng.normal(0.0, noise) for s in range(seeds)})
        for x in ((width, images) for width in WIDTHS for images in IMAGES)
    ]


def test_known_exponents_are_found():
    law = fit(points_of(0.0, 1, np.random.default_rng(0)))
    assert law.floor == pytest.approx(0.2, abs=1e-3)
    assert law.scales == pytest.approx((0.3, 0.25), abs=2e-3)
    assert law.exponents == pytest.approx((0.7, 0.4), abs=5e-3)
    assert law((32.0, 1024.0)) == pytest.approx(law_of((32.0, 1024.0)), abs=1e-3)


def test_one_size_and_an_error_that_does_not_change():
    power = fit([Point((x,), {0: 0.1 + 0.5 * x**-1.2}) for x in WIDTHS])
    assert (power.floor, *power.exponents) == pytest.approx((0.1, 1.2), abs=1e-3)
    flat = fit([Point((x,), {0: 0.3}) for x in WIDTHS])
    assert flat((1e6,)) + sum(flat.terms((1e6,))) == pytest.approx(0.3, abs=1e-6)
    assert flat.ends_at(0, 0.01) == 0.0


def test_intervals_cover():
    """Of the prediction beyond the grid and of the exponent that the grid pins down."""
    rng, draws, beyond = np.random.default_rng(5), 100, (32.0, 512.0)
    covered = np.zeros(2)

    def numbers(points: Sequence[Point]) -> list[float]:
        law = fit(points)
        return [law(beyond), law.exponents[0]]

    for _ in range(draws):
        found = estimates(points_of(0.01, 5, rng), numbers)
        for which, truth in enumerate((law_of(beyond), 0.7)):
            estimate = found[which]
            assert estimate is not None
            covered[which] += estimate.low <= truth <= estimate.high
    assert (covered / draws >= 0.9).all(), covered / draws


def test_the_doubling_that_gains_no_more_than_a_point():
    law = Law(0.2, (0.4,), (1.0,), (1.0,))  # a doubling of x takes away 0.2 / x
    assert law.ends_at(0, 0.01) == pytest.approx(20.0)
    assert law((20.0,)) - law((40.0,)) == pytest.approx(0.01)
    slow = Law(0.2, (0.4,), (0.5,), (1.0,))  # a doubling takes away 0.4 (1 - 2^-0.5) / sqrt(x)
    end = slow.ends_at(0, 0.01)
    assert end == pytest.approx((40 * (1 - 2**-0.5)) ** 2)
    assert slow((end,)) - slow((2 * end,)) == pytest.approx(0.01)


def test_too_few_points_or_no_whole_seed():
    with pytest.raises(ValueError, match='3 points, too few'):
        fit([Point((x,), {0: 0.3}) for x in WIDTHS[:3]])
    # Of two widths no exponent follows, however many images there are.
    assert not can_fit([Point((k, n), {0: 0.3}) for k in WIDTHS[:2] for n in IMAGES])
    assert can_fit([Point((k, n), {0: 0.3}) for k in WIDTHS[:3] for n in IMAGES])
    with pytest.raises(ValueError, match='no seed'):
        estimates([Point((x,), {int(x): 0.3}) for x in WIDTHS], lambda some: [fit(some).floor])
    single = estimates([Point((x,), {3: 1 / x}) for x in WIDTHS], lambda some: [fit(some).floor])[0]
    assert single is not None and math.isinf(single.high)
