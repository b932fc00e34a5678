"""Networks in the parametrizations of Gao et al. 2019, and the ball B(R) around their start.

    start = draw(key, Design('two_layer', 'softplus', 1), width=256, dimension=8)
    movement = at_start(start)                                   # zeros: f is 0 everywhere
    f = output(design, start, movement, x)                       # (n, 8) -> (n,)
    movement = project(movement, radius=8.0)                     # onto B(8)

Two halves of m/2 units begin with the same weights and are subtracted: f = (g_1 - g_2) / sqrt(2) is
0 at the start, exactly, and has the tangent kernel of a single network of m/2 units (the
antisymmetric initialisation). With k = m/2 and w ~ N(0, 1), a half is

    two_layer   g(x) = k^(-1/2) sum_r a_r s(w_r . x),            a_r = 1 or -1, W trained
    deep        g(x) = a . s(W_H ... s(W_1 A x)),                W_l, A ~ N(0, 2/k), a ~ N(0, 1),
                                                                 W_1 ... W_H trained

What is trained is the movement U, in units in which B(R) is || U_l ||_F <= R for every layer l: the
weights are W_l = W_l(0) + U_l in two_layer, and W_l(0) + U_l / sqrt(m) in deep. Gradient descent on
U then needs no learning rate that depends on width.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Movement = tuple[Array, ...]  # of each trained layer (2, m/2, its inputs)


@dataclass(frozen=True)
class Design:
    kind: Literal['two_layer', 'deep']
    activation: Literal['relu', 'softplus']
    num_trained: int  # layers: 1 of two_layer, H of deep


class Start(NamedTuple):
    """The weights of both halves."""

    trained: tuple[Array, ...]  # of each layer (m/2, its inputs)
    first: Array  # A (m/2, d); (0, d) where there is none
    last: Array  # a (m/2,)


def draw(key: Array, design: Design, width: int, dimension: int) -> Start:
    """width: m, an even number."""
    half = width // 2
    keys = jax.random.split(key, design.num_trained + 2)
    if design.kind == 'two_layer':
        trained = (jax.random.normal(keys[0], (half, dimension)),)
        return Start(
            trained, jnp.zeros((0, dimension)), jax.random.rademacher(keys[1], (half,), float)
        )
    std = math.sqrt(2.0 / half)
    trained = tuple(std * jax.random.normal(k, (half, half)) for k in keys[2:])
    first = std * jax.random.normal(keys[0], (half, dimension))
    return Start(trained, first, jax.random.normal(keys[1], (half,)))


def at_start(start: Start) -> Movement:
    return tuple(jnp.zeros((2, *w.shape)) for w in start.trained)


def output(design: Design, start: Start, movement: Movement, x: Array) -> Array:
    """f: (n, d) -> (n,)."""
    first, second = (
        _half(design, start, tuple(u[number] for u in movement), x) for number in (0, 1)
    )
    return (first - second) / math.sqrt(2.0)


def _half(design: Design, start: Start, movement: Movement, x: Array) -> Array:
    phi = jax.nn.relu if design.activation == 'relu' else jax.nn.softplus
    unit = unit_of(design, start)
    h = x @ start.first.T if design.kind == 'deep' else x
    for w, u in zip(start.trained, movement, strict=True):
        h = phi(h @ (w + unit * u).T)
    value = h @ start.last
    return value / math.sqrt(start.last.size) if design.kind == 'two_layer' else value


def unit_of(design: Design, start: Start) -> float:
    """How far the weights move with U of length 1."""
    return 1.0 if design.kind == 'two_layer' else 1.0 / math.sqrt(2.0 * start.last.size)


def linear_output(design: Design, start: Start, movement: Movement, x: Array) -> Array:
    """f's first Taylor polynomial in U around the start: (n, d) -> (n,)."""
    origin = tuple(map(jnp.zeros_like, movement))
    return jax.jvp(lambda u: output(design, start, u, x), (origin,), (movement,))[1]


def features(design: Design, start: Start, x: Array) -> Movement:
    """Its gradients, of each layer (n, 2, m/2, inputs): linear_output = sum_l <features_l, U_l>."""

    def at(point: Array) -> Movement:
        return jax.grad(lambda u: output(design, start, u, point[None])[0])(at_start(start))

    return jax.vmap(at)(x)


def project(movement: Movement, radius: float | Array) -> Movement:
    """The nearest point of B(R); an infinite radius leaves all as it is."""
    return tuple(u * jnp.minimum(1.0, radius / jnp.maximum(length(u), 1e-30)) for u in movement)


def length(array: Any) -> Array:
    """Frobenius norm of one layer's movement."""
    return jnp.sqrt(jnp.sum(jnp.square(array)))
