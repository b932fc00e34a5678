"""lambda, and the two risks that it balances, as training state.

    war = war_init(lam=6.0)
    war = war_update(war, terms)
    natural, robust = recent_risks(war, steps=1)

Width adjusted regularization (Wu et al. 2021) holds the ratio natural risk / robust
regularization of a wide network at the value of a tuned thin one by moving lambda. Here lambda is
constant; it is data in the state, not a constant of the compiled step, so that runs of several
lambdas share one program.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from war_jax.training.objective import RiskTerms

DECAY = 0.99  # of the moving averages, per step: they look back about a hundred steps


class WarState(NamedTuple):
    lam: Array  # () weight of the robust regularization
    natural_ema: Array  # () moving averages that start at 0, and so are too small by one factor:
    robust_ema: Array  # () their *ratio* is that of two weighted means from the first step on


def war_init(lam: float) -> WarState:
    """lam >= 0."""
    return WarState(jnp.float32(lam), jnp.float32(0.0), jnp.float32(0.0))


def war_update(state: WarState, terms: RiskTerms) -> WarState:
    """After a step with these risks, already averaged over all devices."""

    def average(ema: Array, value: Array) -> Array:
        return DECAY * ema + (1 - DECAY) * value.astype(ema.dtype)

    return WarState(
        state.lam,
        average(state.natural_ema, terms.natural),
        average(state.robust_ema, terms.robust),
    )


def recent_risks(state: WarState, steps: int) -> RiskTerms:
    """Weighted means of both risks over the latest of `steps` >= 1 updates."""
    seen = 1 - DECAY**steps
    return RiskTerms(state.natural_ema / seen, state.robust_ema / seen)
