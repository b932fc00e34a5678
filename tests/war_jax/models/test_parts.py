"""Batches cut into parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.models import parts
from war_jax.models.parts import by_parts


@pytest.mark.parametrize(
    'count, sizes', [(64, [16]), (48, [16]), (22, [11]), (16, [16]), (14, [14]), (34, [34])]
)
def test_parts_of_eight_to_sixteen_rows(count, sizes, monkeypatch):
    """Oracle: the whole at once. 34 = 2 x 17 has no such parts, and stays whole."""
    monkeypatch.setattr(parts, 'LARGEST', 16 * 3)
    x, y = np.arange(3.0 * count).reshape(count, 3), np.arange(float(count))
    seen = []

    def function(x, tree):
        seen.append(x.shape[0])
        return {'sum': x.sum(1) + tree['y'], 'x': 2 * x}

    result = jax.jit(lambda: by_parts(function, jnp.asarray(x), {'y': jnp.asarray(y)}))()
    assert sorted(set(seen)) == sizes
    np.testing.assert_array_equal(result['sum'], x.sum(1) + y)
    np.testing.assert_array_equal(result['x'], 2 * x)


@pytest.mark.parametrize(
    'shape, size', [((96, 96, 3), 8), ((32, 32, 3), 15), ((28, 28, 1), 60), ((8, 8, 1), 120)]
)
def test_parts_are_larger_of_smaller_images(shape, size):
    """120 images and labels. The images count; 15 is the largest divisor of 120 up to 16."""
    seen = []
    images, labels = jnp.zeros((120, *shape)), jnp.zeros(120)
    by_parts(lambda labels, x: seen.append(x.shape[0]) or x, labels, images)
    assert set(seen) == {size}


def test_keys_are_cut_as_well(monkeypatch):
    keys = jax.random.split(jax.random.key(0), 32)
    draw = jax.vmap(lambda key: jax.random.normal(key))
    monkeypatch.setattr(parts, 'LARGEST', 16)
    np.testing.assert_array_equal(by_parts(draw, keys), draw(keys))


def test_accelerators_take_the_batch_whole(monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    seen = []
    by_parts(lambda x: seen.append(x.shape[0]) or x, jnp.zeros((64, 32, 32, 3)))
    assert seen == [64]
