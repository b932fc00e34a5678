"""Projected gradient ascent (Madry et al. 2018) on any per-example loss.

    keys = jax.random.split(jax.random.key(0), x.shape[0])
    loss_fn = lambda z: optax.softmax_cross_entropy_with_integer_labels(predict(z), labels)
    x_adv = pgd(keys, loss_fn, x, ThreatModel('linf', 8 / 255), Budget(20, 2 / 255, 'uniform', 1.0))

Each example has a key of its own, so its attack does not depend on which batch, device or host it
is in. Restarts are repeated calls with other keys: whoever counts an example as broken if *any* run
breaks it (`war_jax.measures.accuracy`) has to see every run's end point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from war_jax.attacks.threat import Threat
from war_jax.config_rules import convert

Init = Literal['none', 'gaussian', 'uniform']
ExampleLoss = Callable[[Array], Array]  # (b, h, w, c) -> (b,)


@dataclass(frozen=True)
class Budget:
    """num_steps >= 1 steps of `step_size` (in the threat's norm) from a start around x.

    init 'gaussian': x + init_scale * N(0, 1), TRADES' start (0.001); 'uniform': x + init_scale *
    a uniform draw from the ball; 'none': x. The start itself is not projected (as in the papers'
    code) unless `project_start` says so; every step is. Raises ConfigError for any other init.
    """

    num_steps: int
    step_size: float | Array
    init: Init
    init_scale: float
    project_start: bool = False

    def __post_init__(self) -> None:
        convert('init', self.init, Init)


class AttackTrace(NamedTuple):
    x_adv: Array  # (b, h, w, c) the last iterate
    loss: Array  # (num_steps, b) before each step
    max_grad_l1: Array  # (b,) largest ||grad_x loss||_1 met on the way


def pgd(
    keys: Array, loss_fn: ExampleLoss, x: Array, threat: Threat, budget: Budget
) -> Array:
    """Last iterate of projected ascent from x: keys (b,), x (b, h, w, c) -> (b, h, w, c)."""
    return attack_trace(keys, loss_fn, x, threat, budget).x_adv


def attack_trace(
    keys: Array, loss_fn: ExampleLoss, x: Array, threat: Threat, budget: Budget
) -> AttackTrace:
    """`pgd`, with what it saw on its way: losses, and gradient norms for a Lipschitz estimate."""

    def total(z: Array) -> tuple[Array, Array]:
        losses = loss_fn(z)
        return jnp.sum(losses), losses

    def step(carry: tuple[Array, Array], _) -> tuple[tuple[Array, Array], Array]:
        x_adv, max_grad_l1 = carry
        grad, losses = jax.grad(total, has_aux=True)(x_adv)
        grad_l1 = jnp.sum(jnp.abs(grad), tuple(range(1, grad.ndim)))
        x_adv = climb(x_adv, grad, x, threat, budget.step_size)
        return (x_adv, jnp.maximum(max_grad_l1, grad_l1)), losses

    start = random_start(keys, x, threat, budget)
    no_gradient_yet = jnp.zeros_like(x, shape=x.shape[:1])
    (x_adv, max_grad_l1), losses = jax.lax.scan(
        step, (start, no_gradient_yet), length=budget.num_steps
    )
    return AttackTrace(x_adv, losses, max_grad_l1)


def climb(
    x_adv: Array, grad: Array, x: Array, threat: Threat, step_size: float | Array
) -> Array:
    """One projected step of `step_size`, a number or (b, 1, 1, 1): (b, h, w, c) -> (b, h, w, c)."""
    return threat.project(x_adv + step_size * threat.ascend(grad), x)


def random_start(keys: Array, x: Array, threat: Threat, budget: Budget) -> Array:
    """Where the ascent begins: keys (b,), x (b, h, w, c) -> (b, h, w, c)."""
    if budget.init == 'none':
        return x
    if budget.init == 'gaussian':
        noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
    else:
        noise = jax.vmap(lambda key: threat.sample(key, x.shape[1:], x.dtype))(keys)
    start = x + budget.init_scale * noise
    return threat.project(start, x) if budget.project_start else start
