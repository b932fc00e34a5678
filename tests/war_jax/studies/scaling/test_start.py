"""A network at its start. Oracle: a WideResNet in NumPy, float64."""

import jax
import numpy as np
import pytest

from configs import digits
from tests.war_jax.models.numpy_network import NumpyNetwork
from war_jax.config import resolve
from war_jax.data.sources import balanced_subset, load
from war_jax.mesh import make_mesh
from war_jax.studies.scaling import start
from war_jax.training.build import build


@pytest.fixture(scope='module')
def fresh():
    config = resolve(digits.get_config('smoke'))
    splits = load(config.data)
    parts = build(config, splits, make_mesh())
    variables = jax.device_get(start.on_one_batch(parts, splits))
    return parts, splits, variables


def numpy_network(fresh, **options) -> NumpyNetwork:
    parts, _, variables = fresh
    return NumpyNetwork(variables, parts.config.model.strides, **options)


def test_its_running_statistics_are_those_of_one_batch(fresh):
    parts, splits, variables = fresh
    labels, count = splits.train.labels, parts.config.optimizer.batch_size
    images = splits.train.images[balanced_subset(labels, count)] / 255.0
    by_hand = numpy_network(fresh, mask=np.ones(count, bool))
    by_hand(images)
    assert len(by_hand.moments) == 7, 'two in each of three blocks, and the last one'
    for (*path, name), (mean, var) in by_hand.moments.items():
        norm = variables['batch_stats']
        for part in (*path, name):
            norm = norm[part]
        np.testing.assert_allclose(norm['mean'], mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(norm['var'], var, rtol=1e-4)


def test_the_ratio_is_that_of_a_step_along_differences(fresh):
    """The attack's first step, a quarter of epsilon, along signs of finite differences in NumPy.
    Later ones gain little: with the distance, the ratio falls."""
    parts, splits, _ = fresh
    count, epsilon = parts.config.evaluation.test_examples, parts.config.threat.epsilon
    network, rng = numpy_network(fresh), np.random.default_rng(0)
    x = splits.test.images[balanced_subset(splits.test.labels, count)] / 255.0

    def change(moved: np.ndarray) -> np.ndarray:
        return network(moved) - network(x)

    signs = np.sign(change(np.clip(x + rng.uniform(-0.1, 0.1, x.shape) * epsilon, 0, 1)))
    slopes = np.zeros(x.shape)
    for pixel in np.ndindex(x.shape[1:]):
        moved = x.copy()
        moved[:, *pixel] += 1e-6
        slopes[:, *pixel] = (signs * change(moved)).sum(-1)
    moved = np.clip(x + epsilon / 4 * np.sign(slopes), 0, 1)
    ratios = np.abs(change(moved)).sum(-1) / np.abs(moved - x).max((1, 2, 3))
    measured = start.local_lipschitz(parts, splits)
    assert ratios.mean() == pytest.approx(measured, rel=0.1)
