"""GradAlign (Andriushchenko & Flammarion 2020): input gradients that point the same way nearby.

    x_near = near(keys, x, threat)                                 # uniform in the ball around x
    penalty = misalignment(losses, x, x_near).mean()               # of (2, b, ...) -> (2, b) losses

A single step finds the worst image only where the loss is nearly linear within the ball. Their
regularizer, 1 - cos(grad l(x), grad l(x + eta)), is small where it is, and keeps single-step
training from catastrophic overfitting. It is differentiated once more, with respect to the weights.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from war_jax.attacks.threat import Threat

_NEAR = 1  # folded into an example's key: the attack's start is drawn from the key itself


def near(keys: Array, x: Array, threat: Threat) -> Array:
    """Keys (b,), x (b, h, w, c) -> (b, h, w, c): uniform in the ball, not cut to the box."""
    own = jax.vmap(lambda key: jax.random.fold_in(key, _NEAR))(keys)
    return x + jax.vmap(lambda key: threat.sample(key, x.shape[1:], x.dtype))(own)


def misalignment(losses: Callable[[Array], Array], x: Array, x_near: Array) -> Array:
    """(b, ...), (b, ...) -> (b,): 1 - the cosine of the gradients of the losses at both points.

    0 where one of the gradients is: their code leaves such images out of the mean, ours counts them
    as 0. `losses` are of both at once, (2, b, ...) -> (2, b).
    """
    gradients = jax.grad(lambda z: losses(z).sum())(jnp.stack([x, x_near]))
    flat = gradients.reshape(2, len(x), -1)
    # Squares of what is left where the network is certain would vanish in float32. The cosine does
    # not depend on this scale, and so neither does its gradient.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(flat), -1, keepdims=True))
    scaled = flat / jnp.where(largest > 0, largest, 1)
    squares = jnp.sum(jnp.square(scaled), -1)
    is_there = (squares > 0).all(0)
    lengths = jnp.sqrt(jnp.where(is_there, squares[0] * squares[1], 1))
    return jnp.where(is_there, 1 - jnp.sum(scaled[0] * scaled[1], -1) / lengths, 0)
