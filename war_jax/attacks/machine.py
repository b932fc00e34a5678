"""Attacks as machines, which ask for one evaluation of the network at a time; and PGD as such.

    state = attack.start(keys, x, labels, clean_logits, stages)
    while not attack.finished(state).all():
        logits, state, answer = ask(attack, network, state, x, labels)     # logits at the old point
        state = attack.observe(state, keys, x, labels, answer)

Every row is an example on its own, at its own place in its own run, so that whoever drives a
machine (`war_jax.robustness.pool`) can take out a row that is done and put another example in. What
happens to an example depends on nothing but the network, its image and its key.

A run of a machine is a stage: a restart, or a target class.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from war_jax.attacks.losses import cross_entropy, margin_loss, targeted_margin
from war_jax.attacks.pgd import Budget, climb, random_start
from war_jax.attacks.threat import ThreatModel
from war_jax.config_rules import convert

Objective = Literal['ce', 'cw', 'targets']


class Answer(NamedTuple):
    """What the network said at a point; leading axis (b,)."""

    logits: Array  # (b, classes)
    losses: Array  # (b,) the machine's own
    gradient: Array  # (b, h, w, c) of those by the image; zeros for a machine that asks for none


class Attack(Protocol):
    """Frozen dataclasses; the state is a NamedTuple of arrays (b, ...), `point` among them."""

    @property
    def name(self) -> str: ...

    @property
    def threat(self) -> ThreatModel: ...

    @property
    def uses_gradient(self) -> bool: ...

    @property
    def looks_first(self) -> bool:
        """Whether it wants to know the logits before the gradient; it has a method `look` then."""
        ...

    def num_stages(self, num_classes: int) -> int: ...

    def num_evaluations(self) -> int:
        """Of one stage, at most."""
        ...

    def start(
        self, keys: Array, x: Array, labels: Array, clean_logits: Array, stages: Array
    ) -> Any:
        """keys (b,), x (b, h, w, c), labels (b,), clean_logits (b, k), stages (b,) -> state."""
        ...

    def loss(self, state: Any, logits: Array, labels: Array) -> Array:
        """(b,): what is climbed."""
        ...

    def observe(self, state: Any, keys: Array, x: Array, labels: Array, answer: Answer) -> Any:
        """The state with the next point to be evaluated."""
        ...

    def counts(self, state: Any) -> Array:
        """(b,) bool: whether the attack shows its point, or has been there only on its way."""
        ...

    def finished(self, state: Any) -> Array:
        """(b,) bool."""
        ...


class AscentState(NamedTuple):
    point: Array  # (b, h, w, c)
    step: Array  # (b,) int32, evaluations so far
    target: Array  # (b,) int32


@dataclass(frozen=True)
class Ascent:
    """Projected gradient ascent from uniform starts, `restarts` times.

    relative_step: length of a step, in units of epsilon.
    objective 'ce': the label's cross-entropy. 'cw': the margin of the best other class. 'targets':
    the margin of one other class after another, the likeliest first (MultiTargeted; Gowal et al.
    2019), at most `num_targets`.
    only_last: an example is broken only by the last iterate of a run, as the papers that report
    PGD-20 have it; else by any.
    Raises ConfigError for any other objective.
    """

    name: str
    threat: ThreatModel
    objective: Objective
    num_steps: int
    relative_step: float
    restarts: int
    only_last: bool
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
    ) -> AscentState:
        point = random_start(keys, x, self.threat, Budget(0, 0.0, 'uniform', 1.0))
        target = ranked_target(clean_logits, labels, stages // self.restarts)
        return AscentState(point, jnp.zeros_like(labels), target)

    def loss(self, state: AscentState, logits: Array, labels: Array) -> Array:
        if self.objective == 'targets':
            return targeted_margin(logits, labels, state.target)
        return (cross_entropy if self.objective == 'ce' else margin_loss)(logits, labels)

    def observe(
        self, state: AscentState, keys: Array, x: Array, labels: Array, answer: Answer
    ) -> AscentState:
        del keys, labels
        length = self.relative_step * self.threat.epsilon
        point = climb(state.point, answer.gradient, x, self.threat, length)
        return state._replace(point=point, step=state.step + 1)

    def counts(self, state: AscentState) -> Array:
        # The start need not lie in the ball; its projection is the first step's.
        return state.step >= (self.num_steps if self.only_last else 1)

    def finished(self, state: AscentState) -> Array:
        return state.step > self.num_steps


def ask(
    attack: Any, network: Callable[[Array], Array], state: Any, x: Array, labels: Array
) -> tuple[Array, Any, Answer]:
    """The logits at the state's point; the state that has looked at them; the answer at its point.

    network: images (b, h, w, c) -> logits (b, classes). That point is the old one but for attacks
    that look first: `look(state, x, labels, logits)` may have moved it.
    """

    def total(point: Array) -> tuple[Array, tuple[Array, Array]]:
        logits = network(point)
        losses = attack.loss(state, logits, labels)
        return jnp.sum(losses), (logits, losses)

    if not attack.uses_gradient:
        _, (logits, losses) = total(state.point)
        return logits, state, Answer(logits, losses, jnp.zeros_like(x))
    seen = None
    if attack.looks_first:
        seen = network(state.point)
        state = attack.look(state, x, labels, seen)
    gradient, (logits, losses) = jax.grad(total, has_aux=True)(state.point)
    return logits if seen is None else seen, state, Answer(logits, losses, gradient)


def targets_of(objective: str, num_targets: int, num_classes: int) -> int:
    """How many classes an attack goes through, one stage after another."""
    return min(num_targets, num_classes - 1) if objective == 'targets' else 1


def ranked_target(clean_logits: Array, labels: Array, ranks: Array) -> Array:
    """(b, k), (b,), (b,) -> (b,): at rank 0 the likeliest class but the label, at 1 the next."""
    is_label = jax.nn.one_hot(labels, clean_logits.shape[-1], dtype=bool)
    order = jnp.argsort(-jnp.where(is_label, -math.inf, clean_logits), axis=-1)
    ranks = jnp.minimum(ranks, clean_logits.shape[-1] - 1)
    return jnp.take_along_axis(order, ranks[:, None], 1)[:, 0].astype(labels.dtype)


def rows(condition: Array, yes: Any, no: Any) -> Any:
    """Trees of arrays (b, ...), row by row: `yes` where the condition (b,) holds."""

    def choose(yes: Array, no: Array) -> Array:
        return jnp.where(condition.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)

    return jax.tree.map(choose, yes, no)


Classifier = Callable[[Any, Array], Array]  # (params, images (b, h, w, c)) -> logits (b, k)
