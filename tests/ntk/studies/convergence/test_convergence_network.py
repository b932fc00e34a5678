"""Networks and the ball B(R). Oracles: NumPy, closed forms, finite differences, infinite width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntk.infinite import fully_connected
from ntk.studies.convergence.network import (
    Design,
    at_start,
    draw,
    features,
    linear_output,
    output,
    project,
)
from ntk.studies.sphere import random_points

SOFTPLUS, RELU = (Design('two_layer', name, 1) for name in ('softplus', 'relu'))
DEEP = Design('deep', 'relu', 2)


def inputs(n: int = 6, d: int = 5) -> jnp.ndarray:
    return jnp.asarray(random_points(np.random.default_rng(0), n, d)[0], jnp.float32)


def moved(start, size: float):
    keys = iter(jax.random.split(jax.random.key(9), 8))
    return tuple(size * jax.random.normal(next(keys), u.shape) for u in at_start(start))


@pytest.mark.parametrize('design', [SOFTPLUS, RELU, DEEP])
@pytest.mark.parametrize('width', [6, 34])
def test_the_antisymmetric_start_is_zero_exactly(design: Design, width: int):
    start = draw(jax.random.key(1), design, width, 5)
    assert not np.asarray(output(design, start, at_start(start), inputs())).any()


def test_two_layers_in_numpy():
    start = draw(jax.random.key(1), SOFTPLUS, 8, 5)
    (u,) = movement = moved(start, 0.5)
    (w,), a = start.trained, np.asarray(start.last, float)
    x = np.asarray(inputs(), float)
    assert set(np.abs(a)) == {1.0}
    halves = [np.log1p(np.exp(x @ np.asarray(w + u[i], float).T)) @ a for i in (0, 1)]
    expected = (halves[0] - halves[1]) / np.sqrt(8)  # m = 8
    np.testing.assert_allclose(output(SOFTPLUS, start, movement, inputs()), expected, atol=1e-5)


def test_deep_in_numpy():
    start = draw(jax.random.key(1), DEEP, 8, 5)
    movement = moved(start, 0.5)
    x = np.asarray(inputs(), float) @ np.asarray(start.first, float).T
    halves = []
    for i in (0, 1):
        h = x
        for w, u in zip(start.trained, movement, strict=True):
            h = np.maximum(0, h @ (np.asarray(w, float) + np.asarray(u[i], float) / np.sqrt(8)).T)
        halves.append(h @ np.asarray(start.last, float))
    expected = (halves[0] - halves[1]) / np.sqrt(2)
    np.testing.assert_allclose(output(DEEP, start, movement, inputs()), expected, atol=1e-5)


@pytest.mark.parametrize('design', [SOFTPLUS, DEEP])
def test_the_linearisation_is_the_derivative_and_the_product_with_the_features(design: Design):
    start = draw(jax.random.key(1), design, 12, 5)
    movement, x = moved(start, 1.0), inputs()
    linear = np.asarray(linear_output(design, start, movement, x))
    small = tuple(1e-3 * u for u in movement)
    np.testing.assert_allclose(output(design, start, small, x) / 1e-3, linear, rtol=0.03, atol=0.01)
    products = sum(
        np.asarray(phi).reshape(len(x), -1) @ np.asarray(u).ravel()
        for phi, u in zip(features(design, start, x), movement, strict=True)
    )
    np.testing.assert_allclose(products, linear, atol=1e-5)


def test_features_have_the_tangent_kernel_of_infinite_width():
    """Of the first layer alone; our w . x has no factor, theirs the root of 5 / 5."""
    start = draw(jax.random.key(2), RELU, 20_000, 5)
    x = inputs()
    phi = np.asarray(features(RELU, start, x)[0]).reshape(len(x), -1)
    kernel = fully_connected(2, 'relu', weight_variance=5.0, layer_rates=(1.0, 0.0))
    # theirs: gain^2 x.x'/d E[s' s'] with gain^2 = 5 = d
    np.testing.assert_allclose(phi @ phi.T, np.asarray(kernel(x, None, 'ntk')), atol=0.02)


def test_projection_is_the_nearest_point_and_idempotent():
    """The nearest point of a ball to v outside is R v / ||v||, layer by layer."""
    start = draw(jax.random.key(1), DEEP, 8, 5)
    movement = moved(start, 1.0)
    inside = (movement[0] * 0.01, movement[1])
    once = project(inside, 1.5)
    np.testing.assert_allclose(once[0], inside[0], rtol=1e-6)
    v = np.asarray(inside[1])
    np.testing.assert_allclose(once[1], 1.5 * v / np.linalg.norm(v), rtol=1e-5)
    np.testing.assert_allclose(project(once, 1.5)[1], once[1], rtol=1e-6)
    assert all(
        np.array_equal(a, b) for a, b in zip(project(movement, np.inf), movement, strict=True)
    )
    zeros = project(at_start(start), 1.0)
    assert not any(np.asarray(u).any() for u in zeros)
