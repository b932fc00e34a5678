"""Measures of one network, against a linear network, where everything is in closed form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from ntk.networks import FullyConnected
from ntk.studies.width.measure import MEASURED, make_measure, make_movement
from ntk.studies.width.training import Network
from war_jax.attacks.threat import ThreatModel

SHAPE, OUTPUTS, EPSILON = (2, 2, 1), 3, 0.1
LINEAR = FullyConnected(num_layers=1, width=1, num_outputs=OUTPUTS)


def network_of(first: Any, now: Any, alpha: float = 1.0, factor: float = 1.0) -> Network:
    weights, begun = (jax.tree.map(jnp.float32, tree) for tree in (now, first))
    multipliers = jax.tree.map(lambda _: jnp.float32(factor), weights)
    return Network(weights, begun, begun, multipliers, jnp.float32(alpha))


def linear(alpha: float = 1.0, change: float = 0.0) -> tuple[Network, np.ndarray]:
    """A network, and the matrix (inputs, outputs) that g multiplies with."""
    rng, factor = np.random.default_rng(0), 0.5
    first, moved = rng.normal(size=(4, OUTPUTS)), change * rng.normal(size=(4, OUTPUTS))
    begun, now = ({'head': {'kernel': matrix}} for matrix in (first, first + moved))
    return network_of(begun, now, alpha, factor), factor * (first + alpha * moved)


def examples() -> tuple[np.ndarray, np.ndarray]:
    # Away from the edges of the box, which would cut the ball.
    images = np.random.default_rng(1).uniform(0.3, 0.7, size=(7, *SHAPE))
    return images, np.arange(7) % OUTPUTS


def measured(network: Network) -> dict[str, Any]:
    x, y = examples()
    measure = make_measure(LINEAR, ThreatModel('linf', EPSILON), num_steps=5)
    found = measure(network, jax.random.key(0), jnp.float32(x), jnp.asarray(y))
    return {key: float(value) for key, value in found.items()}


def test_a_linear_network():
    network, matrix = linear(alpha=3.0, change=0.5)
    x, y = examples()
    found = measured(network)
    assert set(found) == set(MEASURED)
    logits = x.reshape(7, 4) @ matrix
    rms = np.sqrt(np.mean(np.sum(matrix**2, axis=0)))
    assert found['gradient_rms'] == pytest.approx(rms, rel=1e-5)
    risk = -log_softmax(logits, axis=1)[np.arange(7), y].mean()
    assert found['natural_risk'] == pytest.approx(risk, rel=1e-5)
    slope = (softmax(logits, axis=1) - np.eye(OUTPUTS)[y]) @ matrix.T
    assert found['loss_gradient'] == pytest.approx(np.abs(slope).sum(1).mean(), rel=1e-4)
    assert found['natural_accuracy'] == pytest.approx((logits.argmax(1) == y).mean())
    # ||W^T d||_1 / ||d||_inf is largest at a corner of the cube, all of which are tried here.
    corners = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1)
    largest = np.abs(matrix.T @ corners).sum(0).max()
    assert 0.8 * largest < found['local_lipschitz'] <= largest * (1 + 1e-4)
    assert found['loss_gradient_ball'] > found['loss_gradient']
    second, first = np.sort(logits, axis=1)[:, -2:].T
    assert found['margin'] == pytest.approx((first - second).mean(), rel=1e-5)
    ratio = found['local_lipschitz'] / found['margin']
    assert found['lipschitz_by_margin'] == pytest.approx(ratio, rel=1e-5)
    # No perturbation can change a prediction whose margin is larger than eps * ||w_a - w_b||_1.
    gaps = np.abs(matrix[:, :, None] - matrix[:, None]).sum(0)
    top = logits.argmax(1)
    margins = logits[np.arange(7), top][:, None] - logits
    certified = np.all((margins > EPSILON * gaps[top]) | (np.arange(3) == top[:, None]), axis=1)
    assert found['perturbation_stability'] >= certified.mean()
    robust = found['robust_accuracy']
    assert robust <= min(found['natural_accuracy'], found['perturbation_stability'])


def test_a_linear_network_moves_along_its_linearisation():
    network, _ = linear(alpha=2.0, change=0.25)
    found = make_movement(LINEAR)(network, jnp.float32(examples()[0]))
    first = np.asarray(network.start['head']['kernel'])
    moved = np.asarray(network.weights['head']['kernel']) - first
    assert float(found['movement']) == pytest.approx(
        np.linalg.norm(moved) / np.linalg.norm(first), rel=1e-5
    )
    assert float(found['linearisation_error']) < 1e-5


def test_the_error_of_the_linearisation_is_what_finite_differences_say():
    model = FullyConnected(num_layers=2, width=6, num_outputs=OUTPUTS, activation='gelu')
    rng = np.random.default_rng(0)

    def draw(size: float) -> Any:
        shapes = {'layer1': (4, 6), 'head': (6, OUTPUTS)}
        return {k: {'kernel': size * rng.normal(size=s)} for k, s in shapes.items()}

    first, change, x = draw(1.0), draw(0.5), examples()[0]

    def f(share: float) -> np.ndarray:
        weights = jax.tree.map(lambda w, d: jnp.asarray(w + share * d), first, change)
        return np.asarray(model.apply({'params': weights}, jnp.asarray(x)))

    with jax.enable_x64(True):
        slope = (f(1e-5) - f(-1e-5)) / 2e-5
        moved = f(1.0) - f(0.0)
        assert moved.dtype == np.float64
    expected = np.linalg.norm(moved - slope) / np.linalg.norm(moved)
    network = network_of(first, jax.tree.map(np.add, first, change))
    found = make_movement(model)(network, jnp.float32(x))
    assert expected > 0.05
    assert float(found['linearisation_error']) == pytest.approx(expected, rel=1e-4)
