"""Oracles: algorithm 1 of Zhang et al. 2020 as a NumPy loop over one image after the other, and the
plain attack where nothing stops it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from war_jax.attacks.friendly import friendly_pgd
from war_jax.attacks.pgd import Budget, pgd
from war_jax.attacks.threat import ThreatModel

EPSILON, STEP_SIZE = 0.2, 0.02
WEIGHTS = np.random.default_rng(0).normal(size=(6, 3))
X = np.random.default_rng(1).uniform(0.2, 0.8, (12, 2, 3, 1))
LABELS = (X.reshape(12, 6) @ WEIGHTS).argmax(-1)
LABELS[0] = (LABELS[0] + 1) % 3  # wrong before the first step
THREAT, BUDGET = ThreatModel('linf', EPSILON), Budget(8, STEP_SIZE, 'none', 0.0)


def judged_loss(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    logits = z.reshape(-1, 6) @ WEIGHTS
    log_p = jax.nn.log_softmax(logits)
    return -log_p[jnp.arange(len(LABELS)), LABELS], logits.argmax(-1) != LABELS


def numpy_friendly(x: np.ndarray, label: int, further_steps: int) -> tuple[np.ndarray, int]:
    """Where one image ends, and how many steps it took."""
    z, taken = x.copy(), 0
    while taken < BUDGET.num_steps:
        logits = z.ravel() @ WEIGHTS
        if logits.argmax() != label:
            if further_steps == 0:
                break
            further_steps -= 1
        gradient = (WEIGHTS @ (softmax(logits) - np.eye(3)[label])).reshape(x.shape)
        z = np.clip(np.clip(z + STEP_SIZE * np.sign(gradient), x - EPSILON, x + EPSILON), 0, 1)
        taken += 1
    return z, taken


@pytest.mark.parametrize('further_steps', [0, 1, 3])
def test_each_image_stops_by_itself(further_steps):
    keys = jax.random.split(jax.random.key(0), len(X))
    desired, taken = zip(
        *(numpy_friendly(x, y, further_steps) for x, y in zip(X, LABELS, strict=True)), strict=True
    )
    assert len(set(taken)) > 2  # some stop at once, some later, some not at all
    with jax.enable_x64(True):
        x_adv = friendly_pgd(keys, judged_loss, jnp.asarray(X), THREAT, BUDGET, further_steps)
    np.testing.assert_allclose(x_adv, np.stack(desired), rtol=0, atol=1e-12)


def test_with_as_many_further_steps_as_there_are_it_is_the_plain_attack():
    keys = jax.random.split(jax.random.key(0), len(X))
    budget = dataclasses.replace(BUDGET, init='uniform', init_scale=1.0)
    x = jnp.asarray(X, jnp.float32)
    friendly = friendly_pgd(keys, judged_loss, x, THREAT, budget, budget.num_steps)
    plain = pgd(keys, lambda z: judged_loss(z)[0], x, THREAT, budget)
    np.testing.assert_array_equal(friendly, plain)
