"""Infinite-width input gradients. Oracles: the papers' closed forms; float64 NumPy kernels, a
literal iteration of gradient descent on them, and finite differences of what comes out;
neural-tangents' own ensemble predictor; and finite networks, drawn and really trained."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from ntk.compat import predict, stax
from ntk.infinite import fully_connected
from ntk.infinite.predictions import initial_mean_square, relu_mean_square, trained_gradients
from tests.ntk.closed_forms import erf_expectations, kernels, relu_kernels

Kernel = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # NNGP, NTK


def serial(activation, num_layers: int, weight_variance: float, output_variance: float):
    """neural-tangents' own layers."""
    hidden = [stax.Dense(1, math.sqrt(weight_variance)), activation()] * (num_layers - 1)
    return stax.serial(*hidden, stax.Dense(1, math.sqrt(output_variance)))[2]


def relu_oracle(num_layers: int, weight_variance: float, output_variance: float) -> Kernel:
    def both(x1, x2):
        variances = (weight_variance, output_variance)
        nngp, parts = relu_kernels(x1, x2, num_layers, *variances, [1.0] * num_layers)
        return nngp, np.sum(parts, 0)

    return both


def erf_oracle(num_layers: int, weight_variance: float, output_variance: float) -> Kernel:
    return lambda x1, x2: kernels(
        erf_expectations, x1, x2, num_layers, weight_variance, output_variance
    )


def around(x: np.ndarray, step: float) -> np.ndarray:
    """(2 d, d): x + step along each axis, then x - step."""
    steps = step * np.eye(len(x))
    return np.concatenate([x + steps, x - steps])


def mixed_trace(covariance: Callable[[np.ndarray], np.ndarray], x: np.ndarray, step: float):
    """tr d^2 C(x, x') / dx dx' at x' = x by central differences; (m, d) -> (m, m) covariance."""
    values = covariance(around(x, step))
    plus, minus = np.split(np.arange(2 * len(x)), 2)
    total = values[plus, plus] + values[minus, minus] - 2 * values[plus, minus]
    return total.sum() / (4 * step**2)


def extrapolated_trace(covariance: Callable[[np.ndarray], np.ndarray], x: np.ndarray):
    """Without the error that is linear in the step, which cubes of angles cause."""
    step = 1e-3 * float(np.linalg.norm(x))
    return 2 * mixed_trace(covariance, x, step / 2) - mixed_trace(covariance, x, step)


def points(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimension))


NUM_TRAIN, DIMENSION = 6, 4
ROOT = Path(__file__).parents[3]


# At initialisation.


def test_relu_recursion_in_numbers():
    """PAPERS, with all variances equal: s (s / 2)^(L - 1)."""
    for num_layers in (1, 2, 3, 5):
        assert relu_mean_square(num_layers, 2.0, 2.0) == 2.0
        expected = 1.5 * 0.75 ** (num_layers - 1)
        assert relu_mean_square(num_layers, 1.5, 1.5) == pytest.approx(expected, rel=1e-12)
    assert relu_mean_square(3, 1.0, 5.0) == 5 / 4


@pytest.mark.parametrize(('x64', 'tolerance'), [(False, 1e-4), (True, 1e-8)])
def test_relu_at_initialisation(x64, tolerance):
    """The closed form is exact."""
    x = points(20, DIMENSION)
    with jax.enable_x64(x64):
        for num_layers, variance in ((2, 2.0), (3, 2.0), (5, 2.0), (3, 1.5), (5, 1.5)):
            kernel = fully_connected(num_layers, 'relu', variance, variance)
            expected = variance * (variance / 2) ** (num_layers - 1)
            found = initial_mean_square(kernel, x, batch_size=12)
            np.testing.assert_allclose(found, expected, rtol=tolerance)


OPTIMISED = """
import jax
import numpy as np
from ntk.infinite import fully_connected
from ntk.infinite.predictions import initial_mean_square

for x64 in (False, True):
    with jax.enable_x64(x64):
        kernel = fully_connected(5, 'relu', 1.5, 1.5)
        x = np.random.default_rng(0).normal(size=(100, 8))
        print(np.abs(initial_mean_square(kernel, x) / (1.5 * 0.75**4) - 1).max())
"""


def test_relu_at_initialisation_by_optimised_programs():
    """The other tests run with XLA's optimisations off. With them on, neural-tangents' own ReLU has
    relative errors of 0.1 and 1e8, since terms that should cancel are rounded in two ways."""
    environment = {**os.environ, 'XLA_FLAGS': '', 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-c', OPTIMISED]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    in_float32, in_float64 = map(float, done.stdout.split())
    assert in_float32 < 1e-4 and in_float64 < 1e-8


def test_erf_at_initialisation():
    """PAPERS: 1.509, 1.674, 1.695 at d = 8, 64, 512, inputs of length sqrt(d), L = 2."""
    kernel = serial(stax.Erf, 2, 2.0, 2.0)
    with jax.enable_x64(True):
        for dimension, expected in ((8, 1.509), (64, 1.674), (512, 1.695)):
            x = points(1, dimension)
            x *= math.sqrt(dimension) / np.linalg.norm(x)
            found = initial_mean_square(kernel, x, batch_size=8)
            np.testing.assert_allclose(found, expected, atol=6e-4)


@pytest.mark.parametrize(
    ('activation', 'oracle', 'tolerance'),
    [('relu', relu_oracle, 1e-5), ('erf', erf_oracle, 1e-5)],
)
def test_initialisation_against_finite_differences(activation, oracle, tolerance):
    kernel, reference = fully_connected(3, activation, 1.7, 0.6), oracle(3, 1.7, 0.6)
    x = points(3, DIMENSION)
    with jax.enable_x64(True):
        found = initial_mean_square(kernel, x)
    expected = [extrapolated_trace(lambda z: reference(z, z)[0], point) for point in x]
    np.testing.assert_allclose(found, expected, rtol=tolerance)


@pytest.mark.parametrize(
    ('activation', 'num_layers', 'phi', 'slope'),
    [
        ('relu', 3, lambda h: np.maximum(h, 0), lambda h: h > 0),
        ('erf', 2, special.erf, lambda h: 2 / math.sqrt(math.pi) * np.exp(-(h**2))),
    ],
)
def test_initialisation_against_finite_networks(activation, num_layers, phi, slope):
    """Gradients of random networks of width 24, by the chain rule; for ReLU, and for one hidden
    layer of anything, the expectation does not depend on the width."""
    rng, width, draws = np.random.default_rng(0), 24, 4000
    x = points(1, DIMENSION)[0]
    h = np.broadcast_to(x, (draws, DIMENSION))
    jacobian = np.broadcast_to(np.eye(DIMENSION), (draws, DIMENSION, DIMENSION))
    for layer in range(num_layers):
        variance, features = (1.7, width) if layer < num_layers - 1 else (0.6, 1)
        weights = rng.normal(size=(draws, h.shape[1], features)) * math.sqrt(variance / h.shape[1])
        h = np.einsum('ni,nij->nj', h, weights)
        jacobian = np.einsum('nio,nij->njo', jacobian, weights)
        if features == width:
            jacobian = slope(h)[:, :, None] * jacobian
            h = phi(h)
    squares = np.sum(jacobian**2, (1, 2))
    error = squares.std() / math.sqrt(draws)
    assert error < 0.03 * squares.mean()
    found = initial_mean_square(fully_connected(num_layers, activation, 1.7, 0.6), x[None])
    assert abs(found[0] - squares.mean()) < 3.5 * error


# The trap.


def mixed_derivative_of_ntk(kernel, x: np.ndarray) -> float:
    def of_pair(a, b):
        return kernel(a[None], b[None], 'ntk')[0, 0]

    with jax.enable_x64(True):
        point = jnp.asarray(x)
        return float(jnp.trace(jax.jacfwd(jax.grad(of_pair, 0), 1)(point, point)))


@pytest.mark.parametrize(('num_layers', 'finite'), [(2, 4), (3, 6), (5, 10)])
def test_the_trap_of_the_relu_ntk(num_layers, finite):
    """neural-tangents returns the finite number of PAPERS, where the trace is infinite: a tenth of
    the step gives ten times the difference."""
    x, reference = points(1, 8)[0], relu_oracle(num_layers, 2.0, 2.0)
    returned = mixed_derivative_of_ntk(serial(stax.Relu, num_layers, 2.0, 2.0), x)
    assert returned == pytest.approx(finite, rel=1e-6)
    steps = [1e-2, 1e-3, 1e-4]
    found = [mixed_trace(lambda z: reference(z, z)[1], x, step) for step in steps]
    assert found[1] > 5 * found[0] > 25 * finite and found[2] > 9 * found[1]


def test_no_trap_for_erf():
    x, reference = points(1, 8)[0], erf_oracle(3, 2.0, 2.0)
    expected = extrapolated_trace(lambda z: reference(z, z)[1], x)
    returned = mixed_derivative_of_ntk(serial(stax.Erf, 3, 2.0, 2.0), x)
    assert returned == pytest.approx(expected, rel=1e-4)


# After training.


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

        def predicted(z):
            mean, covariance = predictor(x_test=jnp.asarray(z), get='ntk', compute_cov=True)
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
