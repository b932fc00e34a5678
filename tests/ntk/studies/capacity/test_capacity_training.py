"""Search and training. Oracles: planted thresholds; closed forms; points that a line separates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntk.studies.adversary import Strong
from ntk.studies.capacity.training import Trials, network, smallest_width, start
from ntk.studies.sphere import pairs


@pytest.mark.parametrize('threshold', [1, 2, 3, 7, 13, 100, 128])
def test_bisection_finds_a_planted_threshold(threshold: int):
    found, tried = smallest_width(lambda width: width >= threshold, 128, 1.0)
    assert found == threshold
    assert len(tried) <= 15 and len({width for width, _ in tried}) == len(tried)
    assert all(outcome == (width >= threshold) for width, outcome in tried)


def test_bisection_stops_within_the_ratio_and_at_the_widest():
    found, tried = smallest_width(lambda width: width >= 100, 1024, 1.15)
    assert found is not None and 100 <= found <= 115
    assert found <= 1.15 * max(width for width, success in tried if not success) + 1
    assert smallest_width(lambda width: width >= 100, 99, 1.0)[0] is None


def test_the_network_in_numpy_and_units_beyond_the_width():
    mask = jnp.asarray([1.0, 1.0, 0.0, 0.0])
    inner, outer = start(jax.random.key(0), mask, 5)
    assert not np.asarray(inner[2:]).any() and not np.asarray(outer[2:]).any()
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    expected = np.maximum(0, x @ np.asarray(inner[:2]).T) @ np.asarray(outer[:2])
    np.testing.assert_allclose(network((inner, outer), jnp.asarray(x)), expected, atol=1e-6)


@pytest.fixture(scope='module')
def trials() -> Trials:
    return Trials(300, 2, 0.05, 2, Strong(5, 1))


def test_width_that_is_too_small_by_counting_and_one_that_is_enough(trials: Trials):
    """One unit is monotone along its only direction: it cannot fit three pairs in general."""
    points, labels = pairs(np.random.default_rng(0), 3, 4, 0.2)
    x, y = jnp.asarray(points, jnp.float32), jnp.asarray(labels, jnp.float32)
    assert trials(x, y, 1, 0.0, 0) < 1.0
    assert trials(x, y, 16, 0.0, 0) == 1.0
    assert trials(x, y, 16, 0.08, 0) == 1.0
    assert trials(x, y, 16, 0.08, 0) == trials(x, y, 16, 0.08, 0)


def test_caps_that_overlap_cannot_be_fitted(trials: Trials):
    """With a radius of more than half the gap some point lies in the caps of both labels."""
    points, labels = pairs(np.random.default_rng(0), 3, 4, 0.2)
    x, y = jnp.asarray(points, jnp.float32), jnp.asarray(labels, jnp.float32)
    assert trials(x, y, 16, 0.25, 0) < 1.0
