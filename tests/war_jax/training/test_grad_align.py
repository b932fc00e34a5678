"""Oracles: gradients written out in NumPy for a network of one layer, finite differences with
respect to its weights, and, in the training step, the same penalty on one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.attacks.threat import ThreatModel
from war_jax.training.grad_align import misalignment, near

X = np.random.default_rng(0).uniform(size=(4, 2, 3, 1))
X_NEAR = X + np.random.default_rng(1).uniform(-0.3, 0.3, X.shape)
W, V = (np.random.default_rng(seed).normal(size=(6, 5)) for seed in (2, 3))


def losses(w: jax.Array, z: jax.Array) -> jax.Array:
    """(2, b, ...) -> (2, b): sum over units of v * tanh(w·z)."""
    return jnp.tanh(z.reshape(2, -1, 6) @ w) @ V.sum(0)


def numpy_misalignment(w: np.ndarray) -> np.ndarray:
    gradients = [
        ((1 - np.tanh(x.reshape(4, 6) @ w) ** 2) * V.sum(0)) @ w.T for x in (X, X_NEAR)
    ]
    norms = [np.linalg.norm(g, axis=1) for g in gradients]
    return 1 - (gradients[0] * gradients[1]).sum(1) / (norms[0] * norms[1])


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def found(w, scale=1.0) -> jax.Array:
    return misalignment(lambda z: scale * losses(w, z), jnp.asarray(X), jnp.asarray(X_NEAR))


@pytest.mark.parametrize('scale', [1.0, 1e-200])
def test_one_minus_the_cosine(scale):
    """Whatever the scale of the gradients, also where squares underflow."""
    assert numpy_misalignment(W).min() > 1e-4
    np.testing.assert_allclose(found(jnp.asarray(W), scale), numpy_misalignment(W), rtol=1e-9)


def test_its_gradient_with_respect_to_the_weights():
    gradient = jax.grad(lambda w: found(w).sum())(jnp.asarray(W))
    for i in np.ndindex(W.shape):
        up, down = W.copy(), W.copy()
        up[i] += 1e-6
        down[i] -= 1e-6
        desired = (numpy_misalignment(up) - numpy_misalignment(down)).sum() / 2e-6
        np.testing.assert_allclose(gradient[i], desired, rtol=1e-5, atol=1e-8)


def test_nothing_where_there_is_no_gradient():
    def flat(w):
        return misalignment(lambda z: 0 * losses(w, z), jnp.asarray(X), jnp.asarray(X_NEAR))

    np.testing.assert_array_equal(flat(jnp.asarray(W)), np.zeros(4))
    assert np.isfinite(jax.grad(lambda w: flat(w).sum())(jnp.asarray(W))).all()


def test_the_other_point_is_anywhere_in_the_ball_and_each_images_own():
    keys = jax.random.split(jax.random.key(0), 500)
    x = jnp.zeros((500, 2, 3, 1))
    points = np.asarray(near(keys, x, ThreatModel('linf', 0.2)))
    assert np.abs(points).max() <= 0.2
    np.testing.assert_allclose(points.mean(), 0, atol=0.01)
    np.testing.assert_allclose(points.var(), 0.4**2 / 12, rtol=0.05)
    again = np.asarray(near(keys[7:9], x[:2], ThreatModel('linf', 0.2)))
    np.testing.assert_array_equal(again, points[7:9])
