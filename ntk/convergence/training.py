"""Adversarial training of one network, projected on B(R), and what is measured of it.

    programs = Programs(design, strong, rate)                    # compiled at their first use
    train = programs.train(attack)
    movement, losses = train(start, movement, x, y, radius, epsilon, length)
    found = programs.measure(start, movement, x, y, epsilon, key)

The loss is the logistic one, l(z) = log(1 + exp(-z)) of z = y f(x), convex and Lipschitz as the
theory wants it. L_A(U) is its mean at the points that the attack A gives for U; a step of training
goes down the gradient at these points, which count as constants, and back into B(R). L_* is the
mean of the largest loss in the cap, for which a much stronger attack stands in: many steps from
several starts, among them x and the end of A.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ntk.convergence.network import (
    Design,
    Movement,
    Start,
    features,
    length,
    linear_output,
    output,
    project,
    unit_of,
)
from war_jax.attacks.pgd import Budget, pgd
from war_jax.attacks.sphere import Cap

Model = Callable[[Array], Array]  # (n, d) -> (n,)


def logistic(margin: Array) -> Array:
    return jax.nn.softplus(-margin)


def weak_attack(name: str, model: Model, x: Array, y: Array, epsilon: Array) -> Array:
    """A: 'none', 'fgsm' (one step of epsilon) or 'pgdK' (K steps of 2.5 epsilon / K), from x."""
    if name == 'none':
        return x
    num_steps = 1 if name == 'fgsm' else int(name.removeprefix('pgd'))
    step_size = epsilon if name == 'fgsm' else 2.5 * epsilon / num_steps
    budget = Budget(num_steps, step_size, 'none', 0.0)
    keys = jax.random.split(jax.random.key(0), x.shape[0])  # of no use: the start is x
    return pgd(keys, lambda z: logistic(y * model(z)), x, Cap(epsilon, fixed=1), budget)


class Strong(NamedTuple):
    num_steps: int
    restarts: int  # random ones, beside that from x


def strong_attack(
    model: Model, x: Array, y: Array, epsilon: Array, key: Array, strong: Strong
) -> Array:
    """The worst points found: (n, d) -> (n, d)."""
    cap = Cap(epsilon, fixed=1)
    size = 2.5 * epsilon / strong.num_steps

    def loss(z: Array) -> Array:
        return logistic(y * model(z))

    def attack(keys: Array, init_scale: Array) -> Array:
        budget = Budget(strong.num_steps, size, 'uniform', init_scale)  # pyright: ignore[reportArgumentType]
        return pgd(keys, loss, x, cap, budget)

    keys = jax.random.split(key, (strong.restarts + 1, x.shape[0]))
    scales = jnp.arange(strong.restarts + 1) > 0
    found = jax.vmap(attack)(keys, scales.astype(x.dtype))
    found = jnp.concatenate([found, x[None]])
    losses = jax.vmap(loss)(found)
    return found[jnp.argmax(losses, 0), jnp.arange(x.shape[0])]


class Programs:
    """What is compiled for a design: once per width, and for training per attack."""

    def __init__(self, design: Design, strong: Strong, rate: float):
        self.design, self.strong, self.rate = design, strong, rate
        self._train: dict[str, Callable[..., tuple[Movement, Array]]] = {}
        self.measure = jax.jit(self._measure)
        self.cut = jax.jit(self._cut)
        self.features = jax.jit(lambda start, x: features(design, start, x))

    def train(self, attack: str) -> Callable[..., tuple[Movement, Array]]:
        """(start, movement, x (n, d), y (n,), radius, epsilon, steps) -> movement, L_A (steps,).

        L_A is that before each step. `steps` is an array whose length alone counts.
        """
        if attack not in self._train:

            def run(start, movement, x, y, radius, epsilon, steps):
                def step(movement: Movement, _) -> tuple[Movement, Array]:
                    def model(u: Movement) -> Model:
                        return lambda z: output(self.design, start, u, z)

                    x_adv = weak_attack(attack, model(movement), x, y, epsilon)
                    loss, slopes = jax.value_and_grad(
                        lambda u: logistic(y * model(u)(x_adv)).mean()
                    )(movement)
                    moved = tuple(u - self.rate * g for u, g in zip(movement, slopes, strict=True))
                    return project(moved, radius), loss

                return jax.lax.scan(step, movement, steps)

            self._train[attack] = jax.jit(run)
        return self._train[attack]

    def _measure(
        self, start: Start, movement: Movement, x: Array, y: Array, epsilon: Array, key: Array
    ) -> dict[str, Array]:
        """L_*, and how far the network is from its start and from its linearisation there.

        linearisation_error: ||f - f_lin|| / ||f_lin|| over the points of the strong attack.
        movement: || U_l ||_F, (layers,). row_movement: the largest || w_r - w_r(0) ||, (layers,).
        """

        def model(z: Array) -> Array:
            return output(self.design, start, movement, z)

        worst = strong_attack(model, x, y, epsilon, key, self.strong)
        found, linear = model(worst), linear_output(self.design, start, movement, worst)
        rows = [jnp.sqrt(jnp.sum(jnp.square(u), -1)).max() for u in movement]
        return {
            'robust_loss': logistic(y * found).mean(),
            'robust_error': (y * found <= 0).mean(),
            'linearisation_error': length(found - linear) / length(linear),
            'movement': jnp.stack([length(u) for u in movement]),
            'row_movement': unit_of(self.design, start) * jnp.stack(rows),
        }

    def _cut(
        self, start: Start, movement: Movement, x: Array, y: Array, epsilon: Array, key: Array
    ) -> tuple[Array, Array]:
        """The worst points of the linearised network (n, d), and its losses there (n,)."""

        def model(z: Array) -> Array:
            return linear_output(self.design, start, movement, z)

        worst = strong_attack(model, x, y, epsilon, key, self.strong)
        return worst, logistic(y * model(worst))
