"""Training of a network by full-batch gradient descent, naturally or on attacked images.

    trained = start(network.matrices)
    trained, loss = advance(trained, rates, x, y, epsilon, num_more=100, momentum=0.9,
                            attack_steps=4)

The rate of V_l is that of A_l = factor_l V_l times factor_l^2: `rates_of`. In the parametrization
of the theory the kernel grows as m L, and the rate is divided by that.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ntk.studies.theorem.measure import attacked
from ntk.studies.theorem.network import Matrices, Network, outputs
from war_jax.attacks.losses import cross_entropy


class Trained(NamedTuple):
    matrices: Matrices
    velocity: Matrices


def start(matrices: Matrices) -> Trained:
    return Trained(matrices, jax.tree.map(jnp.zeros_like, matrices))


def rates_of(network: Network, learning_rate: float) -> Array:
    """(L,): learning_rate / (m L) for the trained weights, as a rate of the matrices."""
    depth, width = len(network.matrices), network.matrices[-1].shape[0]
    factors = jnp.asarray(network.factors)
    return learning_rate / (width * depth) * jnp.square(factors)


@partial(jax.jit, static_argnames='attack_steps')
def advance(
    trained: Trained,
    rates: Array,
    x: Array,
    y: Array,
    epsilon: Array,
    num_more: Array,
    momentum: Array,
    attack_steps: int,
) -> tuple[Trained, Array]:
    """So many more steps, and the loss before the last of them; epsilon 0 is natural training."""

    def step(_, carry: tuple[Trained, Array]) -> tuple[Trained, Array]:
        (matrices, velocity), _ = carry
        points = jax.lax.cond(
            epsilon > 0,
            lambda: attacked(matrices, x, y, epsilon, attack_steps),
            lambda: x,
        )
        loss, slopes = jax.value_and_grad(lambda a: cross_entropy(outputs(a, points), y).mean())(
            matrices
        )
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, slopes)
        moved = tuple(a - rate * v for a, v, rate in zip(matrices, velocity, rates, strict=True))
        return Trained(moved, velocity), loss

    return jax.lax.fori_loop(0, num_more, step, (trained, jnp.zeros((), x.dtype)))
