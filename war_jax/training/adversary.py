"""The attack inside the training step: `pgd` on the objective's loss, and how it may differ.

    find = make_adversary(model, objective, threat, budget, AttackOptions(early_stop=1))
    x_adv = find(state, keys, batch)                   # of batch.images (b, h, w, c) in [0, 1]

Runs on each device's rows under `shard_map`. Everything that changes during training is a function
of `state.step`: one compiled step serves all of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from war_jax.attacks.friendly import friendly_pgd
from war_jax.attacks.pgd import Budget, pgd
from war_jax.attacks.threat import ThreatModel
from war_jax.config_rules import convert
from war_jax.data.batches import Batch
from war_jax.mesh import total
from war_jax.models import forward
from war_jax.models.parts import by_parts
from war_jax.training.objective import Objective, likeliest
from war_jax.training.state import TrainState

BatchNormInAttack = Literal['eval', 'train']
Adversary = Callable[[TrainState, Array, Batch], Array]


@dataclass(frozen=True)
class AttackOptions:
    """warmup_steps: over so many, epsilon and step size grow linearly, step / its steps from 1 on.

    batch_norm 'eval': by the running statistics; 'train': by those of the rows that are attacked
    together, wherever they are, without padding. early_stop: the steps an image still takes once it
    is misclassified, -1 for all. Raises ConfigError for another batch_norm.
    """

    warmup_steps: int = 0
    early_stop: int = -1
    batch_norm: BatchNormInAttack = 'eval'

    def __post_init__(self) -> None:
        convert('attack.batch_norm', self.batch_norm, BatchNormInAttack)


def make_adversary(
    model: nn.Module,
    objective: Objective,
    threat: ThreatModel,
    budget: Budget,
    options: AttackOptions,
    accumulation: int = 1,
) -> Adversary:
    """(state, keys (b,), augmented batch) -> x_adv; `batch` may be one of `accumulation` parts."""
    together = options.batch_norm == 'train'

    def find(state: TrainState, keys: Array, batch: Batch) -> Array:
        at, steps, dtype = threat, budget, batch.images.dtype
        if options.warmup_steps:
            share = jnp.minimum((state.step + 1) / options.warmup_steps, 1).astype(dtype)
            at = replace(threat, epsilon=threat.epsilon * share)
            steps = replace(budget, step_size=budget.step_size * share)

        ready = forward.prepared(model, state.variables, batch.images)

        def find_rows(x: Array, labels: Array, keys: Array, mask: Array) -> Array:
            def predict(z: Array) -> Array:
                if together:
                    seen = seen_by_norms(mask, accumulation)
                    return forward.train(model, ready, z, seen)[0]
                return forward.evaluate(model, ready, z)

            # The target does not depend on the perturbation: one pass, not one per step.
            clean_logits = predict(x)

            def judged_loss(z: Array) -> tuple[Array, Array]:
                logits = predict(z)
                losses = objective.attack_loss(logits, clean_logits, labels)
                if together:  # padding has a loss, too, which real images would help to raise
                    losses = jnp.where(mask, losses, 0)
                return losses, logits.argmax(-1) != likeliest(labels)

            if options.early_stop >= 0:
                return friendly_pgd(keys, judged_loss, x, at, steps, options.early_stop)
            return pgd(keys, lambda z: judged_loss(z)[0], x, at, steps)

        rows = (batch.images, batch.labels, keys, batch.mask)
        return find_rows(*rows) if together else by_parts(find_rows, *rows)

    return find


def seen_by_norms(mask: Array, accumulation: int) -> Array:
    """(b,) -> (b,): of which rows BatchNorm takes its moments in training mode.

    A part of a batch may be nothing but padding, whose variance of 0 would amplify it.
    """
    if accumulation == 1:
        return mask
    return jnp.where(total(mask.sum()) > 0, mask, True)
