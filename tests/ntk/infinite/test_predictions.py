"""Input gradients of infinite width at initialisation, and why not of the NTK. Oracles: the papers'
closed forms; float64 NumPy kernels and finite differences; finite networks, drawn."""

import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from ntk.compat import stax
from ntk.infinite import fully_connected
from ntk.infinite.predictions import initial_mean_square, relu_mean_square
from tests.ntk.infinite.gradient_oracles import (
    DIMENSION,
    erf_oracle,
    extrapolated_trace,
    mixed_trace,
    points,
    relu_oracle,
    serial,
)

ROOT = Path(__file__).parents[3]


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
    options = {'XLA_FLAGS': '', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '0', 'JAX_PLATFORMS': 'cpu'}
    environment = {**os.environ, **options}
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
