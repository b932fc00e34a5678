"""FAB's own question, the smallest perturbation, on a linear network where the answer is known."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.war_jax.robustness import linear
from war_jax.attacks.fab import Fab
from war_jax.attacks.machine import ask
from war_jax.attacks.threat import ThreatModel

COUNT = 12


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_finds_the_smallest_perturbation(norm: Any):
    """Of all targets together; up to the overshoot that it goes beyond a boundary."""
    x = jnp.asarray(linear.images(COUNT))
    labels = jnp.asarray(linear.predictions(5, linear.images(COUNT)))
    attack = Fab(ThreatModel(norm, 0.01))
    keys = jax.random.split(jax.random.key(0), COUNT)
    clean_logits = linear.classify(linear.params(), x)

    @jax.jit
    def step(state):
        network = partial(linear.classify, linear.params())
        _, state, answer = ask(attack, network, state, x, labels)
        return attack.observe(state, keys, x, labels, answer)

    nearest = np.full(COUNT, np.inf)
    for stage in range(attack.num_stages(5)):
        state = attack.start(keys, x, labels, clean_logits, jnp.full(COUNT, stage, jnp.int32))
        while not attack.finished(state).all():
            state = step(state)
        nearest = np.minimum(nearest, state.distance)
        found = linear.classify(linear.params(), state.best).argmax(-1) != labels
        assert np.asarray(found)[np.isfinite(state.distance)].all()
    exact = linear.nearest(5, linear.images(COUNT), norm)
    assert (nearest >= exact * (1 - 1e-4)).all()
    np.testing.assert_allclose(nearest, exact, rtol=0.01)
