"""Norms of input gradients. Oracles: the chain rule in float64 NumPy, the law of dual norms, and
maxima of linear and quadratic functions over a ball."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntk.gradients import (
    Norm,
    dual,
    largest_over_ball,
    lengths,
    loss_gradient_norms,
    output_gradient_norms,
    output_gradients,
)
from war_jax.attacks.losses import cross_entropy
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel

ORDERS: dict[Norm, float] = {'l1': 1, 'l2': 2, 'linf': np.inf}
SHAPE = (3, 2, 2)  # of one image
NUM_OUTPUTS = 4


class Network:
    """Two layers with tanh between; `f` for JAX, the rest in float64 NumPy."""

    def __init__(self, num_outputs: int = NUM_OUTPUTS, scale: float = 1.0):
        rng = np.random.default_rng(0)
        self.w = rng.normal(size=(12, 7)) / 3
        self.v = scale * rng.normal(size=(7, num_outputs))

    def f(self, x):
        w, v = jnp.asarray(self.w, x.dtype), jnp.asarray(self.v, x.dtype)
        return jnp.tanh(x.reshape(len(x), -1) @ w) @ v

    def logits(self, x):
        return np.tanh(x.reshape(len(x), -1) @ self.w) @ self.v

    def jacobians(self, x):
        """(n, k, 12)"""
        slope = 1 - np.tanh(x.reshape(len(x), -1) @ self.w) ** 2
        return np.einsum('im,nm,mk->nki', self.w, slope, self.v)


def images(count: int = 5, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(count, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize('norm', ORDERS)
def test_dual_norm_of_a_linear_function(norm):
    """Oracle: w . d is at most ||w||_q ||d||_p, with equality for one d (Hoelder)."""
    rng = np.random.default_rng(0)
    w, d = rng.normal(size=6), rng.normal(size=(1000, 6))
    if norm == 'linf':
        d = np.vstack([d, np.sign(w)])
    elif norm == 'l2':
        d = np.vstack([d, w])
    else:
        d = np.vstack([d, np.eye(6)[np.argmax(np.abs(w))]])
    quotients = np.abs(d @ w) / np.linalg.norm(d, ORDERS[norm], axis=1)
    bound = np.linalg.norm(w, ORDERS[dual(norm)])
    np.testing.assert_allclose(quotients.max(), bound, rtol=1e-12)


@pytest.mark.parametrize('norm', ORDERS)
def test_lengths_are_numpy_norms(norm):
    values = np.random.default_rng(0).normal(size=(5, 4, *SHAPE)).astype(np.float32)
    expected = np.linalg.norm(values.reshape(5, 4, -1), ORDERS[norm], axis=2)
    np.testing.assert_allclose(lengths(jnp.asarray(values), norm, 2), expected, rtol=1e-6)
    of_examples = np.linalg.norm(values.reshape(5, -1), ORDERS[norm], axis=1)
    np.testing.assert_allclose(lengths(jnp.asarray(values), norm), of_examples, rtol=1e-6)


def test_l2_lengths_of_tiny_values_and_of_zeros():
    """Squares of 1e-30 are 0 in float32. The gradient is v / |v|, and 0 where that is 0 / 0."""
    values = jnp.asarray([[3e-30, 4e-30], [0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(lengths(values, 'l2'), [5e-30, 0, 5], rtol=1e-6)
    gradient = jax.grad(lambda v: lengths(v, 'l2').sum())(values)
    np.testing.assert_allclose(gradient, [[0.6, 0.8], [0, 0], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize('function', [dual, lambda norm: lengths(jnp.zeros((2, 3)), norm)])
def test_refuses_unknown_norms(function):
    with pytest.raises(ValueError, match="norm = 'l3': expected one of linf, l2, l1"):
        function('l3')


def test_output_gradients_are_the_chain_rule():
    network, x = Network(), images()
    actual = jax.jit(lambda z: output_gradients(network.f, z))(x)
    assert actual.shape == (5, NUM_OUTPUTS, *SHAPE)
    expected = network.jacobians(x)
    np.testing.assert_allclose(actual.reshape(expected.shape), expected, rtol=1e-4, atol=1e-6)
    for norm, order in ORDERS.items():
        norms = output_gradient_norms(network.f, jnp.asarray(x), norm)
        np.testing.assert_allclose(norms, np.linalg.norm(expected, order, axis=2), rtol=1e-5)


def test_loss_gradient_is_the_chain_rule():
    """Oracle: d (cross-entropy) / d logits = softmax - one-hot."""
    network, x, labels = Network(), images(), np.array([0, 1, 2, 3, 0])
    logits = network.logits(x)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradients = np.einsum('nk,nki->ni', softmax - np.eye(4)[labels], network.jacobians(x))

    def loss(logits):
        return cross_entropy(logits, jnp.asarray(labels))

    for norm, order in ORDERS.items():
        actual = loss_gradient_norms(network.f, loss, jnp.asarray(x), norm)
        np.testing.assert_allclose(actual, np.linalg.norm(gradients, order, axis=1), rtol=1e-5)


def keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(3), count)


@pytest.mark.parametrize(('norm', 'order'), [('linf', 1), ('l2', 2)])
def test_largest_over_ball_of_a_linear_function(norm, order):
    """Oracle: q(x) + epsilon ||w||_dual, where the box is not met."""
    x = 0.4 + 0.2 * images()
    w = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)

    def quantity(z):
        return jnp.sum(z * w[None], (1, 2, 3))

    budget = Budget(4, 0.02, 'none', 1.0)
    found = largest_over_ball(keys(5), quantity, jnp.asarray(x), ThreatModel(norm, 0.05), budget)
    expected = np.sum(x * w, (1, 2, 3)) + 0.05 * np.linalg.norm(w.ravel(), order)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_largest_over_ball_counts_nothing_outside_of_ball_and_box():
    """At the edge of the box and of the ball: q is largest at x itself, and larger outside."""
    x = jnp.zeros((4, *SHAPE))
    quantities = [
        lambda z: -jnp.sum(z, (1, 2, 3)),  # positive outside of the box
        lambda z: jnp.where(jnp.abs(z).max((1, 2, 3)) > 0.1001, 1.0, 0.0),  # outside of the ball
    ]
    for quantity in quantities:
        budget = Budget(3, 0.05, 'gaussian', 0.3)
        found = largest_over_ball(keys(4), quantity, x, ThreatModel('linf', 0.1), budget)
        np.testing.assert_array_equal(found, np.zeros(4))


def test_largest_over_ball_remembers_what_it_met_on_the_way():
    """Steps of the ball's width jump over the peak of -|z - 0.5|, but meet it once."""
    x = jnp.full((2, 1, 1, 1), 0.4)

    def quantity(z):
        return -jnp.abs(z[:, 0, 0, 0] - 0.5)

    budget = Budget(2, 0.1, 'none', 1.0)
    found = largest_over_ball(keys(2), quantity, x, ThreatModel('linf', 0.3), budget)
    np.testing.assert_allclose(found, [0, 0], atol=1e-6)


def test_largest_over_ball_is_at_least_the_value_at_x():
    x = jnp.full((3, *SHAPE), 0.5)

    def quantity(z):
        return -jnp.abs(z - 0.5).sum((1, 2, 3))

    budget = Budget(2, 0.07, 'uniform', 1.0)
    found = largest_over_ball(keys(3), quantity, x, ThreatModel('linf', 0.1), budget)
    np.testing.assert_array_equal(found, np.zeros(3))


def test_the_trap_of_piecewise_linear_networks():
    """Output gradients of ReLU do not climb: each start stays on its piece, as documented. The loss
    gradient of the same network climbs, and so do the output gradients of tanh."""
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(12, 7)), jnp.float32)
    x = jnp.asarray(images(20))
    threat, budget = ThreatModel('linf', 0.2), Budget(5, 0.05, 'uniform', 1.0)
    start = Budget(1, 0.0, 'uniform', 1.0)

    def gain(activation, measure):
        def f(z):
            return activation(z.reshape(len(z), -1) @ w) @ w[:7]

        def quantity(z):
            return measure(f, z)

        both = [largest_over_ball(keys(20), quantity, x, threat, b) for b in (budget, start)]
        return np.asarray(both[0] - both[1])

    def of_output(f, z):
        return output_gradient_norms(f, z, 'l1')[:, 0]

    def of_loss(f, z):
        return loss_gradient_norms(f, lambda logits: cross_entropy(logits, jnp.ones(20, int)), z)

    assert np.all(gain(jax.nn.relu, of_output) == 0)
    assert np.mean(gain(jax.nn.relu, of_loss) > 1e-3) > 0.5
    assert np.mean(gain(jnp.tanh, of_output) > 1e-3) > 0.5
