"""A moving average of the weights along training, which is then what is evaluated.

    averaging = Averaging(decay=0.995, start=350, ramp=True, batch_norm='copied')
    averaged = averaging.update(averaged, {'params': ..., 'batch_stats': ...}, steps_done=351)

Gowal et al. 2020 (section 4.4) average with a decay of 0.995 per step. The code for Rebuffi et al.
2021 and for Wang et al. 2023 starts it after a fortieth of the training, lets the decay grow, and
takes BatchNorm's statistics from the network that is trained: all of these are fields here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from war_jax.config_rules import convert

BatchNormOfAverage = Literal['averaged', 'copied']


@dataclass(frozen=True)
class Averaging:
    """decay in [0, 1), 0 for none; the average is a copy before `start` steps are done; with
    `ramp` the decay is at most (1 + t) / (10 + t), t steps behind the start.

    batch_norm: the running statistics are averaged, too, or copied. Raises ConfigError for another
    word.
    """

    decay: float = 0.0
    start: int = 0
    ramp: bool = False
    batch_norm: BatchNormOfAverage = 'averaged'

    def __post_init__(self) -> None:
        convert('ema_batch_norm', self.batch_norm, BatchNormOfAverage)

    def __bool__(self) -> bool:
        return self.decay > 0

    def decay_after(self, steps_done: ArrayLike) -> ArrayLike:
        """() -> (): the weight of the average so far, when this many updates have been done."""
        if not (self.start or self.ramp):
            return self.decay
        behind = jnp.asarray(steps_done) - self.start
        t = jnp.maximum(behind, 0)
        decay = jnp.minimum(self.decay, (1 + t) / (10 + t)) if self.ramp else self.decay
        return jnp.where(behind >= 0, decay, 0.0)

    def update(
        self, averaged: Mapping[str, Any], current: Mapping[str, Any], steps_done: Array
    ) -> dict[str, Any]:
        """The average of {'params', 'batch_stats'} after an update that led to `current`."""
        weight = 1 - self.decay_after(steps_done)
        if isinstance(weight, Array):
            weight = weight.astype(jax.tree.leaves(current)[0].dtype)
        updated: Any = optax.incremental_update(dict(current), dict(averaged), weight)
        if self.batch_norm == 'copied':
            updated['batch_stats'] = current['batch_stats']
        return updated
