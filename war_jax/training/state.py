"""Everything that training changes, as one tree of arrays.

    state = create_state(jax.random.key(seed), model, tx, (32, 32, 3), rule, ema=True)
    predict = lambda images: forward.evaluate(model, state.variables, images)
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from war_jax.training.war import WarRule, WarState, war_init


class TrainState(struct.PyTreeNode):
    step: Array  # () int32, updates done
    params: Any
    batch_stats: Any
    averaged: Any  # moving average of {'params', 'batch_stats'}, or None
    opt_state: Any
    war: WarState

    @property
    def variables(self) -> dict[str, Any]:
        """What is being trained: the point at which the next step attacks."""
        return {'params': self.params, 'batch_stats': self.batch_stats}

    @property
    def evaluated(self) -> dict[str, Any]:
        """What a run is judged by: the moving average where there is one."""
        return self.variables if self.averaged is None else self.averaged


def create_state(
    key: Array,
    model: nn.Module,
    tx: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    rule: WarRule,
    ema: bool,
) -> TrainState:
    """A fresh network for images (h, w, c); the average, if any, starts at it."""
    variables = model.init(key, jnp.zeros((1, *image_shape)), train=False)
    params, batch_stats = variables['params'], variables['batch_stats']
    averaged = {'params': params, 'batch_stats': batch_stats} if ema else None
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=batch_stats,
        # A copy: the step donates its state, and one buffer must not be donated twice.
        averaged=jax.tree.map(jnp.copy, averaged),
        opt_state=tx.init(params),
        war=war_init(rule),
    )
