"""Oracles: float64 NumPy, SciPy's constrained minimiser, dual norms, the uniform law of a ball."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from war_jax.attacks.threat import Norm, ThreatModel
from war_jax.config_rules import ConfigError

NORMS: list[Norm] = ['linf', 'l2']
EPSILON = 0.3
SHAPE = (3, 2, 2)  # of one image


def images(seed: int, count: int = 16) -> np.ndarray:
    """In [0, 1], some of them with pixels exactly on the edges of the box."""
    x = np.random.default_rng(seed).uniform(-0.3, 1.3, (count, *SHAPE))
    return np.clip(x, 0, 1).astype(np.float32)


def perturbed(x: np.ndarray, seed: int) -> np.ndarray:
    """From well inside of the ball to far outside of it."""
    rng = np.random.default_rng(seed)
    scale = np.geomspace(0.01, 2, len(x)).reshape(-1, 1, 1, 1)
    return (x + scale * rng.normal(size=x.shape)).astype(np.float32)


def length(delta: np.ndarray | jax.Array, norm: Norm) -> np.ndarray:
    """(b, ...) -> (b,)"""
    flat = np.asarray(delta, np.float64).reshape(len(delta), -1)
    return np.abs(flat).max(1) if norm == 'linf' else np.sqrt((flat**2).sum(1))


def test_linf_projection_is_the_nearest_point_of_ball_and_box():
    """Oracle: in a box, here the intersection of two, coordinates are clipped one by one."""
    x = images(0)
    x_adv = perturbed(x, 1)
    low, high = np.maximum(0, x - EPSILON), np.minimum(1, x + EPSILON)
    nearest = np.clip(x_adv, low, high)
    actual = ThreatModel('linf', EPSILON).project(jnp.asarray(x_adv), jnp.asarray(x))
    np.testing.assert_allclose(actual, nearest, rtol=0, atol=1e-7)


def test_l2_projection_is_the_nearest_point_of_the_ball():
    """Oracle: SLSQP; the box is inactive around grey images."""
    x = np.random.default_rng(0).uniform(0.45, 0.55, (4, 2, 2, 1))
    directions = np.random.default_rng(1).normal(size=x.shape)
    x_adv = x + np.array([0.05, 0.2, 0.5, 2.0]).reshape(-1, 1, 1, 1) * directions
    with jax.enable_x64(True):
        actual = ThreatModel('l2', EPSILON).project(jnp.asarray(x_adv), jnp.asarray(x))
    flat = (np.asarray(array).reshape(4, -1) for array in (x, x_adv, actual))
    for center, outside, projected in zip(*flat, strict=True):

        def distance(z, outside=outside):
            return np.sum((z - outside) ** 2), 2 * (z - outside)

        ball = {
            'type': 'ineq',
            'fun': lambda z, center=center: EPSILON**2 - np.sum((z - center) ** 2),
            'jac': lambda z, center=center: -2 * (z - center),
        }
        found = optimize.minimize(
            distance, center, jac=True, method='SLSQP', constraints=ball, tol=1e-10
        )
        assert found.success
        np.testing.assert_allclose(projected, found.x, rtol=0, atol=1e-5)


def test_l2_projection_with_the_box():
    """Oracle: NumPy, example by example."""
    x = images(0)
    x_adv = perturbed(x, 1)
    actual = ThreatModel('l2', EPSILON).project(jnp.asarray(x_adv), jnp.asarray(x))
    for center, outside, projected in zip(x, x_adv, actual, strict=True):
        delta = np.float64(outside) - center
        factor = min(1, EPSILON / np.linalg.norm(delta.ravel()))
        np.testing.assert_allclose(projected, np.clip(center + factor * delta, 0, 1), atol=1e-6)


@pytest.mark.parametrize('norm', NORMS)
def test_projection_lies_in_ball_and_box_and_stays_there(norm):
    x = jnp.asarray(images(2, 64))
    threat = ThreatModel(norm, EPSILON)
    projected = threat.project(jnp.asarray(perturbed(np.asarray(x), 3)), x)
    assert length(projected - x, norm).max() <= EPSILON * (1 + 1e-6)
    assert length(projected - x, norm).max() > 0.9 * EPSILON  # it is no smaller ball either
    assert projected.min() == 0 and projected.max() == 1
    np.testing.assert_allclose(threat.project(projected, x), projected, rtol=0, atol=1e-7)


@pytest.mark.parametrize('norm', NORMS)
def test_points_inside_are_left_alone(norm):
    x = images(4)
    inside = np.clip(x + 0.9 * EPSILON / np.sqrt(np.prod(SHAPE)), 0, 1)
    actual = ThreatModel(norm, EPSILON).project(jnp.asarray(inside), jnp.asarray(x))
    np.testing.assert_allclose(actual, inside, rtol=0, atol=1e-7)


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('epsilon', [0.0, EPSILON])
def test_no_perturbation_stays_none(norm, epsilon):
    """Also where a norm of 0 divides."""
    x = jnp.asarray(images(5))
    np.testing.assert_array_equal(ThreatModel(norm, epsilon).project(x, x), x)


@pytest.mark.parametrize('norm', NORMS)
def test_ball_of_radius_zero_holds_the_image_alone(norm):
    x = images(6)
    projected = ThreatModel(norm, 0.0).project(jnp.asarray(perturbed(x, 7)), jnp.asarray(x))
    np.testing.assert_array_equal(projected, x)


@pytest.mark.parametrize('norm', NORMS)
def test_radius_may_be_a_traced_array(norm):
    """As for the curve of stability against epsilon, which compiles once. Oracle: the radius."""
    x = jnp.full((2, *SHAPE), 0.5)
    far = x.at[:, 0, 0, 0].add(5.0)
    project = jax.jit(lambda epsilon: ThreatModel(norm, epsilon).project(far, x))
    for epsilon in (0.125, 0.25):
        moved = np.asarray(project(epsilon) - x)
        np.testing.assert_allclose(length(moved, norm), epsilon, rtol=1e-6)


@pytest.mark.parametrize('norm, dual', [('linf', 1), ('l2', 2)])
def test_ascend_is_a_unit_step_that_attains_the_dual_norm(norm, dual):
    """Oracle: Hölder, max over ||d|| <= 1 of <g, d> is ||g|| in the dual norm; at any scale."""
    scale = np.array([1e-8, 1e-3, 1.0, 1e6], np.float32).reshape(-1, 1, 1, 1)
    grad = scale * np.random.default_rng(8).normal(size=(4, *SHAPE)).astype(np.float32)
    step = np.asarray(ThreatModel(norm, EPSILON).ascend(jnp.asarray(grad)))
    np.testing.assert_allclose(length(step, norm), 1, rtol=1e-6)
    gain = (np.float64(grad) * step).sum((1, 2, 3))
    desired = np.linalg.norm(np.float64(grad).reshape(4, -1), dual, axis=1)
    np.testing.assert_allclose(gain, desired, rtol=1e-6)


@pytest.mark.parametrize('norm', NORMS)
def test_ascend_stands_still_where_the_gradient_vanishes(norm):
    """TRADES' loss starts so at x. Its neighbour in the batch moves nevertheless."""
    grad = jnp.zeros((2, *SHAPE)).at[1].set(1.0)
    step = np.asarray(ThreatModel(norm, EPSILON).ascend(grad))
    np.testing.assert_array_equal(step[0], 0)
    np.testing.assert_allclose(length(step, norm)[1], 1, rtol=1e-6)


@functools.cache
def draws(norm: Norm) -> np.ndarray:
    """(4000, dimension) of the unit ball."""
    keys = jax.random.split(jax.random.key(0), 4000)
    threat = ThreatModel(norm, EPSILON)
    sampled = jax.vmap(lambda key: threat.sample(key, SHAPE, jnp.dtype('float32')))(keys)
    assert sampled.dtype == jnp.float32 and sampled.shape == (4000, *SHAPE)
    return np.asarray(sampled, np.float64).reshape(4000, -1) / EPSILON


@pytest.mark.parametrize('norm', NORMS)
def test_sample_has_the_radii_of_a_uniform_draw(norm):
    """Oracle: the share of the ball within radius r is r^d, so (length / epsilon)^d is uniform."""
    delta = draws(norm)
    assert stats.kstest(length(delta, norm) ** delta.shape[1], 'uniform').pvalue > 0.01


def test_linf_sample_has_uniform_pixels():
    for pixel in draws('linf').T:
        assert stats.kstest(pixel, stats.uniform(-1, 2).cdf).pvalue > 0.001


def test_l2_sample_has_no_preferred_direction():
    """Oracle: a coordinate u of a uniform unit vector has (u + 1) / 2 ~ Beta((d-1)/2, (d-1)/2)."""
    delta = draws('l2')
    half = (delta.shape[1] - 1) / 2
    for coordinate in (delta / length(delta, 'l2')[:, None]).T:
        assert stats.kstest((coordinate + 1) / 2, stats.beta(half, half).cdf).pvalue > 0.001


@pytest.mark.parametrize(
    ('given', 'stored'),
    [
        *((name, 'linf') for name in ('linf', 'Linf', 'LINF', 'LInf', 'inf')),
        *((name, 'linf') for name in ('Inf', np.inf, float('inf'), jnp.inf)),
        *((name, 'l2') for name in ('l2', 'L2', '2', 2, 2.0, np.int64(2))),
    ],
)
def test_norms_by_other_names(given, stored):
    """Foreign spellings run the norm that they mean, and are stored as ours."""
    assert ThreatModel(given, EPSILON) == ThreatModel(stored, EPSILON)
    assert ThreatModel(given, EPSILON).norm == stored


@pytest.mark.parametrize(
    ('norm', 'nearest'),
    [('banana', 'l'), ('l1', 'l2'), (1, 'l'), ('', 'l'), (None, 'linf'), ('-inf', 'linf')],
)
def test_any_other_norm_is_refused(norm, nearest):
    rule = f"^norm = {norm!r}: must be one of 'linf', 'l2'; nearest: '{nearest}"
    with pytest.raises(ConfigError, match=rule):
        ThreatModel(norm, EPSILON)


@pytest.mark.parametrize(
    ('norm', 'epsilon', 'message'),
    [
        ('linf', -0.1, 'epsilon = -0.1: must be at least 0 and finite'),
        ('l2', -0.1, 'epsilon = -0.1: must be at least 0 and finite'),
        ('linf', math.nan, 'epsilon = nan: must be at least 0 and finite'),
        ('l2', math.inf, 'epsilon = inf: must be at least 0 and finite'),
        ('l2', jnp.float32('nan'), 'epsilon = nan: must be at least 0 and finite'),
        ('linf', 8, 'epsilon = 8.0: must be at most 1 in L-infinity.*nearest: 8/255'),
        ('Linf', np.float32(4), 'epsilon = 4.0: must be at most 1.*nearest: 4/255'),
        ('linf', 1000, 'epsilon = 1000.0: must be at most 1.*nearest: 1$'),
        ('linf', '8/255', "epsilon = '8/255': must be one number, as 8 / 255"),
    ],
)
def test_radii_that_cannot_be_are_refused(norm, epsilon, message):
    with pytest.raises(ConfigError, match=f'^{message}'):
        ThreatModel(norm, epsilon)
    changed = ThreatModel(norm, 0.5)
    with pytest.raises(ConfigError, match=f'^{message}'):
        dataclasses.replace(changed, epsilon=epsilon)


def test_an_l2_ball_may_be_larger_than_the_box():
    assert ThreatModel('l2', 3.0).epsilon == 3.0
