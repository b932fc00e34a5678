"""One step of adversarial training. Oracle: gradient descent in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from ntk.studies.adversary import Strong
from ntk.studies.convergence.network import Design, at_start, draw
from ntk.studies.convergence.training import Programs
from ntk.studies.sphere import random_points


def test_one_step_is_gradient_descent():
    """Without an attack and projection, from the start, where f = 0 and l' = -1/2."""
    design, rate = Design('two_layer', 'softplus', 1), 8.0
    points, labels = random_points(np.random.default_rng(0), 4, 3)
    start = draw(jax.random.key(0), design, 8, 3)
    x, y = jnp.asarray(points, jnp.float32), jnp.asarray(labels, jnp.float32)
    (moved,), losses = Programs(design, Strong(3, 1), rate).train('none')(
        start, at_start(start), x, y, np.inf, 0.1, jnp.zeros(1)
    )
    w, a = np.asarray(start.trained[0], float), np.asarray(start.last, float)
    slopes = 1.0 / (1.0 + np.exp(-points @ w.T))  # of softplus, (n, m/2)
    gradient = (
        np.einsum('n,nr,nd->rd', -0.5 * labels, slopes * a, points) / len(labels) / np.sqrt(8)
    )
    np.testing.assert_allclose(losses, [np.log(2.0)], rtol=1e-6)
    np.testing.assert_allclose(moved, -rate * np.stack([gradient, -gradient]), atol=1e-5)
