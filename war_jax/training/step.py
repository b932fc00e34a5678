"""One adversarial training step: augment, attack, two risks, one update.

    step = make_train_step(model, objective, threat, budget, tx, mesh, options)
    state, metrics = step(state, jax.random.key(seed), rule, batch)      # state is donated
    metrics = Metrics(*jax.device_get(metrics))

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
from war_jax.attacks.losses import cross_entropy
from war_jax.attacks.threat import ThreatModel
from war_jax.config_data import AugmentConfig
from war_jax.config_rules import convert
from war_jax.data.augment import augmented
from war_jax.data.batches import Batch
from war_jax.lowering import Precision, for_mesh
from war_jax.mesh import AXIS, to_each, total
from war_jax.models import forward
from war_jax.training.adversary import AttackOptions, make_adversary, seen_by_norms
from war_jax.training.averaging import Averaging
from war_jax.training.grad_align import misalignment, near
from war_jax.training.helper import Helper, WithVariables
from war_jax.training.objective import Objective, RiskTerms, likeliest
from war_jax.training.state import TrainState
from war_jax.training.sums import batch_mean, in_parts
from war_jax.training.war import WarRule, war_update


@dataclass(frozen=True)
class StepOptions:
    """What is constant in the compiled step, beyond network, objective and attack.

    pad, flip, augment: what is done to images. bn_momentum, bn_updates: how the passes 'natural',
    'adversarial' and (HAT's) 'helper' enter the running statistics, in order. awp_gamma 0 means
    off; awp_start is the first step that perturbs weights. grad_align: weight of its penalty, 0 for
    none. accumulation: parts of each device's rows that are worked on one after the other;
    BatchNorm's moments are then of parts, and their mean over the parts enters the running
    statistics. matmul_precision: of products and convolutions, but for the stem's.
    Raises ConfigError for a pass of another name.
    """

    pad: int = 0
    flip: bool = False
    augment: AugmentConfig = AugmentConfig()
    bn_momentum: float = 0.1
    bn_updates: tuple[str, ...] = ('natural', 'adversarial')
    awp_gamma: float = 0.0
    awp_start: int = 0
    averaging: Averaging = Averaging()
    attack: AttackOptions = AttackOptions()
    grad_align: float = 0.0
    helper: Helper | None = None
    accumulation: int = 1
    matmul_precision: Precision = 'default'

    def __post_init__(self) -> None:
        passes = tuple[Literal['natural', 'adversarial', 'helper'], ...]
        convert('bn_updates', self.bn_updates, passes)


class Metrics(NamedTuple):
    """Scalars of one step, over the real examples of the global batch, before its update.

    A step returns them as one array (7,), which is fetched at once: `Metrics(*array)` names them.
    Risks and accuracies are of the training-mode passes, so the adversarial images, found against
    the running statistics, meet the batch's own: adversarial_accuracy is no robust accuracy. With
    adversarial weight perturbation they are those at the perturbed weights; of a mixed image the
    label with the larger share counts.
    """

    loss: Array
    natural_risk: Array
    robust_regularization: Array
    lam: Array
    natural_accuracy: Array
    adversarial_accuracy: Array
    gradient_norm: Array


TrainStep = Callable[[TrainState, Array, WarRule, Batch], tuple[TrainState, Array]]


class Pair(NamedTuple):
    """Rows of a batch as both passes see them; x_adv is x where nothing attacks."""

    batch: Batch  # augmented: images (b, h, w, c) in [0, 1], labels perhaps mixed
    x_adv: Array  # (b, h, w, c)
    keys: Array  # (b,) of the attack
    helped: Array | None  # (b,) the helper's labels, where there is one


class Shares(NamedTuple):
    """What a part of the batch adds to that of the whole batch."""

    gradient: Any  # a tree as params
    terms: RiskTerms
    moments: dict[str, Any]  # by pass, trees as batch_stats
    penalty: Array | None  # () GradAlign's and HAT's, where they are part of the loss


def make_augmented(
    model: nn.Module, options: StepOptions
) -> Callable[[TrainState, Array, Batch], tuple[Batch, Array]]:
    """(state, key, batch) -> the batch with augmented images, keys (b,) of its attack."""

    def augment(state: TrainState, key: Array, batch: Batch) -> tuple[Batch, Array]:
        step_key = jax.random.fold_in(key, state.step)
        keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(step_key, i)))(batch.ids)
        batch = augmented(
            keys[:, 0],
            batch,
            pad=options.pad,
            flip=options.flip,
            augment=options.augment,
            num_classes=model.num_classes,  # type: ignore[attr-defined]
            dtype=jax.tree.leaves(state.params)[0].dtype,
        )
        return batch, keys[:, 1]

    return augment


def make_attacked(
    model: nn.Module,
    objective: Objective,
    threat: ThreatModel,
    budget: pgd.Budget,
    options: StepOptions,
) -> Callable[[TrainState, tuple[Batch, Array]], tuple[tuple[()], Array]]:
    """(state, (augmented batch, keys)) -> no sums, and x_adv as in `Pair`."""
    find = make_adversary(model, objective, threat, budget, options.attack, options.accumulation)

    def attacked(state: TrainState, seen: tuple[Batch, Array]) -> tuple[tuple[()], Array]:
        batch, keys = seen
        if not objective.uses_attack:
            return (), batch.images
        return (), find(state, keys, batch)

    return attacked


def make_gradient(
    model: nn.Module, objective: Objective, threat: ThreatModel, options: StepOptions
) -> Callable[[Any, TrainState, Array, Pair], tuple[Shares, tuple[Array, Array]]]:
    """(params, state, count, pair) -> shares, and clean and adversarial logits.

    The loss is that of `state` at other `params`; the shares are of a batch of `count` real
    examples, of which `pair` may be a part.
    """

    def training_loss(params: Any, state: TrainState, count: Array, pair: Pair):
        batch, x_adv, keys, helped = pair
        passes = [batch.images, x_adv] if objective.uses_attack else [batch.images]
        if options.helper:
            passes.append(options.helper.examples(batch.images, x_adv))
        # The loss is a sum over all devices; its gradient has been summed once it is back here.
        variables = {'params': to_each(params), 'batch_stats': state.batch_stats}
        seen = seen_by_norms(batch.mask, options.accumulation)
        # All passes at once: half as many operations and exchanges between devices, each larger.
        logits, moments = forward.train(model, variables, jnp.stack(passes), seen)
        moments = over_devices(moments, batch.mask, count)
        names = ('natural', 'adversarial', 'helper')[: len(passes)]
        by_pass = {name: jax.tree.map(lambda m, i=i: m[i], moments) for i, name in enumerate(names)}
        clean_logits, adv_logits = logits[0], logits[min(1, len(passes) - 1)]
        mean = batch_mean(batch.mask, count)
        terms = objective.risk(clean_logits, adv_logits, batch.labels, mean)
        loss = terms.natural + state.war.lam.astype(terms.robust.dtype) * terms.robust
        penalties = []
        if options.helper and helped is not None:
            of_helper = mean(cross_entropy(logits[2], helped))
            penalties.append(options.helper.weight * of_helper)
        if options.grad_align:

            def losses(points: Array) -> Array:
                logits, _ = forward.train(model, variables, points, seen)
                each = jax.vmap(cross_entropy, (0, None))(logits, batch.labels)
                return jnp.where(batch.mask, each, 0)

            x_near = near(keys, batch.images, threat)
            off = mean(misalignment(losses, batch.images, x_near))
            penalties.append(options.grad_align * off)
        penalty = sum(penalties) if penalties else None
        if penalty is not None:
            loss = loss + penalty
        return loss, (terms, by_pass, penalty, (clean_logits, adv_logits))

    def over_devices(moments: Any, mask: Array, count: Array) -> Any:
        """Statistics of devices and parts, each by its share of the examples of the batch."""
        if model.axis_name is None:  # type: ignore[attr-defined]
            share = mask.sum() / count
            return total(jax.tree.map(lambda m: m * share.astype(m.dtype), moments))
        if options.accumulation == 1:
            return moments  # already of all devices
        share = total(mask.sum()) / count
        return jax.tree.map(lambda m: m * share.astype(m.dtype), moments)

    def gradient(
        params: Any, state: TrainState, count: Array, pair: Pair
    ) -> tuple[Shares, tuple[Array, Array]]:
        grads, (terms, moments, penalty, logits) = jax.grad(training_loss, has_aux=True)(
            params, state, count, pair
        )
        return Shares(grads, terms, moments, penalty), logits

    return gradient


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
    helper = options.helper
    augment = make_augmented(model, options)  # of all rows at once, as CutMix needs them
    attacked = in_parts(
        make_attacked(model, objective, threat, budget, options), options.accumulation
    )
    gradient = in_parts(
        make_gradient(model, objective, threat, options), options.accumulation
    )

    def step(
        state: TrainState, key: Array, rule: WarRule, batch: Batch, *of_helper: Any
    ) -> tuple[TrainState, Array]:
        batch, keys = augment(state, key, batch)
        _, x_adv = attacked(state, (batch, keys))
        helped = helper.label(x_adv, *of_helper) if helper else None
        pair, count = Pair(batch, x_adv, keys, helped), total(batch.mask.sum())
        at = state.params
        if options.awp_gamma:
            gamma = jnp.where(state.step >= options.awp_start, options.awp_gamma, 0.0)
            shares, _ = gradient(at, state, count, pair)
            at = awp.perturb(at, shares.gradient, gamma)
        shares, (clean_logits, adv_logits) = gradient(at, state, count, pair)
        grads, terms, moments, penalty = shares

        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        batch_stats = forward.update_statistics(
            state.batch_stats, [moments[p] for p in options.bn_updates if p in moments],
            options.bn_momentum,
        )  # fmt: skip
        averaged = state.averaged
        if averaged is not None:
            current = {'params': params, 'batch_stats': batch_stats}
            averaged = options.averaging.update(averaged, current, state.step + 1)
        new = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            averaged=averaged,
            opt_state=opt_state,
            war=war_update(state.war, terms, rule, state.step + 1),
        )
        mean = batch_mean(batch.mask, count)
        labels = likeliest(batch.labels)
        loss = terms.natural + state.war.lam * terms.robust
        metrics = Metrics(
            loss=loss if penalty is None else loss + penalty,
            natural_risk=terms.natural,
            robust_regularization=terms.robust,
            lam=state.war.lam,
            natural_accuracy=mean(clean_logits.argmax(-1) == labels),
            adversarial_accuracy=mean(adv_logits.argmax(-1) == labels),
            gradient_norm=optax.tree.norm(grads),
        )
        return new, jnp.stack(metrics)

    specs = (P(), P(), P(), P(AXIS), *([P()] if helper else []))
    mapped = jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=(P(), P()))
    program = jax.jit(for_mesh(mapped, mesh, options.matmul_precision), donate_argnums=0)
    return WithVariables(program, helper.variables) if helper else program
