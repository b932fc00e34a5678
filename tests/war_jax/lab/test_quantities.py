"""Means over seeds and envelopes. Oracles: numbers written out by hand."""

import math

import pytest

from war_jax.lab.quantities import centre, envelope, quantity

T2 = 4.3026527297  # two-sided 95 % quantile of Student's t with two degrees of freedom


def test_the_interval_of_a_rate_ends_at_0_and_1():
    rate, cosine = quantity('robust_accuracy'), quantity('kernel_alignment')
    half = T2 / math.sqrt(3)  # of 0, 1, 2 in units of their spread
    expected = 0.5, 0.5 - 0.1 * half, 0.5 + 0.1 * half
    assert centre([0.4, 0.5, 0.6], rate) == pytest.approx(expected)
    assert centre([0.0, 0.5, 1.0], rate) == (0.5, 0.0, 1.0)
    assert centre([0.0, 0.5, 1.0], cosine) == pytest.approx((0.5, 0.5 - half / 2, 0.5 + half / 2))


def test_one_value_has_no_interval_even_if_it_is_a_rate():
    assert centre([0.5], quantity('robust_accuracy')) == (0.5, -math.inf, math.inf)
    assert centre([2.0], quantity('risk_ratio')) == (2.0, 0.0, math.inf)


def test_what_differs_by_factors_is_averaged_in_logarithms():
    found = centre([2.0, 4.0, 8.0, 0.0], quantity('local_lipschitz_test'))
    factor = 2 ** (T2 / math.sqrt(3))
    assert found == pytest.approx((4.0, 4.0 / factor, 4.0 * factor))
    assert centre([0.0], quantity('risk_ratio')) is None


def test_envelope_takes_the_epochs_of_all_runs_and_keeps_gaps():
    runs = [
        [{'epoch': 1.0, 'x': 0.2}, {'epoch': 2.0, 'x': None}, {'epoch': 3.0, 'x': 0.4}],
        [{'epoch': 1.0, 'x': 0.4}, {'epoch': 2.0, 'x': 0.5}],
    ]
    band = envelope(runs, 'x')
    assert band.x == [1.0, 2.0]
    assert band.mean[0] == pytest.approx(0.3) and math.isnan(band.mean[1])
    assert (band.lower[0], band.upper[0]) == (0.2, 0.4)
