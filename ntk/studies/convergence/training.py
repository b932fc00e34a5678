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

import jax
import jax.numpy as jnp
from jax import Array

from ntk.studies.adversary import Model, Strong, strong_attack, weak_attack
from ntk.studies.convergence.network import (
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


def logistic(margin: Array) -> Array:
    return jax.nn.softplus(-margin)


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
