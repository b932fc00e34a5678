"""Oracle: the averages written out in NumPy as weighted sums, not as a recursion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.training.objective import RiskTerms
from war_jax.training.war import DECAY, recent_risks, war_init, war_update

NATURAL = np.array([2.0, 1.5, 0.25, 3.0, 1.0])
ROBUST = np.array([0.5, 0.1, 0.75, 0.2, 0.4])


def after(steps: int, lam: float = 6.0):
    state = war_init(lam)
    for natural, robust in zip(NATURAL[:steps], ROBUST[:steps], strict=True):
        state = war_update(state, RiskTerms(jnp.float32(natural), jnp.float32(robust)))
    return state


def weighted_mean(values: np.ndarray) -> float:
    """The latest has weight 1, each one before it DECAY times the next."""
    weights = DECAY ** np.arange(len(values))[::-1]
    return float(weights @ values / weights.sum())


@pytest.mark.parametrize('steps', [1, 2, 5])
def test_recent_risks_are_weighted_means(steps):
    natural, robust = recent_risks(after(steps), steps)
    np.testing.assert_allclose(natural, weighted_mean(NATURAL[:steps]), rtol=1e-5)
    np.testing.assert_allclose(robust, weighted_mean(ROBUST[:steps]), rtol=1e-5)


@pytest.mark.parametrize('steps', [1, 2, 5])
def test_ratio_of_the_averages_is_right_from_the_first_update(steps):
    state = after(steps)
    desired = weighted_mean(NATURAL[:steps]) / weighted_mean(ROBUST[:steps])
    np.testing.assert_allclose(state.natural_ema / state.robust_ema, desired, rtol=1e-5)


def test_averages_look_back_about_a_hundred_steps():
    """After n steps at 1 and n at 0, DECAY^n of the past is left: 37 % at n = 100."""
    assert round(1 / (1 - DECAY)) == 100
    one, nothing = RiskTerms(jnp.float32(1), jnp.float32(1)), RiskTerms(*jnp.zeros(2))

    def run(state, terms):
        return jax.lax.scan(lambda s, _: (war_update(s, terms), None), state, length=100)[0]

    state = jax.jit(lambda s: run(run(s, one), nothing))(war_init(1.0))
    np.testing.assert_allclose(state.natural_ema, 0.99**100 * (1 - 0.99**100), rtol=1e-4)


@pytest.mark.parametrize('lam', [0.0, 6.0])
def test_lambda_is_data_and_constant(lam):
    state = after(5, lam)
    assert isinstance(state.lam, jax.Array)
    np.testing.assert_array_equal(state.lam, lam)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float64'])
def test_state_keeps_its_type(dtype):
    """Else a risk of another type would recompile the step, or break its checkpoints."""
    with jax.enable_x64(True):
        terms = RiskTerms(jnp.ones((), dtype), jnp.ones((), dtype))
        state = war_update(war_init(6.0), terms)
    assert [leaf.dtype for leaf in state] == [jnp.float32] * 3
    np.testing.assert_allclose(state.natural_ema, 0.01, rtol=1e-5)
