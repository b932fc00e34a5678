"""Oracles: NumPy, and Cauchy-Schwarz for the direction."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.attacks.awp import perturb

GAMMA = 0.02
SHAPES = {'conv': (3, 3, 2, 4), 'dense': (5, 4), 'norm': {'scale': (4,), 'bias': (4,)}}


def tree(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        SHAPES,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


@pytest.mark.parametrize('layer', ['conv', 'dense'])
def test_weights_move_by_gamma_of_their_norm_along_the_gradient(layer):
    params, ascent = tree(0), tree(1)
    moved = perturb(params, ascent, GAMMA)[layer]
    assert moved.dtype == jnp.float32
    w, g = np.float64(params[layer]).ravel(), np.float64(ascent[layer]).ravel()
    desired = w + GAMMA * np.linalg.norm(w) / np.linalg.norm(g) * g
    np.testing.assert_allclose(np.ravel(moved), desired, rtol=1e-5, atol=1e-6)
    delta = np.float64(moved).ravel() - w
    np.testing.assert_allclose(np.linalg.norm(delta) / np.linalg.norm(w), GAMMA, rtol=1e-4)
    # No step of that length climbs more than ||delta|| ||g||.
    np.testing.assert_allclose(delta @ g, np.linalg.norm(delta) * np.linalg.norm(g), rtol=1e-6)


def test_norms_and_biases_stay():
    params = tree(0)
    moved = perturb(params, tree(1), GAMMA)
    np.testing.assert_array_equal(moved['norm']['scale'], params['norm']['scale'])
    np.testing.assert_array_equal(moved['norm']['bias'], params['norm']['bias'])


@pytest.mark.parametrize('scale', [1e-6, 1e6])
def test_size_of_the_step_does_not_depend_on_the_gradients(scale):
    params, ascent = tree(0), tree(1)
    scaled = perturb(params, jax.tree.map(lambda g: scale * g, ascent), GAMMA)
    delta = np.float64(scaled['conv']) - params['conv']
    relative = np.linalg.norm(delta) / np.linalg.norm(params['conv'])
    np.testing.assert_allclose(relative, GAMMA, rtol=1e-4)


def test_vanishing_gradient_moves_nothing():
    params = tree(0)
    moved = perturb(params, jax.tree.map(jnp.zeros_like, params), GAMMA)
    chex.assert_trees_all_equal(moved, params)


def test_gamma_may_be_traced():
    """As in the training step, where it is 0 until the warm-up is over."""
    params, ascent = tree(0), tree(1)
    moved = jax.jit(perturb)
    chex.assert_trees_all_equal(moved(params, ascent, jnp.float32(0)), params)
    delta = moved(params, ascent, jnp.float32(GAMMA))['dense'] - params['dense']
    relative = np.linalg.norm(delta) / np.linalg.norm(params['dense'])
    np.testing.assert_allclose(relative, GAMMA, rtol=1e-4)
