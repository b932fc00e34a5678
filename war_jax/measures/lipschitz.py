"""Local Lipschitzness of the logits, as Yang et al. 2020 measure it, and their margin beside it.

    ratio = make_lipschitz(model, mesh, threat, budget)
    local = run_lipschitz(ratio, variables, key, data, plan)
    local.ratio.mean(), local.margin.mean()                          # each of (n,); report the mean

Per example, max over x' in the ball of ||f(x) - f(x')||_1 / ||x - x'||, f the logits and the norm
in the denominator the threat's (L-infinity in the paper); found by sign ascent from a random start,
so a lower bound. The other published measure, the largest ||grad_x KL(f(x) || f(x'))||_1 on the
path of an attack (the WAR authors'), is `Outcome.max_grad_l1` of `make_attacks(...)['kl']`.

Logits that are multiplied by ten have ten times the Lipschitzness and the same predictions: only
beside the margin, largest logit minus runner-up, does it say how near a prediction is to another.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from war_jax.attacks.pgd import Budget, attack_trace
from war_jax.attacks.threat import ThreatModel
from war_jax.data.batches import Batch, BatchSource, Plan
from war_jax.data.device import as_unit_interval
from war_jax.lowering import for_mesh
from war_jax.measures.accuracy import example_keys, param_dtype
from war_jax.measures.regularization.margins import margins
from war_jax.mesh import AXIS, fetched
from war_jax.models import forward
from war_jax.models.parts import by_parts


class Local(NamedTuple):
    """Per example, (n,)."""

    ratio: np.ndarray  # the largest that the ascent met
    margin: np.ndarray  # >= 0, of the clean image's logits


Ratio = Callable[[forward.Variables, Array, Batch], tuple[Array, Array]]


def make_lipschitz(
    model: nn.Module, mesh: Mesh, threat: ThreatModel, budget: Budget
) -> Ratio:
    """A jitted (variables, key, batch) -> (b,) largest ratio met by the ascent, (b,) margin.

    Raises ValueError for a budget that starts at x itself, where the ratio is 0/0.
    """
    if budget.init == 'none':
        raise ValueError("init = 'none': the ratio is 0/0 at x; use 'gaussian' or 'uniform'")

    def largest_ratio(
        variables: forward.Variables, key: Array, batch: Batch
    ) -> tuple[Array, Array]:
        def of_part(batch: Batch) -> tuple[Array, Array]:
            x = as_unit_interval(batch.images, param_dtype(variables))
            predict = partial(forward.evaluate, model, forward.prepared(model, variables, x))
            ratio = output_ratio(predict, example_keys(key, batch), x, threat, budget)
            return ratio, margins(predict(x))

        return by_parts(of_part, batch)

    specs = (P(), P(), P(AXIS))
    mapped = jax.shard_map(largest_ratio, mesh=mesh, in_specs=specs, out_specs=P(AXIS))
    return jax.jit(for_mesh(mapped, mesh))


def output_ratio(
    predict: Callable[[Array], Array], keys: Array, x: Array, threat: ThreatModel, budget: Budget
) -> Array:
    """The largest ratio of any network: keys (b,), x (b, h, w, c) -> (b,).

    budget: with a random start; at x itself the ratio is 0/0.
    """
    clean_logits = predict(x)

    def ratio(z: Array) -> Array:
        change = jnp.abs(predict(z) - clean_logits).sum(-1)
        return change / jnp.maximum(threat.length(z - x), 1e-6)

    trace = attack_trace(keys, ratio, x, threat, budget)
    return jnp.maximum(trace.loss.max(0), ratio(trace.x_adv))


def run_lipschitz(
    ratio: Ratio,
    variables: forward.Variables,
    key: Array,
    data: BatchSource,
    plan: Plan,
    on_batch: Callable[[], object] = lambda: None,
) -> Local:
    """For the examples of `plan`."""
    runs = (
        ratio(variables, key, data.batch(indices, mask))
        for indices, mask in zip(plan.indices, plan.mask, strict=True)
    )
    parts = []
    for mask, measured in zip(plan.mask, fetched(runs), strict=True):
        parts.append([values[mask] for values in measured])
        on_batch()
    return Local(*map(np.concatenate, zip(*parts, strict=True)))
