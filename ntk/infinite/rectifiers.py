"""ReLU and its square for kernels of infinite width, with derivatives that hold at x = x'.

    init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(1), relu(), stax.Dense(1))

For (u, v) Gaussian with covariance c and variances a and b, p = a b, s = sqrt(p - c^2) and the
angle t = atan2(s, c), Cho & Saul 2009 (arc-cosine kernels of degree 0, 1, 2, at half their size):

    E[step(u) step(v)] = (pi - t) / (2 pi)
    E[relu(u) relu(v)] = (s + (pi - t) c) / (2 pi)
    E[relu(u)^2 relu(v)^2] = (3 s c + (pi - t) (p + 2 c^2)) / (2 pi)

neural-tangents has both layers, and neither is used. Its ReLU takes derivatives of s, which do not
exist at x = x': they should cancel, and what remains of them is rounding noise divided by s. The
trace of the second, mixed derivative of the NNGP kernel, which is 1 for the networks of
`ntk.infinite`, came out between 0.79 and 1.18 in float64 and as +-1e8 in float32 (3 layers, 784
inputs). Its rectified monomials divide by sin(t), hence NaN at x = x'. Here derivatives are
written down in closed form, where nothing has to cancel but terms in 1/s, and these tend to zero
together as x' tends to x: 1/s counts as 0 at s = 0.

One derivative does not exist: the second of step's expectation, and with it the mixed derivative of
the NTK of a ReLU network at x = x', where the NTK has a cusp. That is NaN here, not a number.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ntk.compat import stax

# 1 - (c^2 / p) of an x with itself is rounding noise of up to 12 float epsilons (measured, 8 to
# 20,000 inputs). Below this many it counts as 0: in float32, angles below 0.002.
NOISE = 32


def relu() -> Any:
    """stax layer max(x, 0)."""
    return _layer(jax.nn.relu, relu_expectation, step_expectation)


def relu2() -> Any:
    """stax layer max(x, 0)^2."""

    def squared_relu(x: Array) -> Array:
        return jnp.square(jax.nn.relu(x))

    return _layer(
        squared_relu, relu2_expectation, lambda cov, product: 4 * relu_expectation(cov, product)
    )


def _layer(function: Any, expectation: Any, expectation_of_derivatives: Any) -> Any:
    return stax.Elementwise(
        function,
        lambda cov, var1, var2: expectation(cov, var1 * var2),
        lambda cov, var1, var2: expectation_of_derivatives(cov, var1 * var2),
    )


def _square_of_sine(cov: Array, product: Array) -> Array:
    """p - c^2, or 0 where that is rounding noise."""
    square = product - cov * cov
    return jnp.where(square <= NOISE * jnp.finfo(cov.dtype).eps * product, 0, square)


@jax.custom_jvp
def _inverse_sine(cov: Array, product: Array) -> Array:
    """1 / s, and 0 where s = 0."""
    square = _square_of_sine(cov, product)
    return jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)


@_inverse_sine.defjvp
def _inverse_sine_jvp(primals: Any, tangents: Any) -> Any:
    (cov, product), (d_cov, d_product) = primals, tangents
    inverse = _inverse_sine(cov, product)
    slope = jnp.where(inverse > 0, inverse**3, math.nan)
    return inverse, slope * (cov * d_cov - d_product / 2)


@jax.custom_jvp
def _sine(cov: Array, product: Array) -> Array:
    """s."""
    return jnp.sqrt(_square_of_sine(cov, product))


@_sine.defjvp
def _sine_jvp(primals: Any, tangents: Any) -> Any:
    (cov, product), (d_cov, d_product) = primals, tangents
    return _sine(cov, product), _inverse_sine(cov, product) * (d_product / 2 - cov * d_cov)


@jax.custom_jvp
def step_expectation(cov: Array, product: Array) -> Array:
    """E[step(u) step(v)], u and v of covariance `cov` and variances whose product is `product`."""
    return 0.5 - jnp.arctan2(_sine(cov, product), cov) / (2 * math.pi)


@step_expectation.defjvp
def _step_jvp(primals: Any, tangents: Any) -> Any:
    (cov, product), (d_cov, d_product) = primals, tangents
    slope = _inverse_sine(cov, product) / (2 * math.pi)
    tangent = slope * (d_cov - _over(cov, product) * d_product / 2)
    return step_expectation(cov, product), tangent


@jax.custom_jvp
def relu_expectation(cov: Array, product: Array) -> Array:
    """E[relu(u) relu(v)], for the same u and v."""
    return _sine(cov, product) / (2 * math.pi) + step_expectation(cov, product) * cov


@relu_expectation.defjvp
def _relu_jvp(primals: Any, tangents: Any) -> Any:
    (cov, product), (d_cov, d_product) = primals, tangents
    slope = _over(_sine(cov, product), product) / (4 * math.pi)
    tangent = step_expectation(cov, product) * d_cov + slope * d_product
    return relu_expectation(cov, product), tangent


@jax.custom_jvp
def relu2_expectation(cov: Array, product: Array) -> Array:
    """E[relu(u)^2 relu(v)^2], for the same u and v."""
    arc = step_expectation(cov, product) * (product + 2 * cov * cov)
    return 3 * _sine(cov, product) * cov / (2 * math.pi) + arc


@relu2_expectation.defjvp
def _relu2_jvp(primals: Any, tangents: Any) -> Any:
    (cov, product), (d_cov, d_product) = primals, tangents
    slope = step_expectation(cov, product)
    slope += cov * _over(_sine(cov, product), product) / (2 * math.pi)
    tangent = 4 * relu_expectation(cov, product) * d_cov + slope * d_product
    return relu2_expectation(cov, product), tangent


def _over(x: Array, product: Array) -> Array:
    """x / p; 0 for an input of zeros, such as a black image."""
    return jnp.where(product > 0, x / jnp.where(product > 0, product, 1), 0)
