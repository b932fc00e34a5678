"""Natural accuracy, robust accuracy and perturbation stability, example by example.

    attacks = make_attacks(model, mesh, threat, budget)
    outcome = run_attack(attacks['ce'], variables, key, data, eval_plan(len(data), 256), restarts=5)
    counts = count(outcome)             # counts.robust <= min(counts.natural, counts.stable)

As sets of examples (Wu et al. 2021): natural = {f(x) = y}, stable = {f(x_adv) = f(x) for
every x_adv found}, robust = natural and stable. The clean point lies in the ball, so an example
that is misclassified without an attack is never robust. Every figure under a finite attack is an
upper bound of the true one.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from war_jax.attacks.losses import cross_entropy, kl_divergence, margin_loss
from war_jax.attacks.pgd import Budget, attack_trace
from war_jax.attacks.threat import ThreatModel
from war_jax.data.batches import Batch, BatchSource, Plan
from war_jax.data.device import as_unit_interval
from war_jax.lowering import for_mesh
from war_jax.mesh import AXIS, fetched
from war_jax.models import forward
from war_jax.models.parts import by_parts

AttackLoss = Literal['ce', 'cw', 'kl']
LOSSES: tuple[AttackLoss, ...] = ('ce', 'cw', 'kl')


class Attacked(NamedTuple):
    """One batch under one run of one attack; leading axis (b,)."""

    clean_prediction: Array  # int
    adv_prediction: Array  # int
    max_grad_l1: Array  # largest ||grad_x loss||_1 met during the attack
    x_adv: Array  # (b, h, w, c)


class Outcome(NamedTuple):
    """Per example of a data set, (n,), over all restarts."""

    natural: np.ndarray  # bool
    stable: np.ndarray  # bool
    max_grad_l1: np.ndarray  # float

    @property
    def robust(self) -> np.ndarray:
        return self.natural & self.stable


class Counts(NamedTuple):
    """Integers, so that no ragged last batch can bias a mean."""

    num_examples: int
    natural: int
    stable: int
    robust: int


Attack = Callable[[forward.Variables, Array, Batch, Array], Attacked]


def make_attacks(
    model: nn.Module, mesh: Mesh, threat: ThreatModel, budget: Budget
) -> dict[AttackLoss, Attack]:
    """By its loss, a jitted attack (variables, key, batch, scale) -> Attacked, split over the mesh.

    'ce' climbs the cross-entropy of the label, 'cw' the margin to the best other class, 'kl' the
    divergence from the clean prediction, which is what stability asks about and needs no label.
    scale multiplies epsilon and step size. All losses and scales share one compiled program: they
    differ in nothing but what is done with the logits, and compiling takes a while.
    """

    def attack(
        variables: forward.Variables, key: Array, batch: Batch, scale: Array, loss: Array
    ) -> Attacked:
        scaled_threat = ThreatModel(threat.norm, threat.epsilon * scale)
        scaled_budget = Budget(
            budget.num_steps, budget.step_size * scale, budget.init, budget.init_scale
        )

        def attacked(batch: Batch) -> Attacked:
            x = as_unit_interval(batch.images, param_dtype(variables))
            predict = partial(forward.evaluate, model, forward.prepared(model, variables, x))
            clean_logits = predict(x)
            by_loss = {
                'ce': lambda logits: cross_entropy(logits, batch.labels),
                'cw': lambda logits: margin_loss(logits, batch.labels),
                'kl': lambda logits: kl_divergence(clean_logits, logits),
            }
            branches = [by_loss[name] for name in LOSSES]

            def attack_loss(z: Array) -> Array:
                return jax.lax.switch(loss, branches, predict(z))

            keys = example_keys(key, batch)
            trace = attack_trace(keys, attack_loss, x, scaled_threat, scaled_budget)
            return Attacked(
                clean_logits.argmax(-1),
                predict(trace.x_adv).argmax(-1),
                trace.max_grad_l1,
                trace.x_adv,
            )

        return by_parts(attacked, batch)

    specs = (P(), P(), P(AXIS), P(), P())
    mapped = jax.shard_map(attack, mesh=mesh, in_specs=specs, out_specs=P(AXIS))
    program = jax.jit(for_mesh(mapped, mesh))

    def with_loss(number: int) -> Attack:
        return lambda *arguments: program(*arguments, jnp.int32(number))

    return {loss: with_loss(number) for number, loss in enumerate(LOSSES)}


def run_attack(
    attack: Attack,
    variables: forward.Variables,
    key: Array,
    data: BatchSource,
    plan: Plan,
    restarts: int = 1,
    scale: float = 1.0,
    on_batch: Callable[[], object] = lambda: None,
) -> Outcome:
    """Attack the examples of `plan` `restarts` times; stable means that no run changed the label.

    on_batch is called after each batch of each restart, when the next one is under way.
    """

    def runs() -> Iterator[tuple[Array, ...]]:
        for indices, mask in zip(plan.indices, plan.mask, strict=True):
            batch = data.batch(indices, mask)
            for restart in range(restarts):
                start = jax.random.fold_in(key, restart)
                attacked = attack(variables, start, batch, jnp.float32(scale))
                yield (batch.labels, *attacked[:3])

    natural, stable = np.ones((2, *plan.mask.shape), bool)
    max_grad_l1 = np.zeros(plan.mask.shape)
    for number, (labels, clean, adversarial, grad_l1) in enumerate(fetched(runs())):
        row = number // restarts
        natural[row] = clean == labels
        stable[row] &= adversarial == clean
        max_grad_l1[row] = np.maximum(max_grad_l1[row], grad_l1)
        on_batch()
    return Outcome(natural[plan.mask], stable[plan.mask], max_grad_l1[plan.mask])


def count(outcome: Outcome) -> Counts:
    sets = (outcome.natural, outcome.stable, outcome.robust)
    return Counts(len(outcome.natural), *(int(members.sum()) for members in sets))


def example_keys(key: Array, batch: Batch) -> Array:
    """(b,) keys: one per example of the data set, whatever batch or device it is in."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(batch.ids)


def param_dtype(variables: forward.Variables) -> jnp.dtype:
    return jax.tree.leaves(variables['params'])[0].dtype
