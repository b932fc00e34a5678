"""Early-stopped projected ascent: adversarial images that are wrong, but only just (Zhang et al.
2020, Friendly Adversarial Training, algorithm 1).

    x_adv = friendly_pgd(keys, attack_loss, x, threat, budget, further_steps=1)

`attack_loss` gives of images (b, h, w, c) the losses (b,), and which are misclassified (b,).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from war_jax.attacks.pgd import Budget, climb, random_start
from war_jax.attacks.threat import Threat

JudgedLoss = Callable[[Array], tuple[Array, Array]]


def friendly_pgd(
    keys: Array,
    attack_loss: JudgedLoss,
    x: Array,
    threat: Threat,
    budget: Budget,
    further_steps: int,
) -> Array:
    """Keys (b,), x (b, h, w, c) -> (b, h, w, c): `pgd`, each image until it has been misclassified.

    It still takes `further_steps` >= 0 steps from points at which it is; the start is one of these.
    From then on it stays where it is. A network classifies every image at each of the
    `budget.num_steps` steps, moved or not: stopping saves no time here.
    """

    def total(z: Array) -> tuple[Array, Array]:
        losses, is_wrong = attack_loss(z)
        return jnp.sum(losses), is_wrong

    def step(carry: tuple[Array, Array], _) -> tuple[tuple[Array, Array], None]:
        x_adv, left = carry
        grad, is_wrong = jax.grad(total, has_aux=True)(x_adv)
        moves = ~is_wrong | (left > 0)
        further = climb(x_adv, grad, x, threat, budget.step_size)
        x_adv = jnp.where(moves[:, None, None, None], further, x_adv)
        return (x_adv, left - (is_wrong & moves)), None

    start = random_start(keys, x, threat, budget)
    # Of the images' kind under shard_map: a number of each device's own rows.
    left = jnp.zeros_like(x, jnp.int32, x.shape[:1]) + further_steps
    (x_adv, _), _ = jax.lax.scan(step, (start, left), length=budget.num_steps)
    return x_adv
