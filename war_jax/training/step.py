"""One adversarial training step: augment, attack, two risks, one update.

    step = make_train_step(model, objective, threat, budget, tx, mesh, options)
    state, metrics = step(state, jax.random.key(seed), rule, batch)      # state is donated

The one file that puts the parts together. It runs once per device under `shard_map`, on that
device's rows of the batch; means over the batch are sums over all devices. All randomness is a
function of (key, state.step, example id): neither the number of devices nor an interruption
changes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from war_jax.attacks import awp, pgd
from war_jax.attacks.threat import ThreatModel
from war_jax.config_rules import convert
from war_jax.data.augment import crop_flip
from war_jax.data.batches import Batch
from war_jax.data.device import as_unit_interval
from war_jax.mesh import AXIS, to_each, total
from war_jax.models import forward
from war_jax.models.parts import by_parts
from war_jax.training.objective import Objective
from war_jax.training.state import TrainState
from war_jax.training.war import WarRule, war_update


@dataclass(frozen=True)
class StepOptions:
    """What is constant in the compiled step, beyond network, objective and attack.

    pad, flip: augmentation. bn_momentum, bn_updates: how the passes 'natural' and 'adversarial'
    enter the running statistics, in order. awp_gamma 0 and ema_decay 0 mean off; awp_start is the
    first step that perturbs weights. accumulation: parts of each device's rows that are worked on
    one after the other; BatchNorm's moments are then of parts, and their mean over the parts enters
    the running statistics.
    Raises ConfigError for a pass of another name.
    """

    pad: int = 0
    flip: bool = False
    bn_momentum: float = 0.1
    bn_updates: tuple[str, ...] = ('natural', 'adversarial')
    awp_gamma: float = 0.0
    awp_start: int = 0
    ema_decay: float = 0.0
    accumulation: int = 1

    def __post_init__(self) -> None:
        convert('bn_updates', self.bn_updates, tuple[Literal['natural', 'adversarial'], ...])


class Metrics(NamedTuple):
    """Scalars of one step, over the real examples of the global batch, before its update.

    Risks and accuracies are of the training-mode passes, so the adversarial images, found against
    the running statistics, meet the batch's own: adversarial_accuracy is no robust accuracy. With
    adversarial weight perturbation they are those at the perturbed weights.
    """

    loss: Array
    natural_risk: Array
    robust_regularization: Array
    lam: Array
    natural_accuracy: Array
    adversarial_accuracy: Array
    gradient_norm: Array


TrainStep = Callable[[TrainState, Array, WarRule, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    model: nn.Module,
    objective: Objective,
    threat: ThreatModel,
    budget: pgd.Budget,
    tx: optax.GradientTransformation,
    mesh: Mesh,
    options: StepOptions,
) -> TrainStep:
    """The jitted step over `mesh`; its batch's rows are split over the devices."""

    def step(
        state: TrainState, key: Array, rule: WarRule, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        def attacked(part: Batch) -> tuple[tuple[()], tuple[Array, Array]]:
            return (), inputs(state, key, part)

        _, (x, x_adv) = in_parts(attacked, batch, options.accumulation)
        count = total(batch.mask.sum())

        def gradient(params: Any) -> Any:
            def of_part(part: tuple[Array, Array, Batch]) -> Any:
                grads, (terms, moments, *logits) = jax.grad(training_loss, has_aux=True)(
                    params, state, *part, count
                )
                return (grads, terms, moments), logits

            return in_parts(of_part, (x, x_adv, batch), options.accumulation)

        at = state.params
        if options.awp_gamma:
            gamma = jnp.where(state.step >= options.awp_start, options.awp_gamma, 0.0)
            at = awp.perturb(at, gradient(at)[0][0], gamma)
        (grads, terms, moments), (clean_logits, adv_logits) = gradient(at)

        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        batch_stats = forward.update_statistics(
            state.batch_stats, [moments[p] for p in options.bn_updates if p in moments],
            options.bn_momentum,
        )  # fmt: skip
        new = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            averaged=average(state.averaged, {'params': params, 'batch_stats': batch_stats}),
            opt_state=opt_state,
            war=war_update(state.war, terms, rule, state.step + 1),
        )
        mean = batch_mean(batch.mask, count)
        metrics = Metrics(
            loss=terms.natural + state.war.lam * terms.robust,
            natural_risk=terms.natural,
            robust_regularization=terms.robust,
            lam=state.war.lam,
            natural_accuracy=mean(clean_logits.argmax(-1) == batch.labels),
            adversarial_accuracy=mean(adv_logits.argmax(-1) == batch.labels),
            gradient_norm=optax.tree.norm(grads),
        )
        return new, metrics

    def inputs(state: TrainState, key: Array, batch: Batch) -> tuple[Array, Array]:
        """The augmented batch in [0, 1] and its adversarial counterpart."""
        step_key = jax.random.fold_in(key, state.step)
        keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(step_key, i)))(batch.ids)
        x = as_unit_interval(
            crop_flip(keys[:, 0], batch.images, pad=options.pad, flip=options.flip),
            jax.tree.leaves(state.params)[0].dtype,
        )
        if not objective.uses_attack:
            return x, x

        def attacked(x: Array, labels: Array, keys: Array) -> Array:
            # The target does not depend on the perturbation: one pass, not one per step.
            clean_logits = forward.evaluate(model, state.variables, x)

            def attack_loss(z: Array) -> Array:
                logits = forward.evaluate(model, state.variables, z)
                return objective.attack_loss(logits, clean_logits, labels)

            return pgd.pgd(keys, attack_loss, x, threat, budget)

        return x, by_parts(attacked, x, batch.labels, keys[:, 1])

    def training_loss(
        params: Any, state: TrainState, x: Array, x_adv: Array, batch: Batch, count: Array
    ):
        """Loss; and its terms, the moments of each pass, clean and adversarial logits.

        All are shares of a batch of `count` real examples, of which `batch` may be a part.
        """
        # The loss is a sum over all devices; its gradient has been summed once it is back here.
        variables = {'params': to_each(params), 'batch_stats': state.batch_stats}
        seen = batch.mask
        if options.accumulation > 1:
            # A part may be nothing but padding, whose variance of 0 would amplify it.
            seen = jnp.where(total(seen.sum()) > 0, seen, True)
        # Both passes at once: half as many operations and exchanges between devices, each larger.
        both = jnp.stack([x, x_adv] if objective.uses_attack else [x])
        logits, moments = forward.train(model, variables, both, seen)
        moments = over_devices(moments, batch.mask, count)
        names = ('natural', 'adversarial')[: len(both)]
        by_pass = {name: jax.tree.map(lambda m, i=i: m[i], moments) for i, name in enumerate(names)}
        clean_logits, adv_logits = logits[0], logits[-1]
        mean = batch_mean(batch.mask, count)
        terms = objective.risk(clean_logits, adv_logits, batch.labels, mean)
        loss = terms.natural + state.war.lam.astype(terms.robust.dtype) * terms.robust
        return loss, (terms, by_pass, clean_logits, adv_logits)

    def over_devices(moments: Any, mask: Array, count: Array) -> Any:
        """Statistics of devices and parts, each by its share of the examples of the batch."""
        if model.axis_name is None:  # type: ignore[attr-defined]
            share = mask.sum() / count
            return total(jax.tree.map(lambda m: m * share.astype(m.dtype), moments))
        if options.accumulation == 1:
            return moments  # already of all devices
        share = total(mask.sum()) / count
        return jax.tree.map(lambda m: m * share.astype(m.dtype), moments)

    def average(averaged: Any, current: Any) -> Any:
        if averaged is None:
            return None
        return optax.incremental_update(current, averaged, 1 - options.ema_decay)

    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(), P(), P(AXIS)), out_specs=(P(), P()))
    return jax.jit(mapped, donate_argnums=0)


def in_parts(function: Callable[[Any], tuple[Any, Any]], tree: Any, count: int) -> tuple[Any, Any]:
    """`function`, which returns (sums, rows), on one part after the other of the leading axis.

    Returns the sums added up over the `count` parts, and the rows one behind the other.
    """
    if count == 1:
        return function(tree)
    parts = jax.tree.map(lambda a: a.reshape(count, a.shape[0] // count, *a.shape[1:]), tree)
    shapes, _ = jax.eval_shape(function, jax.tree.map(lambda a: a[0], parts))
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

    def add(total: Any, part: Any) -> tuple[Any, Any]:
        sums, rows = function(part)
        return jax.tree.map(jnp.add, total, sums), rows

    total, rows = jax.lax.scan(add, zeros, parts)
    return total, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), rows)


def batch_mean(mask: Array, count: Array) -> Callable[[Array], Array]:
    """(b,) -> (), inside `shard_map`: the sum over the real examples of all devices, by `count`."""

    def mean(values: Array) -> Array:
        dtype = jnp.promote_types(values.dtype, jnp.float32)
        kept = jnp.where(mask, values.astype(dtype), 0)
        return total(kept.sum()) / count.astype(dtype)

    return mean
