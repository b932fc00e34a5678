"""Fully connected ReLU networks as their matrices, and how far a ball of weights reaches.

    network = draw('sqrt_m', depth=4, width=256, num_inputs=64, num_outputs=10, key=key)
    logits = outputs(network.matrices, x)                       # (n, 64) -> (n, 10)
    radii = [omega * factor for factor in network.factors]      # of the balls around the matrices

A parametrization multiplies trained weights V_l by a factor: A_l = factor_l V_l. Here the product
A_l is what is stored, so that a ball || V_l - V_l(0) || <= omega is one of radius factor_l omega
around A_l, and one program serves all parametrizations. In that of the theory ('sqrt_m': inner
weights N(0, 2/m), W_L ~ N(0, 1/m), the outputs times sqrt(m)) the factors are sqrt(m / d) at the
first layer and sqrt(d) at the last: together the sqrt(m) of the theory, as ReLU lets factors pass
(ntk/networks/parametrization.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ntk.networks import Architecture, make_network, plain_weights
from ntk.networks.parametrization import PARAMETRIZATIONS

Matrices = tuple[Array, ...]  # A_1 (d, m), ..., A_L (m, k)
_WEIGHT_VARIANCE, _OUTPUT_VARIANCE = 2.0, 1.0  # fan-in times that of the weights


class Network(NamedTuple):
    matrices: Matrices
    factors: tuple[float, ...]  # of each layer: A_l = factor_l V_l


def draw(
    name: str, depth: int, width: int, num_inputs: int, num_outputs: int, key: Array
) -> Network:
    """At the start; depth: L, the number of matrices. Networks of one key differ by factors."""
    model = make_network(Architecture('fcn', num_layers=depth), width, num_outputs)
    shape = (num_inputs,)
    scales = PARAMETRIZATIONS[name].scales(model, shape, _WEIGHT_VARIANCE, _OUTPUT_VARIANCE)
    effective = scales.effective(scales.draw(plain_weights(model, key, shape)))
    layers = [*(f'layer{number}' for number in range(1, depth)), 'head']
    return Network(
        tuple(effective[layer]['kernel'] for layer in layers),
        tuple(float(scales.multipliers[layer]['kernel']) for layer in layers),
    )


def outputs(matrices: Matrices, x: Array) -> Array:
    """(..., d) -> (..., k)."""
    for matrix in matrices[:-1]:
        x = jax.nn.relu(x @ matrix)
    return x @ matrices[-1]


def output_gradients(matrices: Matrices, x: Array) -> Array:
    """(n, d) -> (n, k, d): the gradients in x of all outputs."""
    return jax.vmap(jax.jacrev(lambda z: outputs(matrices, z)))(x)


def backward(matrices: Matrices, x: Array, c: Array) -> Sequence[Array]:
    """(d,), () -> the gradients of output c in what layers 1 ... L give before ReLU, (m,) each.

    The last is the unit vector of c.
    """

    def output(taps: Sequence[Array]) -> Array:
        h = x
        for matrix, tap in zip(matrices, taps, strict=True):
            z = h @ matrix + tap
            h = jax.nn.relu(z)
        return z[c]

    return jax.grad(output)([jnp.zeros_like(x, shape=(a.shape[1],)) for a in matrices])
