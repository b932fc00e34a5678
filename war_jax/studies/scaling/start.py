"""A network at its start, measured by the attack that measures the trained one: what training has
not brought about.

    local_lipschitz(parts, splits)          # mean over the run's test images, from its own seed

Fresh norms would normalise by mean 0 and variance 1, as no update and no trained network does. Here
they do by the moments of one batch of training images, without augmentation.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from war_jax.data.batches import eval_plan
from war_jax.data.device import as_unit_interval
from war_jax.data.sources import Splits, balanced_subset
from war_jax.data.stream import placed
from war_jax.lowering import in_full_precision
from war_jax.measures.lipschitz import run_lipschitz
from war_jax.models import forward
from war_jax.training.build import Parts


def local_lipschitz(parts: Parts, splits: Splits) -> float:
    """Output ratio in the run's ball, with the running statistics of one batch."""
    config = parts.config
    test = splits.test.take(balanced_subset(splits.test.labels, config.evaluation.test_examples))
    local = run_lipschitz(
        parts.measures.lipschitz,
        on_one_batch(parts, splits),
        parts.key,
        placed(parts.mesh, test, placement=config.data.placement),
        eval_plan(len(test.labels), config.evaluation.batch_size),
    )
    return float(local.ratio.mean())


def on_one_batch(parts: Parts, splits: Splits) -> forward.Variables:
    """Those of the fresh network; its running statistics are the moments of training images."""
    state = parts.create_state()
    count = min(parts.config.optimizer.batch_size, len(splits.train.labels))
    images = splits.train.images[balanced_subset(splits.train.labels, count)]
    # Every device has all of these images: no moments to gather. Measures are never in bfloat16.
    model = parts.model.clone(axis_name=None, dtype=parts.model.param_dtype)
    x = as_unit_interval(jnp.asarray(images), np.dtype(parts.config.model.param_dtype))
    moments = _moments(model, state.variables, x)
    return {
        'params': state.params,
        'batch_stats': forward.update_statistics(state.batch_stats, [moments], momentum=1.0),
    }


@partial(jax.jit, static_argnums=0)
@in_full_precision
def _moments(model: nn.Module, variables: forward.Variables, x: Array) -> dict[str, Any]:
    """Of images (b, h, w, c), for every norm."""
    return forward.train(model, variables, x, jnp.ones(len(x), bool))[1]
