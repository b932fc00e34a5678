"""How far the nearest image with another prediction is: FAB, then bisection onto the boundary.

    search = make_search(classify, num_steps=20)               # compiled once for all networks
    distances, points = nearest_boundary(search, params, x)    # (n,), (n, h, w, c)

An upper bound of the true distance: the point found is in the box and has another prediction, up to
the rounding of the last bisection. All classes but the predicted one are targets (Croce & Hein
2020a); of a linear classifier the point found is the nearest one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from war_jax.attacks.fab import Fab, FabState
from war_jax.attacks.machine import Classifier, ask
from war_jax.attacks.threat import ThreatModel

NUM_BISECTIONS = 20  # of the segment to the point: 1e-6 of its length
_START = ThreatModel('l2', 0.0)  # radius of random restarts, of which there are none


class Search(NamedTuple):
    """Jitted; rows are pairs of an image and a target class."""

    attack: Fab
    start: Callable[..., tuple[Array, Array, FabState]]  # params, x -> rows of x, labels, state
    step: Callable[..., FabState]  # params, x, labels, state
    finish: Callable[..., tuple[Array, Array]]  # params, x, labels, state -> distances, points


def make_search(classify: Classifier, num_steps: int) -> Search:
    """classify: (params, images (b, h, w, c)) -> logits (b, classes). num_steps: per target."""
    attack = Fab(_START, num_steps=num_steps)

    def keys_of(x: Array) -> Array:
        return jax.random.split(jax.random.key(0), len(x))  # used by restarts alone

    def start(params: Any, x: Array) -> tuple[Array, Array, FabState]:
        logits = classify(params, x)
        num_targets = logits.shape[-1] - 1
        # One row per image and target, so that all are searched at the same time.
        x, logits = (jnp.repeat(array, num_targets, 0) for array in (x, logits))
        labels = logits.argmax(-1)
        stages = jnp.tile(jnp.arange(num_targets), len(x) // num_targets)
        return x, labels, attack.start(keys_of(x), x, labels, logits, stages)

    def step(params: Any, x: Array, labels: Array, state: FabState) -> FabState:
        _, state, answer = ask(attack, partial(classify, params), state, x, labels)
        return attack.observe(state, keys_of(x), x, labels, answer)

    def finish(params: Any, x: Array, labels: Array, state: FabState) -> tuple[Array, Array]:
        def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            inside, outside = ends
            middle = (inside + outside) / 2
            share = middle.reshape(-1, 1, 1, 1)
            same = classify(params, x + share * (state.best - x)).argmax(-1) == labels
            return jnp.where(same, middle, inside), jnp.where(same, outside, middle)

        ends = (jnp.zeros_like(state.distance), jnp.ones_like(state.distance))
        _, share = jax.lax.fori_loop(0, NUM_BISECTIONS, halve, ends)
        points = x + share.reshape(-1, 1, 1, 1) * (state.best - x)
        found = jnp.isfinite(state.distance)
        return jnp.where(found, attack.threat.length(points - x), jnp.inf), points

    return Search(attack, jax.jit(start), jax.jit(step, donate_argnums=3), jax.jit(finish))


def nearest_boundary(search: Search, params: Any, x: Array) -> tuple[np.ndarray, np.ndarray]:
    """(n, h, w, c) in [0, 1] -> distances (n,) in L2, and the points; infinite if none was found.

    Memory: that of (classes - 1) n images at a time.
    """
    rows, labels, state = search.start(params, x)
    for _ in range(search.attack.num_evaluations()):
        state = search.step(params, rows, labels, state)
    distances, points = jax.device_get(search.finish(params, rows, labels, state))
    of_targets = distances.reshape(len(x), -1)
    best = of_targets.argmin(1)
    every = np.arange(len(x))
    return of_targets[every, best], points.reshape(*of_targets.shape, *x.shape[1:])[every, best]
