"""All that is measured of one network: quickly after an epoch, thoroughly at the end of a run.

    measures = make_measures(model, mesh, threat, Budget(20, 0.003, 'uniform', 1.0))
    row = validate(measures, variables, key, data, plan, on_batch)          # one row of metrics
    result = test(measures, variables, key, data, plan, ...)                # of summary.json
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
from war_jax.data.batches import Plan
from war_jax.data.device import DeviceData, as_unit_interval
from war_jax.measures.accuracy import (
    Attack,
    AttackLoss,
    Counts,
    Outcome,
    count,
    make_attack,
    param_dtype,
    run_attack,
)
from war_jax.measures.lipschitz import Ratio, make_lipschitz, run_lipschitz
from war_jax.measures.statistics import binomial_interval
from war_jax.mesh import fetch
from war_jax.models import forward

OnBatch = Callable[[], object]


@dataclass(frozen=True)
class Measures:
    """Compiled once per run; `attacks` by the loss that they climb."""

    attacks: dict[AttackLoss, Attack]
    lipschitz: Ratio
    threat: ThreatModel
    num_steps: int

    def name(self, loss: AttackLoss) -> str:
        """'pgd20', 'cw20', 'kl20': as papers call these attacks."""
        return f'{"pgd" if loss == "ce" else loss}{self.num_steps}'


def make_measures(
    model: nn.Module, mesh: Mesh, threat: ThreatModel, budget: Budget
) -> Measures:
    losses: tuple[AttackLoss, ...] = ('ce', 'cw', 'kl')
    # Yang et al. take 10 steps. Their start, like TRADES', is close to x, where a ratio of
    # differences is nearly a derivative.
    lipschitz_budget = Budget(10, threat.epsilon / 4, 'gaussian', 0.001)
    return Measures(
        attacks={loss: make_attack(model, mesh, threat, budget, loss) for loss in losses},
        lipschitz=make_lipschitz(model, mesh, threat, lipschitz_budget),
        threat=threat,
        num_steps=budget.num_steps,
    )


def validate(
    measures: Measures,
    variables: forward.Variables,
    key: Array,
    data: DeviceData,
    plan: Plan,
    on_batch: OnBatch = lambda: None,
) -> dict[str, float | int]:
    """One run of each attack that a training curve shows; calls on_batch 3 times per batch."""
    common = (variables, key, data, plan)
    outcome = run_attack(measures.attacks['ce'], *common, on_batch=on_batch)
    kl = run_attack(measures.attacks['kl'], *common, on_batch=on_batch)
    ratios = run_lipschitz(measures.lipschitz, *common, on_batch)
    return {
        **rates(count(outcome)),
        'local_lipschitz': float(ratios.mean()),
        'local_lipschitz_kl_gradient': float(kl.max_grad_l1.mean()),
    }


def test(
    measures: Measures,
    variables: forward.Variables,
    key: Array,
    data: DeviceData,
    plan: Plan,
    restarts: int,
    curve_plan: Plan,
    curve_scales: Sequence[float],
    on_batch: OnBatch = lambda: None,
) -> dict[str, Any]:
    """Accuracies with intervals, Lipschitzness, every attack, and the curve over epsilon.

    Calls on_batch `num_test_batches` times.
    """
    common = (variables, key, data, plan)
    outcomes: dict[AttackLoss, Outcome] = {
        loss: run_attack(attack, *common, restarts=restarts, on_batch=on_batch)
        for loss, attack in measures.attacks.items()
    }
    counts = count(outcomes['ce'])
    ratios = run_lipschitz(measures.lipschitz, *common, on_batch)
    curve = [
        rates(
            count(
                run_attack(
                    measures.attacks['ce'],
                    *common[:3],
                    curve_plan,
                    scale=scale,
                    on_batch=on_batch,
                )
            )
        )
        for scale in curve_scales
    ]
    columns = ('natural_accuracy', 'robust_accuracy', 'perturbation_stability')
    epsilon = float(measures.threat.epsilon)
    return {
        **rates(counts),
        'perturbation_stability_kl': float(outcomes['kl'].stable.mean()),
        'local_lipschitz': float(ratios.mean()),
        'local_lipschitz_kl_gradient': float(outcomes['kl'].max_grad_l1.mean()),
        'intervals': {
            name: binomial_interval(members, counts.num_examples)
            for name, members in (
                ('natural_accuracy', counts.natural),
                ('robust_accuracy', counts.robust),
                ('perturbation_stability', counts.stable),
            )
        },
        'attacks': {
            measures.name(loss): {
                **{name: rates(count(outcome))[name] for name in columns[1:]},
                'restarts': restarts,
            }
            for loss, outcome in outcomes.items()
        },
        'curve': {
            'epsilon': [scale * epsilon for scale in curve_scales],
            **{name: [point[name] for point in curve] for name in columns},
            'num_examples': int(curve_plan.mask.sum()),
        },
    }


def num_test_batches(plan: Plan, restarts: int, curve_plan: Plan, num_scales: int) -> int:
    """How often `test` calls on_batch: for a progress bar."""
    return len(plan.mask) * (3 * restarts + 1) + len(curve_plan.mask) * num_scales


def rates(counts: Counts) -> dict[str, float | int]:
    """The three accuracies under their names in metrics.jsonl and summary.json."""
    n = counts.num_examples
    return {
        'natural_accuracy': counts.natural / n,
        'robust_accuracy': counts.robust / n,
        'perturbation_stability': counts.stable / n,
        'num_examples': n,
    }


def adversarial_examples(
    measures: Measures, variables: forward.Variables, key: Array, data: DeviceData, plan: Plan
) -> dict[str, np.ndarray]:
    """Images to look at: the examples of the plan's first batch, clean and attacked."""
    indices, mask = plan.indices[0], plan.mask[0]
    batch = data.batch(indices, mask)
    attacked = measures.attacks['ce'](
        variables, jax.random.fold_in(key, 0), batch, jnp.float32(1.0)
    )
    arrays = {
        'clean': as_unit_interval(batch.images, param_dtype(variables)),
        'adversarial': attacked.x_adv,
        'labels': batch.labels,
        'clean_predictions': attacked.clean_prediction,
        'adversarial_predictions': attacked.adv_prediction,
    }
    return {name: fetch(array)[mask] for name, array in arrays.items()}
