"""Training steps, against kernel regression in float64 NumPy and against optax's losses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntk.networks import Architecture, make_network, plain_weights
from ntk.networks.parametrization import PARAMETRIZATIONS
from ntk.studies.width.training import Rates, Step, make_step, outputs, predict, start
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel

SHAPE, OUTPUTS = (3, 3, 1), 3
THREAT, BUDGET = ThreatModel('linf', 0.1), Budget(2, 0.05, 'gaussian', 0.001)


def problem(activation: str = 'gelu') -> tuple[Any, ...]:
    """model, weights at the start, scales, images, labels."""
    model = make_network(Architecture('fcn', num_layers=2, activation=activation), 12, OUTPUTS)
    scales = PARAMETRIZATIONS['mup'].scales(model, SHAPE, 2.0, 1.0)
    weights = scales.draw(plain_weights(model, jax.random.key(0), SHAPE))
    images = jax.random.uniform(jax.random.key(1), (6, *SHAPE))
    return model, weights, scales, images, jnp.arange(6) % OUTPUTS


def rates(learning_rate: float, momentum: float = 0.0, lam: float = 0.0) -> Rates:
    return Rates(jnp.float32(learning_rate), jnp.float32(momentum), jnp.float32(lam))


def test_lazy_training_on_the_squared_loss_is_kernel_regression():
    """f_T = f_0 + (I - (I - eta Theta / n)^T) (t - f_0), Theta the dense kernel at the start."""
    model, weights, scales, x, y = problem()
    eta, steps = 0.3, 25

    def f(weights):
        return outputs(model, scales.multipliers, weights, x)

    leaves = jax.tree.leaves(jax.jit(jax.jacrev(f))(weights))
    jacobian = np.concatenate([np.asarray(leaf, float).reshape(18, -1) for leaf in leaves], axis=1)
    theta = jacobian @ jacobian.T
    at_start = np.asarray(f(weights), float).ravel()
    targets = np.eye(OUTPUTS)[np.asarray(y)].ravel() - 1 / OUTPUTS
    remaining = np.linalg.matrix_power(np.eye(18) - eta / 6 * theta, steps)
    expected = targets + remaining @ (at_start - targets)
    assert np.abs(expected - at_start).max() > 0.1  # something is learned

    step, network = make_step(model, 'natural_lazy', THREAT, BUDGET), start(weights, scales, 300.0)
    for number in range(steps):
        network, loss = step(network, jax.random.key(2), number, rates(eta), x, y)
        if number == 0:
            squares = np.sum((at_start - targets) ** 2)
            assert float(loss) == pytest.approx(squares / (2 * 6), rel=1e-5)
    got = np.asarray(predict(model, network, x)).ravel()
    np.testing.assert_allclose(got, expected, atol=2e-3)
    assert step._cache_size() == 1  # type: ignore[attr-defined]


def test_natural_training_is_heavy_ball_on_the_cross_entropy():
    model, weights, scales, x, y = problem()

    def loss(weights):
        logits = outputs(model, scales.multipliers, weights, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    gradient = jax.jit(jax.grad(loss))
    expected, velocity = weights, jax.tree.map(jnp.zeros_like, weights)
    for _ in range(3):
        grads = gradient(expected)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
        expected = jax.tree.map(lambda w, v: w - 0.5 * v, expected, velocity)
    step, network = make_step(model, 'natural', THREAT, BUDGET), start(weights, scales, 1.0)
    for number in range(3):
        network, before = step(network, jax.random.key(2), number, rates(0.5, 0.9), x, y)
        if number == 0:
            assert float(before) == pytest.approx(float(loss(weights)), rel=1e-5)
    for got, want in zip(*map(jax.tree.leaves, (network.weights, expected)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_trades_adds_lambda_times_the_divergence_at_images_in_the_ball():
    model, weights, scales, x, y = problem()
    key = jax.random.key(2)

    def loss_before(step: Step, lam: float) -> float:
        return float(step(start(weights, scales, 1.0), key, 0, rates(0.1, 0.9, lam), x, y)[1])

    natural = loss_before(make_step(model, 'natural', THREAT, BUDGET), 0.0)
    trades = make_step(model, 'trades', THREAT, BUDGET)
    risks = [loss_before(trades, lam) for lam in (0.0, 1.0, 4.0)]
    assert risks[0] == pytest.approx(natural, rel=1e-6)
    divergence = risks[1] - natural
    assert divergence > 1e-7
    assert risks[2] - natural == pytest.approx(4 * divergence, rel=1e-2)


def test_scaling_changes_how_far_weights_move_and_not_what_is_learned():
    model, weights, scales, x, y = problem()
    ends, moved = [], []
    step = make_step(model, 'trades_lazy', THREAT, BUDGET)
    for alpha in (100.0, 400.0):
        network = start(weights, scales, alpha)
        for number in range(4):
            args = (network, jax.random.key(2), number, rates(0.3, 0.9, 2.0), x, y)
            network, _ = step(*args)
        ends.append(np.asarray(predict(model, network, x)))
        change = jax.tree.map(lambda w, w0: jnp.sum((w - w0) ** 2), network.weights, weights)
        moved.append(float(jnp.sqrt(sum(jax.tree.leaves(change)))))
    np.testing.assert_allclose(ends[0], ends[1], atol=5e-3)
    assert moved[0] / moved[1] == pytest.approx(4.0, rel=0.02)
