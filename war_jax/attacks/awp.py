"""Adversarial weight perturbation (Wu, Xia & Wang 2020): train at the worst weights nearby.

    ascent = jax.grad(loss)(params)
    grads = jax.grad(loss)(perturb(params, ascent, gamma))         # applied to `params` themselves
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def perturb(params: Any, ascent: Any, gamma: Array | float) -> Any:
    """params + gamma * ||w|| / ||g|| * g for every weight array w; norms and biases stay.

    One normalised ascent step of relative size gamma >= 0 per layer (Wu et al., with one step).
    """

    def perturb_leaf(w: Array, g: Array) -> Array:
        if w.ndim < 2:
            return w
        relative = jnp.linalg.norm(w.ravel()) / jnp.maximum(jnp.linalg.norm(g.ravel()), 1e-12)
        return w + (gamma * relative).astype(w.dtype) * g

    return jax.tree.map(perturb_leaf, params, ascent)
