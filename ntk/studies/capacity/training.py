"""Tries to interpolate a set of points with a two-layer network of a given width.

    trial = Trials(num_steps=1000, attack_steps=5, learning_rate=0.03, restarts=4,
                   verify=Strong(num_steps=30, restarts=4))
    trial(points, labels, width=12, epsilon=0.05, seed=0)         # the share of points that stand

f(x) = sum_r a_r relu(w_r . x), all weights trained with Adam on the logistic loss at adversarial
points, from several starts at once. The radius of the caps grows from 0 to epsilon in the first
half of the steps: trained at the full radius from the start, thin networks end as a constant. The
learning rate falls to 0 along a cosine.

Units are padded to one of a few widths, so that a program is compiled for each of these only: a
unit beyond the width has weights of 0, which stay 0.

A network counts if the verifying attack breaks no point: many steps from x, from random starts and
from the point of the cap that is nearest to the partner of the other label. What it finds to be
robust is so as far as this attack can tell, and a width that fails may have been trained badly: the
smallest width found is an upper bound of the smallest there is.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ntk.studies.adversary import Strong, strong_attack, weak_attack
from ntk.studies.capacity.settings import WIDEST
from war_jax.attacks.sphere import Cap

Weights = tuple[Array, Array]  # (m, d), (m,)
_PADDED = (16, 64, 256, WIDEST)


def network(weights: Weights, x: Array) -> Array:
    """(n, d) -> (n,)."""
    inner, outer = weights
    return jax.nn.relu(x @ inner.T) @ outer


class Trials:
    """Calling it trains once; its programs are compiled for each shape of the data."""

    def __init__(
        self, num_steps: int, attack_steps: int, learning_rate: float, restarts: int, verify: Strong
    ):
        self.num_steps, self.restarts = num_steps, restarts
        self.attack = f'pgd{attack_steps}'
        self.verify = verify
        schedule = optax.cosine_decay_schedule(learning_rate, num_steps)
        self.optimizer = optax.adam(schedule)
        self._programs: dict[bool, Callable[..., Array]] = {}

    def __call__(
        self, points: Array, labels: Array, width: int, epsilon: float, seed: int
    ) -> float:
        """Of the best restart. points (n, d), those of a pair in rows 2 j and 2 j + 1."""
        plain = epsilon == 0
        if plain not in self._programs:
            self._programs[plain] = jax.jit(
                jax.vmap(self._program(plain), (0, None, None, None, None))
            )
        keys = jax.random.split(jax.random.key(seed), self.restarts)
        padded = next(size for size in _PADDED if size >= width)
        mask = jnp.asarray(np.arange(padded) < width, jnp.float32)
        return float(self._programs[plain](keys, points, labels, mask, epsilon).max())

    def _program(self, plain: bool) -> Callable[..., Array]:
        def run(key: Array, x: Array, y: Array, mask: Array, epsilon: Array) -> Array:
            weights = start(key, mask, x.shape[1])

            def loss(weights: Weights, z: Array) -> Array:
                return jax.nn.softplus(-y * network(weights, z)).mean()

            def step(carry: Any, number: Array) -> tuple[Any, None]:
                weights, state = carry
                radius = epsilon * jnp.minimum(1.0, 2.0 * number / self.num_steps)
                name = 'none' if plain else self.attack
                z = weak_attack(name, lambda z: network(weights, z), x, y, radius)
                slopes = jax.grad(loss)(weights, z)
                # ReLU's slope at 0 is 0, and so are those of the units beyond the width.
                updates, state = self.optimizer.update(slopes, state)
                return (optax.apply_updates(weights, updates), state), None

            carry: Any = (weights, self.optimizer.init(weights))
            (weights, _), _ = jax.lax.scan(step, carry, jnp.arange(self.num_steps))
            return self._standing(weights, x, y, epsilon, jax.random.fold_in(key, 1))

        return run

    def _standing(self, weights: Weights, x: Array, y: Array, epsilon: Array, key: Array) -> Array:
        """The share of points that no point of the cap was found to break."""

        def model(z: Array) -> Array:
            return network(weights, z)

        partners = x.reshape(-1, 2, x.shape[1])[:, ::-1].reshape(x.shape)
        towards = Cap(epsilon, fixed=1).project(partners, x)
        worst = strong_attack(model, x, y, epsilon, key, self.verify)
        return ((y * model(worst) > 0) & (y * model(towards) > 0)).mean()


def start(key: Array, mask: Array, dimension: int) -> Weights:
    """Gaussian: inner weights of variance 2, outer ones of 1 / m, and 0 beyond the width m."""
    inner_key, outer_key = jax.random.split(key)
    inner = math.sqrt(2.0) * jax.random.normal(inner_key, (mask.size, dimension))
    outer = jax.random.normal(outer_key, (mask.size,)) / jnp.sqrt(mask.sum())
    return inner * mask[:, None], outer * mask


def smallest_width(
    interpolates: Callable[[int], bool], widest: int, ratio: float
) -> tuple[int | None, list[tuple[int, bool]]]:
    """Doubling from 1 until a width interpolates, then bisection; and every width tried.

    Ends when the smallest width that does is at most `ratio` times the largest that does not, or
    one more. None if no width up to `widest` does. Takes it that wider networks can do no less.
    """
    tried: list[tuple[int, bool]] = []

    def attempt(width: int) -> bool:
        tried.append((width, interpolates(width)))
        return tried[-1][1]

    low, high = 0, 1
    while not attempt(high):
        if high == widest:
            return None, tried
        low, high = high, min(2 * high, widest)
    while high - low > 1 and high > ratio * low:
        middle = (low + high) // 2
        if attempt(middle):
            high = middle
        else:
            low = middle
    return high, tried
