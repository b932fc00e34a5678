"""Input gradients of infinite width after training. Oracles: a literal iteration of gradient
descent on float64 NumPy kernels, and finite differences of what comes out; neural-tangents' own
ensemble predictor; and finite networks, really trained."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntk.compat import predict, stax
from ntk.infinite import fully_connected
from ntk.infinite.predictions import trained_gradients
from tests.ntk.infinite.gradient_oracles import (
    DIMENSION,
    NUM_TRAIN,
    around,
    erf_oracle,
    extrapolated_trace,
    points,
    relu_oracle,
    serial,
)


def training_set(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(NUM_TRAIN, DIMENSION)), rng.normal(size=(NUM_TRAIN, 2))


def check_against(found, mean, covariance, x: np.ndarray, tolerance: float) -> None:
    """mean: (m, d) -> (m, k), covariance: (m, d) -> (m, m), of trained networks."""
    for i, point in enumerate(x):
        step = 1e-5
        plus, minus = np.split(mean(around(point, step)), 2)
        slopes = (plus - minus).T / (2 * step)
        np.testing.assert_allclose(found.mean[i], slopes, rtol=tolerance, atol=tolerance)
        variance = extrapolated_trace(covariance, point)
        np.testing.assert_allclose(found.variance[i], variance, rtol=10 * tolerance)
        squares = np.sum(slopes**2, 1) + variance
        np.testing.assert_allclose(found.mean_square[i], squares, rtol=10 * tolerance)


@pytest.mark.parametrize('num_steps', [0, 1, 7, 300, None])
@pytest.mark.parametrize(('activation', 'oracle'), [('relu', relu_oracle), ('erf', erf_oracle)])
def test_trained_gradients_against_gradient_descent(activation, oracle, num_steps):
    """The recursion f <- f - (eta / N) Theta (f - y) taken literally, from f_0 = 0 for the mean and
    from every unit vector of f_0(X) for the covariance."""
    reference = oracle(3, 1.7, 0.6)
    (x_train, y_train), x = training_set(), points(3, DIMENSION, seed=2)
    theta = reference(x_train, x_train)[1]
    rate = 1.2 * NUM_TRAIN / np.linalg.eigvalsh(theta)[-1]
    moved = np.zeros((NUM_TRAIN, NUM_TRAIN))  # sum over steps of (eta / N) (y - f), y unit vectors
    for _ in range(num_steps or 0):
        moved += rate / NUM_TRAIN * (np.eye(NUM_TRAIN) - theta @ moved)
    if num_steps is None:
        moved = np.linalg.inv(theta)

    def mean(z):
        return reference(z, x_train)[1] @ moved @ y_train

    def covariance(z):
        weights = reference(z, x_train)[1] @ moved
        across = weights @ reference(x_train, z)[0]
        square = weights @ reference(x_train, x_train)[0] @ weights.T
        return reference(z, z)[0] - across - across.T + square

    with jax.enable_x64(True):
        kernel = fully_connected(3, activation, 1.7, 0.6)
        found = trained_gradients(kernel, x_train, y_train, x, rate, num_steps)
    assert found.mean.shape == (3, 2, DIMENSION) and found.mean_square.shape == (3, 2)
    check_against(found, mean, covariance, x, 1e-5)


@pytest.mark.parametrize('activation', [stax.Relu, stax.Erf])
def test_trained_gradients_against_neural_tangents(activation):
    """Its predictor of an ensemble trained for ever, with a ridge, on its own layers."""
    (x_train, y_train), x = training_set(), points(3, DIMENSION, seed=2)
    kernel = serial(activation, 2, 2.0, 1.0)
    with jax.enable_x64(True):
        predictor = predict.gradient_descent_mse_ensemble(
            kernel, jnp.asarray(x_train), jnp.asarray(y_train), diag_reg=0.1
        )

        # In one program: its many small ones would compile for long.
        whole = jax.jit(lambda z: tuple(predictor(x_test=z, get='ntk', compute_cov=True)))

        def predicted(z):
            mean, covariance = whole(jnp.asarray(z))
            return np.asarray(mean), np.asarray(covariance)

        found = trained_gradients(kernel, x_train, y_train, x, 0.1, None, jitter=0.1)
        check_against(found, lambda z: predicted(z)[0], lambda z: predicted(z)[1], x, 1e-5)


def test_trained_gradients_in_blocks_and_of_images():
    """Neither the size of blocks nor the shape of inputs changes anything."""
    (x_train, y_train), x = training_set(), points(3, DIMENSION, seed=2)
    kernel = fully_connected(2)
    with jax.enable_x64(True):
        whole = trained_gradients(kernel, x_train, y_train, x, 0.5, 20)
        blocks = trained_gradients(
            kernel,
            x_train.reshape(-1, 2, 2, 1),
            y_train,
            x.reshape(-1, 2, 2, 1),
            0.5,
            20,
            batch_size=4,
        )
    assert blocks.mean.shape == (3, 2, 2, 2, 1)
    np.testing.assert_allclose(blocks.mean.reshape(whole.mean.shape), whole.mean, rtol=1e-9)
    np.testing.assert_allclose(blocks.variance, whole.variance, rtol=1e-9)
    np.testing.assert_allclose(blocks.mean_square, whole.mean_square, rtol=1e-9)


@pytest.mark.parametrize(
    ('activation', 'phi', 'excess'),
    [('relu', jax.nn.relu, 0.08), ('erf', jax.lax.erf, 0.03)],
)
def test_trained_gradients_against_trained_networks(activation, phi, excess):
    """Full-batch gradient descent on 8 networks of width 512, L = 3, d = 8, n = 16, four outputs.

    Tolerance: three standard errors over the networks, and the finite width. Of larger ensembles
    the RMS was beyond the prediction by 9.3 % at width 128 and 1.6 % at 512 for erf (as 1 / width),
    and by 11.6 % and 4.2 % for ReLU (as 1 / sqrt(width), the switching of units).
    """
    rng = np.random.default_rng(0)
    x_train, x = rng.normal(size=(16, 8)), rng.normal(size=(32, 8))
    y_train = rng.normal(size=(16, 4))
    kernel, width, num_steps, count = fully_connected(3, activation), 512, 100, 8
    rate = 16 / np.linalg.eigvalsh(np.asarray(kernel(x_train, None, 'ntk')))[-1]
    with jax.enable_x64(True):
        predicted = trained_gradients(kernel, x_train, y_train, x, rate, num_steps)

    inputs, targets = jnp.asarray(x_train, jnp.float32), jnp.asarray(y_train, jnp.float32)

    def network(weights, z):
        for matrix in weights[:-1]:
            z = phi(z @ matrix * math.sqrt(2 / len(matrix)))
        return z @ weights[-1] / math.sqrt(width)

    def loss(weights):
        return jnp.sum((network(weights, inputs) - targets) ** 2) / (2 * 16)

    @jax.jit
    @jax.vmap
    def trained_jacobians(key):
        shapes = [(8, width), (width, width), (width, 4)]
        keys = jax.random.split(key, 3)
        weights = [jax.random.normal(*of) for of in zip(keys, shapes, strict=True)]

        def step(weights, _):
            return jax.tree.map(lambda w, g: w - rate * g, weights, jax.grad(loss)(weights)), None

        weights, _ = jax.lax.scan(step, weights, length=num_steps)
        jacobian = jax.vmap(jax.jacrev(lambda z: network(weights, z[None])[0]))
        return jacobian(jnp.asarray(x, jnp.float32))

    gradients = np.asarray(trained_jacobians(jax.random.split(jax.random.key(0), count)))
    squares = np.mean(np.sum(gradients**2, -1), (1, 2))  # (count,)
    error = squares.std(ddof=1) / math.sqrt(count) / squares.mean() / 2  # relative, of the root
    ratio = math.sqrt(squares.mean() / predicted.mean_square.mean())
    assert error < 0.03
    assert -3 * error < ratio - 1 < 3 * error + excess
    # The mean alone: no network has it, their average has it but for 1/8 of the variance.
    away = gradients.mean(0) - predicted.mean
    variance = np.mean(predicted.variance) / count
    assert variance / 2 < np.mean(np.sum(away**2, -1)) < 2 * variance
    assert np.mean(np.sum(predicted.mean**2, -1)) > 5 * variance


# Refusals.


def test_refuses_points_on_lines_through_training_points():
    x_train, y_train = training_set()
    for multiple in (1.0, 0.5, -2.0, 0.0):
        x = np.stack([points(1, DIMENSION)[0], multiple * x_train[3]])
        rule = 'evaluation point 1 is a multiple of training point'
        with pytest.raises(ValueError, match=rule):
            trained_gradients(fully_connected(2), x_train, y_train, x, 0.1, 5)


def test_smooth_kernels_are_evaluated_at_training_points():
    """Oracle: a point beside it."""
    x_train, y_train = training_set()
    kernel = fully_connected(3, 'erf')
    with jax.enable_x64(True):
        x = np.stack([x_train[2], x_train[2] + 1e-7])
        at, beside = trained_gradients(
            kernel, x_train, y_train, x, 0.1, 50, smooth=True
        ).mean_square
    np.testing.assert_allclose(at, beside, rtol=1e-5)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'y_train': np.zeros((5, 2))}, r'y_train of shape \(5, 2\): expected \(N, k\)'),
        ({'y_train': np.zeros(6)}, r'y_train of shape \(6,\): expected \(N, k\)'),
        ({'x': np.ones((2, 3))}, r'x of shape \(2, 3\): expected \(n, \*\(4,\)\), n >= 1'),
        ({'x': np.ones((0, 4))}, r'x of shape \(0, 4\): expected'),
        ({'num_steps': -1}, 'num_steps = -1: expected 0 or more, or None'),
        ({'learning_rate': 100.0}, 'learning_rate = 100.0: expected one between 0 and'),
        ({'learning_rate': 0.0}, 'learning_rate = 0.0: expected one between 0 and'),
    ],
)
def test_refuses_bad_arguments(change, message):
    x_train, y_train = training_set()
    arguments = {
        'x_train': x_train,
        'y_train': y_train,
        'x': points(1, DIMENSION),
        'learning_rate': 0.1,
        'num_steps': 5,
    }
    with pytest.raises(ValueError, match=message):
        trained_gradients(fully_connected(2), **{**arguments, **change})


def test_singular_kernels_need_a_jitter_or_an_end():
    """A training point twice."""
    x_train, y_train = training_set()
    x_train[1] = x_train[0]
    x, kernel = points(1, DIMENSION), fully_connected(2)
    with jax.enable_x64(True):
        with pytest.raises(ValueError, match='smallest eigenvalue of the NTK'):
            trained_gradients(kernel, x_train, y_train, x, 0.1, None)
        finite = trained_gradients(kernel, x_train, y_train, x, 0.1, 10)
        ridge = trained_gradients(kernel, x_train, y_train, x, 0.1, None, jitter=1e-3)
    assert np.isfinite(finite.mean_square).all() and np.isfinite(ridge.mean_square).all()
