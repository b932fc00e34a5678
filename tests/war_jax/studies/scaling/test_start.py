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


def test_no_ratio_is_larger_than_the_largest(fresh):
    """Random points of the ball change the outputs less, but not by orders of magnitude."""
    parts, splits, _ = fresh
    count, epsilon = parts.config.evaluation.test_examples, parts.config.threat.epsilon
    images = splits.test.images[balanced_subset(splits.test.labels, count)] / 255.0
    change = np.random.default_rng(0).uniform(-epsilon / 10, epsilon / 10, images.shape)
    network = numpy_network(fresh)
    moved = np.clip(images + change, 0, 1)
    ratios = np.abs(network(moved) - network(images)).sum(-1)
    ratios /= np.abs(moved - images).max((1, 2, 3))
    measured = start.local_lipschitz(parts, splits)
    assert 0.03 * measured < ratios.mean() < measured
