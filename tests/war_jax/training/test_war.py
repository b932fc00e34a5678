"""Oracles: a table worked out by hand, averages written out as weighted sums, and a plant whose
closed loop is a linear recursion with known eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.training.objective import RiskTerms
from war_jax.training.war import (
    WarRule,
    fixed_rule,
    recent_risks,
    war_init,
    war_update,
    width_adjusted_rule,
)

DECAY = 0.9
NATURAL = np.array([2.0, 1.5, 0.25, 3.0, 1.0])
ROBUST = np.array([0.5, 0.1, 0.75, 0.2, 0.4])


def terms(natural: float, robust: float) -> RiskTerms:
    return RiskTerms(jnp.float32(natural), jnp.float32(robust))


def after(steps: int, rule: WarRule):
    state = war_init(rule)
    for i in range(steps):
        state = war_update(state, terms(NATURAL[i], ROBUST[i]), rule, i + 1)
    return state


def constant_target(zeta: float, gain: float, decay: float, lam=1.0, lam_max=1e9) -> WarRule:
    return width_adjusted_rule(lam, gain, lam_max, decay, total_steps=100, zeta=[zeta])


def weighted_mean(values: np.ndarray) -> float:
    """The latest has weight 1, each one before it DECAY times the next."""
    weights = DECAY ** np.arange(len(values))[::-1]
    return float(weights @ values / weights.sum())


@pytest.mark.parametrize('steps', [1, 2, 5])
def test_recent_risks_are_weighted_means(steps):
    state = after(steps, fixed_rule(6.0, DECAY, total_steps=5))
    natural, robust = recent_risks(state, DECAY, steps)
    np.testing.assert_allclose(natural, weighted_mean(NATURAL[:steps]), rtol=1e-5)
    np.testing.assert_allclose(robust, weighted_mean(ROBUST[:steps]), rtol=1e-5)
    np.testing.assert_allclose(
        state.natural_ema / state.robust_ema, natural / robust, rtol=1e-5
    )


def test_hand_worked_table():
    """gain 1/2, decay 1/2, zeta 4, lambda from 2 up to 6.

    step  natural  robust  averages        ratio  sqrt(4 / ratio)  lambda
    1     2        1       1, 1/2          2      sqrt(2)          2.8284
    2     1        3/2     1, 1            1      2                5.6569
    3     1/2      2       3/4, 3/2        1/2    sqrt(8)          16, held at 6
    4     6        3/4     27/8, 9/8       3      sqrt(4/3)        6.9282, held at 6
    5     63/8     1/8     45/8, 5/8       9      2/3              4
    6     90       0       765/16, 5/16    153    2 / sqrt(153)    0.647, held at 2
    """
    rule = width_adjusted_rule(2.0, 0.5, 6.0, 0.5, total_steps=6, zeta=[4.0, 4.0])
    table = [(2, 1), (1, 1.5), (0.5, 2), (6, 0.75), (63 / 8, 1 / 8), (90, 0)]
    state, lams = war_init(rule), []
    for step, (natural, robust) in enumerate(table, start=1):
        state = war_update(state, terms(natural, robust), rule, step)
        lams.append(float(state.lam))
    np.testing.assert_allclose(lams, [8**0.5, 32**0.5, 6, 6, 4, 2], rtol=1e-5)


def test_target_follows_the_trajectory_in_logarithms():
    """With decay 0 and gain 1, one step from lambda = 1 sets it to target / ratio."""
    rule = width_adjusted_rule(1.0, 1.0, 1e9, 0.0, total_steps=8, zeta=[16.0, 4.0])
    expected = {1: 16, 4: 16, 5: 16 / 2**0.5, 6: 8, 7: 8 / 2**0.5, 8: 4}
    for step, target in expected.items():
        state = war_update(war_init(rule), terms(2, 1), rule, step)
        np.testing.assert_allclose(state.lam, target / 2, rtol=1e-5)


def run_plant(gain: float, decay: float, power: float, start: float, steps: int) -> np.ndarray:
    """log(lambda / lambda*) when log r = power * log lambda answers at once; target ratio 1.

    natural risk lambda^power, regularization 1: the average is then not quite linear in log
    lambda, but is so near lambda* = 1, where `start` has to be.
    """
    rule = width_adjusted_rule(1e-9, gain, 1e9, decay, total_steps=1, zeta=[1.0])
    state = war_init(rule)._replace(
        lam=jnp.float32(np.exp(start)), natural_ema=jnp.float32(1.0), robust_ema=jnp.float32(1.0)
    )

    def step(state, _):
        new = war_update(state, RiskTerms(state.lam**power, jnp.float32(1.0)), rule, 1)
        return new, jnp.log(new.lam)

    return np.asarray(jax.jit(lambda s: jax.lax.scan(step, s, length=steps))(state)[1])


@pytest.mark.parametrize('decay', [0.0, 0.5, 0.9])
@pytest.mark.parametrize('power', [1.0, 1.8])
def test_the_loop_converges_up_to_the_stated_gain_and_not_beyond(decay, power):
    largest = 2 * (1 + decay) / (1 - decay) / power
    inside = run_plant(0.9 * largest, decay, power, start=1e-3, steps=400)
    outside = run_plant(1.1 * largest, decay, power, start=1e-3, steps=60)
    assert np.abs(inside[-20:]).max() < 1e-5
    assert np.abs(outside[-20:]).max() > 3e-3


@pytest.mark.parametrize(('decay', 'power'), [(0.5, 1.0), (0.9, 1.8)])
def test_errors_follow_the_characteristic_polynomial(decay, power):
    """u[n+1] = (1 + decay - gain (1 - decay) power) u[n] - decay u[n-1], from u[0] and v[0] = 0."""
    gain = 0.3
    measured = run_plant(gain, decay, power, start=1e-3, steps=30)
    trace = 1 + decay - gain * (1 - decay) * power
    expected = [1e-3, 1e-3 * (1 - gain * (1 - decay) * power)]
    while len(expected) < 31:
        expected.append(trace * expected[-1] - decay * expected[-2])
    np.testing.assert_allclose(measured, expected[1:], atol=3e-6)


@pytest.mark.parametrize('decay', [0.5, 0.9])
def test_no_overshoot_up_to_the_stated_gain_and_some_beyond(decay):
    critical = (1 - decay**0.5) / (1 + decay**0.5)
    assert run_plant(0.9 * critical, decay, 1.0, start=1e-2, steps=300).min() > -2e-6
    assert run_plant(4.0 * critical, decay, 1.0, start=1e-2, steps=300).min() < -1e-4


def test_convergence_from_afar():
    """lambda* = 7 from lambda = 1: risks 1 and 7^1.5 / lambda^1.5, ratio (lambda / 7)^1.5."""
    rule = constant_target(zeta=1.0, gain=0.1, decay=0.5)
    state = war_init(rule)
    for step in range(200):
        state = war_update(state, terms(1.0, (7 / float(state.lam)) ** 1.5), rule, step + 1)
    np.testing.assert_allclose(state.lam, 7.0, rtol=1e-4)


@pytest.mark.parametrize('lam', [0.0, 6.0])
def test_lambda_is_data_and_constant_under_a_fixed_rule(lam):
    state = after(5, fixed_rule(lam, DECAY, total_steps=5, points=3))
    assert isinstance(state.lam, jax.Array)
    np.testing.assert_array_equal(state.lam, lam)


def test_lambda_is_constant_at_gain_0():
    state = after(5, constant_target(zeta=100.0, gain=0.0, decay=DECAY, lam=0.7))
    np.testing.assert_array_equal(state.lam, jnp.float32(0.7))


@pytest.mark.parametrize(('natural', 'robust', 'lam'), [(1.0, 0.0, 2.0), (0.0, 1.0, 6.0)])
def test_a_vanished_risk_leaves_lambda_within_its_bounds(natural, robust, lam):
    rule = width_adjusted_rule(2.0, 0.5, 6.0, 0.5, total_steps=6, zeta=[4.0])
    state = war_update(war_init(rule), terms(natural, robust), rule, 1)
    np.testing.assert_array_equal(state.lam, lam)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float64'])
def test_state_keeps_its_type(dtype):
    """Else a risk of another type would recompile the step, or break its checkpoints."""
    with jax.enable_x64(True):
        rule = constant_target(zeta=1.0, gain=0.1, decay=0.99)
        ones = RiskTerms(jnp.ones((), dtype), jnp.ones((), dtype))
        state = war_update(war_init(rule), ones, rule, jnp.int32(1))
        assert {leaf.dtype for leaf in (*rule, *state)} == {jnp.dtype('float32')}
    np.testing.assert_allclose(state.natural_ema, 0.01, rtol=1e-5)
