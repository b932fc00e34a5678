"""lambda, and the rules that move it: width adjusted regularization (WAR; Wu et al. 2021).

    rule = fixed_rule(lam=6.0, decay=0.99, total_steps=3000)   # or integral_rule, fixed_step_rule
    war = war_init(rule)
    war = war_update(war, terms, rule, steps_done=1)

At equal lambda a wider network has a smaller natural risk and a larger robust regularization, so
the ratio r of the two falls below the value zeta that it had on the tuned thin network. WAR brings
it back by moving lambda. It is published as Algorithm 1 of the NeurIPS paper, whose text we could
not read. There are two rules here (docs/parity.md):

`fixed_step_rule`, our understanding of that algorithm, with the mini-batch's own r:

    lambda <- lambda + step where r < zeta, else max(lambda - step, 0)

Where r answers at once and rises with lambda, it ends in a cycle of two values of lambda, one step
apart, on both sides of the one at which r = zeta.

`integral_rule`, ours, an integral controller in the logarithms:

    log lambda <- clip(log lambda + gain * (log zeta - log r), log lam_min, log lam_max)

Its r is a ratio of moving averages, not an average of ratios: a batch with a tiny regularization
must not outweigh all others. Where r answers at once, log r = c + p log lambda, and near the lambda
at which r = zeta, errors follow z^2 - (1 + decay - gain (1 - decay) p) z + decay: they die out if
and only if 0 < gain * p < 2 (1 + decay) / (1 - decay), and without overshoot if and only if
gain * p <= (1 - sqrt(decay)) / (1 + sqrt(decay)): with averages over n steps, n large, about
1 / (4 n). Far from it a ratio of averages is not linear in log lambda, and a network takes time to
answer; both make the usable gain smaller. That of the default configuration is below a hundredth of
the bound.

Everything here is data, not a constant of the compiled step: runs of all lambdas, seeds, rules and
references share one program, and a fixed lambda is an integral rule with gain 0, not a branch.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array
from jax.typing import ArrayLike

from war_jax.training.objective import RiskTerms


class WarRule(NamedTuple):
    """How lambda moves; constant over a run."""

    lam_start: Array  # ()
    gain: Array  # () >= 0, per step, of the integral rule; 0: lambda is constant
    step: Array  # () >= 0, of the fixed-step rule; 0: the integral rule holds
    lam_min: Array  # () lambda's bounds; where it meets one, it waits there for the error to turn
    lam_max: Array  # ()
    decay: Array  # () in [0, 1), of the moving averages, per step
    total_steps: Array  # () of the training: progress is steps done / total_steps
    log_zeta: Array  # (points,) the target at progress 1/points, 2/points, ..., 1; linear between


class WarState(NamedTuple):
    lam: Array  # () weight of the robust regularization
    natural_ema: Array  # () moving averages that start at 0, and so are too small by one factor:
    robust_ema: Array  # () their *ratio* is that of two weighted means from the first step on


def fixed_rule(lam: float, decay: float, total_steps: int, points: int = 1) -> WarRule:
    """lambda >= 0 stays as it is; the averages are still taken, since they make a reference.

    points: the length of zeta in another rule that is to run in the same program.
    """
    return integral_rule(lam, 0.0, lam, decay, total_steps, np.ones(points))


def integral_rule(
    lam: float,
    gain: float,
    lam_max: float,
    decay: float,
    total_steps: int,
    zeta: npt.ArrayLike,
) -> WarRule:
    """From the thin network's lambda, which stays the lower bound, up to at most lam_max.

    gain: per step. zeta: the thin network's risk ratios, at equal steps of training progress, the
    last one at its end; all the same for a constant target.
    """
    return _rule(lam, gain, 0.0, lam, lam_max, decay, total_steps, zeta)


def fixed_step_rule(
    lam: float, step: float, decay: float, total_steps: int, zeta: npt.ArrayLike
) -> WarRule:
    """From lam >= 0, by +step or -step > 0 after every mini-batch, not below 0 and without a cap.

    zeta: as above. decay is that of the averages that are logged; this rule does not look at them.
    """
    return _rule(lam, 0.0, step, 0.0, np.inf, decay, total_steps, zeta)


def war_init(rule: WarRule) -> WarState:
    # A copy: the step donates its state, and the rule must outlive it.
    return WarState(jnp.copy(rule.lam_start), jnp.float32(0.0), jnp.float32(0.0))


def war_update(state: WarState, terms: RiskTerms, rule: WarRule, steps_done: ArrayLike) -> WarState:
    """After a step with these risks, already averaged over all devices; steps_done counts it."""

    def average(ema: Array, value: Array) -> Array:
        return rule.decay * ema + (1 - rule.decay) * value.astype(ema.dtype)

    new = WarState(
        state.lam,
        average(state.natural_ema, terms.natural),
        average(state.robust_ema, terms.robust),
    )
    log_zeta = _log_target(rule, jnp.asarray(steps_done, jnp.float32) / rule.total_steps)
    # Madry's regularization can be 0 and a risk can underflow; 0 * infinity would be no number.
    tiny = jnp.finfo(jnp.float32).tiny
    log_ratio = jnp.log(jnp.maximum(new.natural_ema, tiny)) - jnp.log(
        jnp.maximum(new.robust_ema, tiny)
    )
    moved = state.lam * jnp.exp(rule.gain * (log_zeta - log_ratio))
    # r < zeta without a division: a batch without regularization has an infinite ratio.
    natural, robust = terms.natural.astype(jnp.float32), terms.robust.astype(jnp.float32)
    is_below = natural < jnp.exp(log_zeta) * robust
    stepped = state.lam + jnp.where(is_below, rule.step, -rule.step)
    lam = jnp.where(rule.step > 0, stepped, moved)
    return new._replace(lam=jnp.clip(lam, rule.lam_min, rule.lam_max))


def recent_risks(state: WarState, decay: float, steps: int) -> RiskTerms:
    """Weighted means of both risks over the latest of `steps` >= 1 updates."""
    seen = 1 - decay**steps
    return RiskTerms(state.natural_ema / seen, state.robust_ema / seen)


def _log_target(rule: WarRule, progress: Array) -> Array:
    """() the logarithm of zeta at this share of the training; flat up to the first point."""
    last = len(rule.log_zeta) - 1
    if last == 0:
        return rule.log_zeta[0]
    points = jnp.arange(1, last + 2, dtype=jnp.float32) / (last + 1)
    # As jnp.interp computes it, which however looks for the place in a loop: many small programs.
    right = jnp.clip((points <= progress).sum(), 1, last)
    left = right - 1
    share = (progress - points[left]) / (points[right] - points[left])
    between = rule.log_zeta[left] + share * (rule.log_zeta[right] - rule.log_zeta[left])
    return jnp.where(progress < points[0], rule.log_zeta[0], between)


def _rule(
    lam: float,
    gain: float,
    step: float,
    lam_min: float,
    lam_max: float,
    decay: float,
    total_steps: int,
    zeta: npt.ArrayLike,
) -> WarRule:
    return WarRule(
        lam_start=jnp.float32(lam),
        gain=jnp.float32(gain),
        step=jnp.float32(step),
        lam_min=jnp.float32(lam_min),
        lam_max=jnp.float32(lam_max),
        decay=jnp.float32(decay),
        total_steps=jnp.float32(total_steps),
        log_zeta=jnp.asarray(np.log(zeta), jnp.float32),
    )
