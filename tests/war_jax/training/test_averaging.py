"""Oracle: the recursion in float64 NumPy, each step's weight written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.training.averaging import Averaging


def trained(step: int) -> dict:
    """The network after so many steps."""
    rng = np.random.default_rng(step)
    return {'params': {'w': rng.normal(size=3)}, 'batch_stats': {'mean': rng.normal(size=2)}}


def averages(averaging: Averaging, steps: int) -> list[dict]:
    """After 1, 2, ... steps, from the network before the first."""
    with jax.enable_x64(True):
        averaged = jax.tree.map(jnp.asarray, trained(0))
        update, result = jax.jit(averaging.update), []
        for step in range(1, steps + 1):
            averaged = update(averaged, trained(step), jnp.int32(step))
            result.append(jax.device_get(averaged))
        assert update._cache_size() == 1  # type: ignore[attr-defined]
    return result


@pytest.mark.parametrize(
    ('averaging', 'decays'),
    [
        (Averaging(0.7), [0.7] * 5),
        (Averaging(0.7, start=3), [0, 0, 0.7, 0.7, 0.7]),
        (Averaging(0.25, ramp=True), [2 / 11, 3 / 12, 0.25, 0.25, 0.25]),
        (Averaging(0.25, start=2, ramp=True), [0, 1 / 10, 2 / 11, 3 / 12, 0.25]),
    ],
)
def test_decay_of_each_step(averaging, decays):
    expected = trained(0)
    for step, (found, decay) in enumerate(zip(averages(averaging, 5), decays, strict=True), 1):
        expected = jax.tree.map(
            lambda old, new, d=decay: d * old + (1 - d) * new, expected, trained(step)
        )
        for leaf, desired in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(leaf, desired, rtol=1e-6)


def test_the_ramp_ends_at_the_decay():
    """(1 + t) / (10 + t) reaches 0.995 at t = 1790."""
    averaging = Averaging(0.995, ramp=True)
    found = [float(jnp.asarray(averaging.decay_after(t))) for t in (1789, 1790, 100_000)]
    np.testing.assert_allclose(found, [1790 / 1799, 0.995, 0.995], rtol=1e-6)
    assert found[0] < 0.995


def test_statistics_may_be_those_of_the_trained_network():
    plain, copied = (averages(Averaging(0.7, batch_norm=b), 3)[-1] for b in ('averaged', 'copied'))
    np.testing.assert_array_equal(copied['batch_stats']['mean'], trained(3)['batch_stats']['mean'])
    np.testing.assert_array_equal(copied['params']['w'], plain['params']['w'])
    assert not np.allclose(plain['batch_stats']['mean'], copied['batch_stats']['mean'])


def test_no_decay_is_no_average():
    assert not Averaging() and Averaging(0.5)
