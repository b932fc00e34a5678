"""ReLU layers of kernels. Oracles: integrals over the angle in float64 NumPy, finite differences of
closed forms, and exact moments of Gaussian weights."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntk.compat import stax
from ntk.infinite.rectifiers import (
    relu,
    relu2,
    relu2_expectation,
    relu_expectation,
    step_expectation,
)
from tests.ntk.closed_forms import relu_kernels


def by_integration(power: int, cov: float, var1: float, var2: float) -> float:
    """E relu(u)^power relu(v)^power in polar coordinates: both are positive on one arc only."""
    theta = math.acos(cov / math.sqrt(var1 * var2))
    nodes, weights = np.polynomial.legendre.leggauss(60)
    angle = (nodes + 1) / 2 * (math.pi - theta) + theta - math.pi / 2
    values = (np.cos(angle) * np.cos(angle - theta)) ** power
    radial = {0: 1, 1: 2, 2: 8}[power]  # E r^(2 power) of a 2-D standard Gaussian
    mean = (values @ weights) * (math.pi - theta) / 2 / (2 * math.pi)
    return radial * mean * (var1 * var2) ** (power / 2)


EXPECTATIONS = [(0, step_expectation), (1, relu_expectation), (2, relu2_expectation)]


@pytest.mark.parametrize(('power', 'expectation'), EXPECTATIONS)
def test_expectations(power, expectation):
    var1, var2 = 1.3, 0.6
    for rho in (-1.0, -0.9, -0.3, 0.0, 0.2, 0.8, 0.999, 1.0):
        cov = rho * math.sqrt(var1 * var2)
        expected = by_integration(power, cov, var1, var2)
        with jax.enable_x64(True):
            value = expectation(jnp.float64(cov), jnp.float64(var1 * var2))
            np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-14)
        value = expectation(jnp.float32(cov), jnp.float32(var1 * var2))
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('power', 'expectation'), EXPECTATIONS)
@pytest.mark.parametrize('rho', [-0.95, -0.3, 0.0, 0.6, 0.99])
def test_first_and_second_derivatives(power, expectation, rho):
    """Central differences of the integral; in cov and in the product of the variances."""
    with jax.enable_x64(True):
        point, step = np.array([rho * math.sqrt(0.78), 0.78]), 1e-4

        def at(offset):
            cov, product = point + step * np.asarray(offset)
            return by_integration(power, cov, product, 1.0)

        def of(point):
            return expectation(point[0], point[1])

        gradient = [(at(e) - at(-e)) / (2 * step) for e in np.eye(2)]
        hessian = [
            [(at(e + f) - at(e - f) - at(f - e) + at(-e - f)) / (4 * step**2) for f in np.eye(2)]
            for e in np.eye(2)
        ]
        np.testing.assert_allclose(jax.grad(of)(point), gradient, rtol=1e-4, atol=1e-6)
        second = jax.jacfwd(jax.grad(of))(point)
        np.testing.assert_allclose(second, hessian, rtol=1e-3, atol=1e-5)


def network(layer: Any, num_layers: int, weight_variance: float) -> Any:
    layers = []
    for _ in range(num_layers - 1):
        layers += [stax.Dense(1, math.sqrt(weight_variance)), layer()]
    return stax.serial(*layers, stax.Dense(1, 1.0))[2]


def mixed_derivative(kernel_fn, kind: str):
    """The trace of d^2 k / dx dx' at two inputs."""

    def k(x1, x2):
        return kernel_fn(x1[None], x2[None], kind)[0, 0]

    return jax.jit(lambda x1, x2: jnp.trace(jax.jacfwd(jax.grad(k), 1)(x1, x2)))


@pytest.mark.parametrize('is_double', [False, True])
@pytest.mark.parametrize('num_layers', [2, 3, 5])
def test_input_gradient_of_relu_networks_at_equal_inputs(is_double, num_layers):
    """E ||grad_x f||^2 is (weight variance / 2)^(layers - 1). neural-tangents' own ReLU fails."""
    inputs = np.random.default_rng(0).normal(size=(20, 200)).astype(np.float32)
    with jax.enable_x64(is_double):
        derivative = mixed_derivative(network(relu, num_layers, 3.0), 'nngp')
        for x in inputs.astype(np.float64 if is_double else np.float32):
            tolerance = 1e-12 if is_double else 1e-5
            np.testing.assert_allclose(derivative(x, x), 1.5 ** (num_layers - 1), rtol=tolerance)


def test_input_gradient_of_a_squared_relu_network_at_equal_inputs():
    """f = v . relu(W x)^2: grad f = sum v 2 relu(h) w, with w = h x / |x|^2 + an independent part:
    E ||grad f||^2 = 4 (E relu(h)^2 h^2 / |x|^2 + E relu(h)^2 s (d - 1)), s the variance of w."""
    x = np.random.default_rng(1).normal(size=30)
    s = 0.7 / 30
    q = s * x @ x
    expected = 4 * (1.5 * q**2 / (x @ x) + q / 2 * s * 29)
    with jax.enable_x64(True):
        derivative = mixed_derivative(network(relu2, 2, 0.7), 'nngp')
        np.testing.assert_allclose(derivative(x, x), expected, rtol=1e-12)


@pytest.mark.parametrize('kind', ['nngp', 'ntk'])
def test_mixed_derivative_at_different_inputs(kind):
    """Finite differences of the closed form."""
    x1, x2 = np.random.default_rng(2).normal(size=(2, 4))
    step = 1e-4

    def k(a, b):
        nngp, parts = relu_kernels(a[None], b[None], 3, 2.0, 1.0, (1, 1, 1))
        return (nngp if kind == 'nngp' else np.sum(parts, 0))[0, 0]

    expected = 0.0
    for e in step * np.eye(4):
        corners = k(x1 + e, x2 + e) - k(x1 + e, x2 - e) - k(x1 - e, x2 + e) + k(x1 - e, x2 - e)
        expected += corners / (4 * step**2)
    with jax.enable_x64(True):
        value = mixed_derivative(network(relu, 3, 2.0), kind)(x1, x2)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_cusp_of_the_ntk_is_not_a_number():
    x = np.random.default_rng(3).normal(size=4).astype(np.float32)
    assert np.isnan(mixed_derivative(network(relu, 2, 2.0), 'ntk')(x, x))
    # The square's NTK has no cusp.
    assert np.isfinite(mixed_derivative(network(relu2, 2, 2.0), 'ntk')(x, x))


@pytest.mark.parametrize('layer', [relu, relu2])
def test_black_images_have_finite_derivatives(layer):
    kernel_fn = network(layer, 3, 2.0)
    x1, x2 = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    for kind in ('nngp', 'ntk'):
        found = jax.jit(jax.value_and_grad(lambda x, other: kernel_fn(x, other, kind)[0, 0]))  # noqa: B023
        for other in (x1, x2):
            value, gradient = found(x1, other)
            assert value == 0 and np.all(np.isfinite(gradient))

    def k(x1, x2):
        return kernel_fn(x1[None], x2[None], 'nngp')[0, 0]

    for outer in (jax.jacfwd, jax.jacrev):
        mixed = jax.jit(outer(jax.grad(k), 1))
        assert np.all(np.isfinite(mixed(x1[0], x1[0]))) and np.all(np.isfinite(mixed(x1[0], x2[0])))


@pytest.mark.parametrize(('layer', 'activation'), [(relu, 1), (relu2, 2)])
def test_finite_layers_are_the_same_functions(layer, activation):
    x = np.linspace(-2, 2, 9, dtype=np.float32)
    np.testing.assert_allclose(layer()[1]((), x), np.maximum(x, 0) ** activation, rtol=1e-6)
