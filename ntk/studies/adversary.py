"""The adversaries of the studies on the sphere: of functions (n, d) -> (n,), labels -1 and 1.

    x_adv = weak_attack('pgd5', model, x, y, epsilon)          # A of Gao et al. 2019
    worst = strong_attack(model, x, y, epsilon, key, Strong(num_steps=20, restarts=2))

Both climb -y f(x), whose maximum over the cap is that of any loss which falls with y f(x), and
whose gradient does not vanish where a network is certain.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from war_jax.attacks.pgd import Budget, pgd
from war_jax.attacks.sphere import Cap

Model = Callable[[Array], Array]  # (n, d) -> (n,)


class Strong(NamedTuple):
    num_steps: int
    restarts: int  # random ones, beside that from x


def weak_attack(name: str, model: Model, x: Array, y: Array, epsilon: float | Array) -> Array:
    """A: 'none', 'fgsm' (one step of epsilon) or 'pgdK' (K steps of 2.5 epsilon / K), from x."""
    if name == 'none':
        return x
    num_steps = 1 if name == 'fgsm' else int(name.removeprefix('pgd'))
    step_size = epsilon if name == 'fgsm' else 2.5 * epsilon / num_steps
    budget = Budget(num_steps, step_size, 'none', 0.0)
    keys = jax.random.split(jax.random.key(0), x.shape[0])  # of no use: the start is x
    return pgd(keys, lambda z: -y * model(z), x, Cap(epsilon, fixed=1), budget)


def strong_attack(
    model: Model, x: Array, y: Array, epsilon: float | Array, key: Array, strong: Strong
) -> Array:
    """The worst points found, x among them: (n, d) -> (n, d)."""
    cap = Cap(epsilon, fixed=1)
    size = 2.5 * epsilon / strong.num_steps

    def badness(z: Array) -> Array:
        return -y * model(z)

    def attack(keys: Array, init_scale: Array) -> Array:
        budget = Budget(strong.num_steps, size, 'uniform', init_scale)  # pyright: ignore[reportArgumentType]
        return pgd(keys, badness, x, cap, budget)

    keys = jax.random.split(key, (strong.restarts + 1, x.shape[0]))
    scales = jnp.arange(strong.restarts + 1) > 0
    found = jax.vmap(attack)(keys, scales.astype(x.dtype))
    found = jnp.concatenate([found, x[None]])
    return found[jnp.argmax(jax.vmap(badness)(found), 0), jnp.arange(x.shape[0])]
