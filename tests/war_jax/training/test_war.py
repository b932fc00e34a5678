"""Oracles: tables worked out by hand, averages written out as weighted sums, np.interp, recorded
values, and plants: of the integral rule's the closed loop is a linear recursion with known
eigenvalues, the fixed-step rule's ends in a cycle of two known values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.training.objective import RiskTerms
from war_jax.training.war import (
    WarRule,
    fixed_rule,
    fixed_step_rule,
    integral_rule,
    recent_risks,
    war_init,
    war_update,
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
    return integral_rule(lam, gain, lam_max, decay, total_steps=100, zeta=[zeta])


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
    rule = integral_rule(2.0, 0.5, 6.0, 0.5, total_steps=6, zeta=[4.0, 4.0])
    table = [(2, 1), (1, 1.5), (0.5, 2), (6, 0.75), (63 / 8, 1 / 8), (90, 0)]
    state, lams = war_init(rule), []
    for step, (natural, robust) in enumerate(table, start=1):
        state = war_update(state, terms(natural, robust), rule, step)
        lams.append(float(state.lam))
    np.testing.assert_allclose(lams, [8**0.5, 32**0.5, 6, 6, 4, 2], rtol=1e-5)


def test_target_follows_the_trajectory_in_logarithms():
    """With decay 0 and gain 1, one step from lambda = 1 sets it to target / ratio."""
    rule = integral_rule(1.0, 1.0, 1e9, 0.0, total_steps=8, zeta=[16.0, 4.0])
    expected = {1: 16, 4: 16, 5: 16 / 2**0.5, 6: 8, 7: 8 / 2**0.5, 8: 4}
    for step, target in expected.items():
        state = war_update(war_init(rule), terms(2, 1), rule, step)
        np.testing.assert_allclose(state.lam, target / 2, rtol=1e-5)


def run_plant(gain: float, decay: float, power: float, start: float, steps: int) -> np.ndarray:
    """log(lambda / lambda*) when log r = power * log lambda answers at once; target ratio 1.

    natural risk lambda^power, regularization 1: the average is then not quite linear in log
    lambda, but is so near lambda* = 1, where `start` has to be.
    """
    rule = integral_rule(1e-9, gain, 1e9, decay, total_steps=1, zeta=[1.0])
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


def test_the_integral_rule_gives_what_it_gave_before_there_was_another():
    """Recorded at commit 7a1e3be, to the bit on that machine; logarithms and exponentials differ in
    the last bit between processors."""
    natural = [2.0, 1.5, 0.25, 3.0, 1.0, 2.0, 0.5, 0.75]
    robust = [0.5, 0.1, 0.75, 0.2, 0.4, 0.125, 0.25, 1.0]
    rule = integral_rule(2.0, 0.3, 50.0, 0.8, total_steps=8, zeta=[11.0, 7.0, 3.0])
    update, state, lams = jax.jit(war_update), war_init(rule), []
    for i in range(8):
        state = update(state, terms(natural[i], robust[i]), rule, i + 1)
        lams.append(float(state.lam))
    recorded = [
        2.709129810333252,
        3.217585802078247,
        5.011266231536865,
        6.07137393951416,
        7.319605350494385,
        7.481359004974365,
        7.251681327819824,
        7.564333438873291,
    ]
    np.testing.assert_allclose(lams, recorded, rtol=1e-6)
    averages = [1.013073205947876, 0.3887103796005249]
    np.testing.assert_allclose([state.natural_ema, state.robust_ema], averages, rtol=1e-6)


@pytest.mark.parametrize('points', [1, 2, 7, 100])
def test_the_target_is_read_as_numpy_interpolates(points):
    """With decay 0 and gain 1, one step from lambda = 1 with both risks 1 sets it to the target."""
    zeta = np.exp(np.random.default_rng(points).normal(size=points))
    total_steps = 3 * points + 1
    steps = np.arange(1, total_steps + 1)

    rule = integral_rule(1e-9, 1.0, 1e9, 0.0, total_steps, zeta)
    state = war_init(rule)._replace(lam=jnp.float32(1.0))
    one = jax.jit(jax.vmap(lambda step: war_update(state, terms(1, 1), rule, step).lam))
    log_target = np.interp(steps / total_steps, np.arange(1, points + 1) / points, np.log(zeta))
    np.testing.assert_allclose(np.log(one(steps)), log_target, atol=2e-6 * points)


def test_the_target_is_found_without_a_loop():
    """A loop is many small programs after every training step."""
    rule = integral_rule(1.0, 1.0, 1e9, 0.0, total_steps=30, zeta=np.ones(10))
    lowered = jax.jit(war_update).lower(war_init(rule), terms(1, 1), rule, jnp.int32(1))
    assert 'while' not in lowered.as_text()


def test_hand_worked_table_of_the_fixed_step():
    """step 1/4, zeta 2, lambda from 1/2; dyadic numbers, hence exact.

    step  natural  robust  ratio         lambda
    1     1        1       1    below    3/4
    2     3        1       3    above    1/2
    3     2        1       2    at zeta  1/4
    4     1        0       none above    0
    5     4        1       4    above    -1/4, held at 0
    6     0        1       0    below    1/4
    7     1        1000    .001 below    1/2
    """
    rule = fixed_step_rule(0.5, 0.25, decay=0.9, total_steps=7, zeta=[2.0, 2.0])
    table = [(1, 1), (3, 1), (2, 1), (1, 0), (4, 1), (0, 1), (1, 1000)]
    state, lams = war_init(rule), []
    for step, (natural, robust) in enumerate(table, start=1):
        state = war_update(state, terms(natural, robust), rule, step)
        lams.append(float(state.lam))
    assert lams == [0.75, 0.5, 0.25, 0.0, 0.0, 0.25, 0.5]


def test_the_fixed_step_has_no_cap_and_averages_all_the_same():
    rule = fixed_step_rule(0.0, 0.5, DECAY, total_steps=1, zeta=[1e9])
    state = after(5, rule)
    assert float(state.lam) == 2.5
    averages = [weighted_mean(NATURAL), weighted_mean(ROBUST)]
    np.testing.assert_allclose(recent_risks(state, DECAY, 5), averages, rtol=1e-5)


@pytest.mark.parametrize('power', [0.5, 1.8])
@pytest.mark.parametrize('step', [0.1, 0.03])
@pytest.mark.parametrize('start', [0.0, 9.07])
def test_the_fixed_step_ends_in_a_cycle_of_two_values(power, step, start):
    """log r = c + power * log lambda, and r = zeta at lambda* = pi: lambda ends on the two points
    of start + step * integers on both sides of it, and log r swings by power * log of their ratio.
    """
    target, zeta, steps = np.pi, 1.7, 400
    rule = fixed_step_rule(start, step, 0.9, total_steps=steps, zeta=[zeta])

    def update(state, i):
        ratio = zeta * (state.lam / target) ** power
        new = war_update(state, RiskTerms(ratio, jnp.float32(1.0)), rule, i + 1)
        return new, (new.lam, ratio)

    run = jax.jit(lambda state: jax.lax.scan(update, state, jnp.arange(steps)))
    lams, ratios = (np.asarray(values) for values in run(war_init(rule))[1])
    lower = start + step * np.floor((target - start) / step)
    cycle = [lower, lower + step]
    np.testing.assert_allclose(np.sort(lams[-2:]), cycle, rtol=1e-4)
    np.testing.assert_allclose(lams[-20:-2], lams[-18:], rtol=1e-4)  # of two steps
    swing = power * np.log((lower + step) / lower)
    np.testing.assert_allclose(np.ptp(np.log(ratios[-2:])), swing, rtol=1e-2)
    if start == 0:  # the way there, by one step after every mini-batch
        np.testing.assert_allclose(lams[:20], step * np.arange(1, 21), rtol=1e-5)


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
    rule = integral_rule(2.0, 0.5, 6.0, 0.5, total_steps=6, zeta=[4.0])
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
