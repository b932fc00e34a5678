"""APGD step by step against the published implementation (tests/fixtures/README.md)."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.attacks.apgd import Apgd
from war_jax.attacks.machine import Answer
from war_jax.attacks.threat import ThreatModel

RECORDED = np.load(Path(__file__).parents[2] / 'fixtures' / 'apgd_steps.npz')
NUM_STEPS = 60
OBJECTIVES: dict[str, Any] = {'ce': 'ce', 'dlr': 'dlr', 'dlr-targeted': 'targets'}


def network(z: jax.Array) -> jax.Array:
    return jnp.tanh(z.reshape(len(z), -1) @ RECORDED['w1']) @ RECORDED['w2']


def run(attack: Apgd) -> tuple[np.ndarray, Any]:
    """All points that are evaluated, from the recorded start, and the last state."""
    x, labels = jnp.asarray(RECORDED['x']), jnp.asarray(RECORDED['labels'])
    keys = jax.random.split(jax.random.key(0), len(x))
    state = attack.start(keys, x, labels, network(x), jnp.ones_like(labels))
    start = jnp.asarray(RECORDED['start'])
    state = state._replace(point=start, previous=start)
    points = []

    @jax.jit
    def step(state):
        def total(z):
            losses = attack.loss(state, network(z), labels)
            return losses.sum(), losses

        gradient, losses = jax.grad(total, has_aux=True)(state.point)
        return attack.observe(
            state, keys, x, labels, Answer(network(state.point), losses, gradient)
        )

    while not attack.finished(state).all():
        points.append(np.asarray(state.point))
        state = step(state)
    return np.stack(points), state


@pytest.mark.parametrize('loss', OBJECTIVES)
@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_every_point_is_that_of_the_published_code(norm: Any, loss):
    with jax.enable_x64(True):
        threat = ThreatModel(norm, float(RECORDED[f'epsilon/{norm}']))
        points, state = run(Apgd('apgd', threat, OBJECTIVES[loss], NUM_STEPS))
        expected = RECORDED[f'{norm}/{loss}/points']
        assert len(points) == len(expected) == NUM_STEPS + 1
        predictions = np.stack([network(jnp.asarray(z)).argmax(-1) for z in expected])
        broken = np.cumsum(predictions != RECORDED['labels'], 0)[..., None, None, None] > 1
        # Once an example is broken, its run is of no interest; and where its label is third, the
        # DLR loss is constant, so that the published code follows the rounding of a gradient of 0.
        points, expected = (np.where(broken, 0, p) for p in (points, expected))
        np.testing.assert_allclose(points, expected, atol=1e-9)
        standing = RECORDED[f'{norm}/{loss}/standing'].astype(bool)
        assert standing.any() and (norm == 'linf' or not standing.all())
        best = RECORDED[f'{norm}/{loss}/best']
        np.testing.assert_allclose(state.best[standing], best[standing], atol=1e-9)
    assert (np.asarray(state.step_size) < 2 * threat.epsilon).any()  # some step was halved


def test_checkpoints_of_a_hundred_steps():
    """Croce & Hein 2020b, section 3.3: p = 0, 0.22, then max(last gap - 0.03, 0.06) more."""
    attack = Apgd('apgd', ThreatModel('linf', 0.1), 'ce', 100)
    checkpoints = np.flatnonzero(attack._windows)
    assert list(checkpoints) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(attack._windows[checkpoints]) == [22, 19, 16, 13, 10, 7, 6, 6]


def test_targets_are_ranked_by_the_clean_logits():
    attack = Apgd('apgd', ThreatModel('linf', 0.1), 'targets', num_targets=3, restarts=2)
    logits = jnp.array([[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, 4.0, 9.0]])
    labels = jnp.array([0, 1], jnp.int32)
    x = jnp.full((2, 2, 2, 1), 0.5)
    keys = jax.random.split(jax.random.key(0), 2)
    assert attack.num_stages(10) == 6 and attack.num_stages(3) == 4
    targets = [
        attack.start(keys, x, labels, logits, jnp.full(2, stage, jnp.int32)).target.tolist()
        for stage in range(6)
    ]
    assert targets == [[2, 3], [2, 3], [1, 2], [1, 2], [3, 0], [3, 0]]
