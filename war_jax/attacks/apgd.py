"""Auto-PGD (Croce & Hein 2020b): projected ascent that finds its own step size.

    attack = Apgd('apgd-ce', ThreatModel('linf', 8 / 255), 'ce')             # see attacks.machine

Steps start at twice epsilon and carry momentum. At the checkpoints of a fixed schedule an example's
step is halved, and its run goes on from the best point so far, if too few of the steps since the
last checkpoint climbed, or if neither step size nor best loss has changed since.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from war_jax.attacks.losses import cross_entropy, dlr_loss, targeted_dlr_loss
from war_jax.attacks.machine import Answer, ranked_target, rows, targets_of
from war_jax.attacks.pgd import climb
from war_jax.attacks.threat import ThreatModel
from war_jax.config_rules import convert

Objective = Literal['ce', 'dlr', 'targets']
INERTIA = 0.75  # alpha in the paper: the share of the new step
CLIMBS = 0.75  # rho in the paper: the share of steps that should climb


class ApgdState(NamedTuple):
    """Leading axis (b,); images (b, h, w, c), all else (b,)."""

    point: Array
    previous: Array  # where the last step started
    best: Array
    best_gradient: Array
    best_loss: Array
    last_loss: Array
    step: Array  # evaluations so far
    step_size: Array
    climbs: Array  # steps that climbed since the last checkpoint
    halved: Array  # bool, at the last checkpoint
    checked_loss: Array  # best loss at the last checkpoint
    target: Array  # class, of the targeted loss


@dataclass(frozen=True)
class Apgd:
    """objective 'ce', 'dlr', or 'targets': the DLR loss of one other class after another.

    Of the latter at most `num_targets`, the likeliest first. Every iterate counts.
    Raises ConfigError for any other objective.
    """

    name: str
    threat: ThreatModel
    objective: Objective
    num_steps: int = 100
    restarts: int = 1
    num_targets: int = 9
    uses_gradient = True
    looks_first = False

    def __post_init__(self) -> None:
        convert('objective', self.objective, Objective)

    def num_stages(self, num_classes: int) -> int:
        return self.restarts * targets_of(self.objective, self.num_targets, num_classes)

    def num_evaluations(self) -> int:
        return self.num_steps + 1

    def start(
        self, keys: Array, x: Array, labels: Array, clean_logits: Array, stages: Array
    ) -> ApgdState:
        """From a random point of the ball's surface, in the directions of the norm's own noise."""
        if self.threat.norm == 'linf':
            draw = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:], x.dtype, -1, 1))(keys)
        else:
            draw = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
        length = self.threat.length(draw).reshape(-1, *[1] * (x.ndim - 1))
        point = jnp.clip(x + self.threat.epsilon * draw / length, 0.0, 1.0)
        zeros, count = jnp.zeros_like(x, shape=x.shape[:1]), jnp.zeros_like(labels)
        return ApgdState(
            point=point,
            previous=point,
            best=point,
            best_gradient=jnp.zeros_like(x),
            best_loss=zeros,
            last_loss=zeros,
            step=count,
            step_size=zeros + 2 * self.threat.epsilon,
            climbs=count,
            halved=jnp.ones_like(labels, bool),
            checked_loss=zeros,
            target=ranked_target(clean_logits, labels, stages // self.restarts),
        )

    def loss(self, state: ApgdState, logits: Array, labels: Array) -> Array:
        if self.objective == 'targets':
            return targeted_dlr_loss(logits, labels, state.target)
        return (cross_entropy if self.objective == 'ce' else dlr_loss)(logits, labels)

    def observe(
        self, state: ApgdState, keys: Array, x: Array, labels: Array, answer: Answer
    ) -> ApgdState:
        del keys, labels
        loss, first = answer.losses, state.step == 0
        found = (state.point, answer.gradient, loss)
        known = (state.best, state.best_gradient, state.best_loss)
        best, best_gradient, best_loss = rows(first | (loss > state.best_loss), found, known)

        window = jnp.asarray(self._windows)[jnp.minimum(state.step, self.num_steps)]
        climbs = state.climbs + (~first & (loss > state.last_loss))
        unchanged = ~state.halved & (state.checked_loss >= best_loss)
        check = window > 0
        halve = check & ((climbs <= CLIMBS * window) | unchanged)
        step_size = jnp.where(halve, state.step_size / 2, state.step_size)
        here, gradient = rows(halve, (best, best_gradient), (state.point, answer.gradient))

        length = step_size.reshape(-1, *[1] * (x.ndim - 1))
        moved = climb(here, gradient, x, self.threat, length)
        onward = INERTIA * (moved - here) + (1 - INERTIA) * (here - state.previous)
        return ApgdState(
            point=rows(first, moved, self.threat.project(here + onward, x)),
            previous=here,
            best=best,
            best_gradient=best_gradient,
            best_loss=best_loss,
            last_loss=loss,
            step=state.step + 1,
            step_size=step_size,
            climbs=jnp.where(check, 0, climbs),
            halved=jnp.where(check, halve, state.halved),
            checked_loss=jnp.where(first | check, best_loss, state.checked_loss),
            target=state.target,
        )

    def counts(self, state: ApgdState) -> Array:
        return jnp.ones_like(state.halved)

    def finished(self, state: ApgdState) -> Array:
        return state.step > self.num_steps

    @cached_property
    def _windows(self) -> np.ndarray:
        """(num_steps + 1,): at a checkpoint the number of steps since the one before, else 0.

        Of 100 steps, checkpoints are 22, 41, 57, 70, 80, 87, 93, 99 (section 3.3 of the paper).
        """
        window, least, shrink = (max(int(p * self.num_steps), 1) for p in (0.22, 0.06, 0.03))
        windows, step = np.zeros(self.num_steps + 1, np.int32), window
        while step <= self.num_steps:
            windows[step] = window
            window = max(window - shrink, least)
            step += window
        return windows
