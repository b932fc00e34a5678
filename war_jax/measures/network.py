"""All that is measured of one network: quickly after an epoch, thoroughly at the end of a run.

    measures = make_measures(model, mesh, threat, Budget(20, 0.003, 'uniform', 1.0))
    row = validate(measures, variables, key, data, plan)                # a row of metrics.jsonl
    result = test(measures, variables, key, data, TestPlan(...))        # most of summary.json
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.data.batches import BatchSource, Plan
from war_jax.data.device import as_unit_interval
from war_jax.measures.accuracy import (
    LOSSES,
    Attack,
    AttackLoss,
    Counts,
    Outcome,
    count,
    make_attacks,
    param_dtype,
    run_attack,
)
from war_jax.measures.lipschitz import Ratio, make_lipschitz, run_lipschitz
from war_jax.measures.statistics import binomial_interval
from war_jax.mesh import fetch
from war_jax.models import forward

OnBatch = Callable[[], object]
RATES = ('natural_accuracy', 'robust_accuracy', 'perturbation_stability')
# Numbers folded into the key, so that no two measures share their random starts.
_LIPSCHITZ, *_ATTACKS = range(1 + len(LOSSES))


@dataclass(frozen=True)
class Measures:
    """Compiled at their first call; `attacks` by the loss that they climb."""

    attacks: dict[AttackLoss, Attack]
    lipschitz: Ratio
    threat: ThreatModel
    num_steps: int

    def name(self, loss: AttackLoss) -> str:
        """'pgd20', 'cw20', 'kl20': as papers call these attacks."""
        return f'{"pgd" if loss == "ce" else loss}{self.num_steps}'


@dataclass(frozen=True)
class TestPlan:
    """What `test` runs: every attack `restarts` times on `plan`, and a curve over epsilon.

    The curve is the cross-entropy attack, once, on `curve_plan`, at `curve_scales` times epsilon.
    """

    plan: Plan
    restarts: int
    curve_plan: Plan
    curve_scales: Sequence[float]

    @property
    def num_batches(self) -> int:
        """How often `test` calls on_batch: for a progress bar."""
        attacks = len(self.plan.mask) * (len(LOSSES) * self.restarts + 1)
        return attacks + len(self.curve_plan.mask) * len(self.curve_scales)


def make_measures(
    model: nn.Module, mesh: Mesh, threat: ThreatModel, budget: Budget
) -> Measures:
    # Yang et al. take 10 steps. Their start, like TRADES', is close to x, where a ratio of
    # differences is nearly a derivative.
    lipschitz_budget = Budget(10, threat.epsilon / 4, 'gaussian', 0.001)
    return Measures(
        attacks=make_attacks(model, mesh, threat, budget),
        lipschitz=make_lipschitz(model, mesh, threat, lipschitz_budget),
        threat=threat,
        num_steps=budget.num_steps,
    )


def attack_key(key: Array, loss: AttackLoss) -> Array:
    return jax.random.fold_in(key, _ATTACKS[LOSSES.index(loss)])


def validate(
    measures: Measures,
    variables: forward.Variables,
    key: Array,
    data: BatchSource,
    plan: Plan,
    on_batch: OnBatch = lambda: None,
) -> dict[str, float | int]:
    """One run of each attack that a training curve shows; calls on_batch 3 times per batch."""
    ce, kl = (
        run_attack(
            measures.attacks[loss],
            variables,
            attack_key(key, loss),
            data,
            plan,
            on_batch=on_batch,
        )
        for loss in ('ce', 'kl')
    )
    lipschitz_key = jax.random.fold_in(key, _LIPSCHITZ)
    local = run_lipschitz(measures.lipschitz, variables, lipschitz_key, data, plan, on_batch)
    return {
        **rates(count(ce)),
        'num_examples': len(ce.natural),
        'local_lipschitz': float(local.ratio.mean()),
        'local_lipschitz_kl_gradient': float(kl.max_grad_l1.mean()),
    }


def test(
    measures: Measures,
    variables: forward.Variables,
    key: Array,
    data: BatchSource,
    plan: TestPlan,
    on_batch: OnBatch = lambda: None,
) -> dict[str, Any]:
    """Accuracies with 95 % intervals under each attack and all together, Lipschitzness, margin and
    curve."""

    def attacked(loss: AttackLoss, on: Plan, restarts: int, scale: float) -> Outcome:
        attack, start = measures.attacks[loss], attack_key(key, loss)
        return run_attack(attack, variables, start, data, on, restarts, scale, on_batch)

    outcomes = {loss: attacked(loss, plan.plan, plan.restarts, 1.0) for loss in LOSSES}
    ce, kl = outcomes['ce'], outcomes['kl']
    together = ce._replace(stable=np.all([o.stable for o in outcomes.values()], axis=0))
    lipschitz_key = jax.random.fold_in(key, _LIPSCHITZ)
    local = run_lipschitz(
        measures.lipschitz, variables, lipschitz_key, data, plan.plan, on_batch
    )
    curve = [count(attacked('ce', plan.curve_plan, 1, scale)) for scale in plan.curve_scales]
    named = {measures.name(loss): outcomes[loss] for loss in LOSSES}
    return {
        **rates(count(ce)),
        'perturbation_stability_kl': float(kl.stable.mean()),
        'local_lipschitz': float(local.ratio.mean()),
        'local_lipschitz_kl_gradient': float(kl.max_grad_l1.mean()),
        'margin': float(local.margin.mean()),
        'lipschitz_by_margin': float(local.ratio.mean() / local.margin.mean()),
        'num_examples': len(ce.natural),
        'intervals': {
            **intervals(count(ce)),
            'perturbation_stability_kl': binomial_interval(int(kl.stable.sum()), len(kl.stable)),
        },
        'attacks': {
            name: {
                **_without_natural(rates(count(outcome))),
                'intervals': _without_natural(intervals(count(outcome))),
                'restarts': plan.restarts,
            }
            for name, outcome in {**named, 'all': together}.items()
        },
        'curve': {
            'epsilon': [scale * float(measures.threat.epsilon) for scale in plan.curve_scales],
            **{name: [rates(counts)[name] for counts in curve] for name in RATES},
            'intervals': {name: [intervals(counts)[name] for counts in curve] for name in RATES},
            'num_examples': curve[0].num_examples,
        },
    }


def headline(
    measures: Measures,
    variables: forward.Variables,
    key: Array,
    data: BatchSource,
    plan: Plan,
    restarts: int,
    on_batch: OnBatch = lambda: None,
) -> dict[str, float | int]:
    """Of other images or weights: the rates under the headline's attack alone, and of how many."""
    attack, start = measures.attacks['ce'], attack_key(key, 'ce')
    outcome = run_attack(attack, variables, start, data, plan, restarts, on_batch=on_batch)
    return {**rates(count(outcome)), 'num_examples': len(outcome.natural)}


def rates(counts: Counts) -> dict[str, float]:
    """The three accuracies under their names in metrics.jsonl and summary.json."""
    members = (counts.natural, counts.robust, counts.stable)
    return {name: n / counts.num_examples for name, n in zip(RATES, members, strict=True)}


def intervals(counts: Counts) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each of `rates`."""
    members = (counts.natural, counts.robust, counts.stable)
    return {
        name: binomial_interval(n, counts.num_examples)
        for name, n in zip(RATES, members, strict=True)
    }


def _without_natural(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != 'natural_accuracy'}


def adversarial_examples(
    measures: Measures, variables: forward.Variables, key: Array, data: BatchSource, plan: Plan
) -> dict[str, np.ndarray]:
    """Images to look at: the examples of the plan's first batch, clean and attacked."""
    batch, mask = data.batch(plan.indices[0], plan.mask[0]), plan.mask[0]
    start = jax.random.fold_in(attack_key(key, 'ce'), 0)  # the first of `test`'s restarts
    attacked = measures.attacks['ce'](variables, start, batch, jnp.float32(1.0))
    arrays = {
        'clean': as_unit_interval(batch.images, param_dtype(variables)),
        'adversarial': attacked.x_adv,
        'labels': batch.labels,
        'clean_predictions': attacked.clean_prediction,
        'adversarial_predictions': attacked.adv_prediction,
    }
    return {name: array[mask] for name, array in fetch(arrays).items()}
