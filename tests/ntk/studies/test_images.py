"""Images and targets of the experiments on image data, on real digits."""

import jax.numpy as jnp
import numpy as np
import pytest

from ntk.studies.images import balanced, centred_targets
from war_jax.config import ConfigError, DataConfig
from war_jax.data.sources import Splits, load


@pytest.fixture(scope='module')
def digits() -> Splits:
    return load(DataConfig.whole('digits', ''))


def test_images_are_balanced_and_in_the_unit_interval(digits: Splits):
    images, labels = balanced(digits.test, 20)
    assert images.shape == (20, 8, 8, 1) and images.dtype == jnp.float32
    assert float(images.min()) >= 0.0 and 0.5 < float(images.max()) <= 1.0
    np.testing.assert_array_equal(np.bincount(np.asarray(labels)), np.full(10, 2))


def test_more_images_than_there_are_are_refused(digits: Splits):
    with pytest.raises(ConfigError, match='must be at most 500, the number of images'):
        balanced(digits.test, 501)


def test_targets_are_centred():
    expected = np.array([[2, -1, -1], [-1, -1, 2]]) / 3
    np.testing.assert_allclose(centred_targets(jnp.array([0, 2]), 3), expected, rtol=1e-6)
