"""Oracles: a slow NumPy crop with the offsets read off a ramp image, and chi-square bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import PartitionSpec as P

from war_jax.data import augment

crop_flip = jax.jit(augment.crop_flip, static_argnames=('pad', 'flip'))


def draw(keys, pad, size=12):
    """Recovers (top, left, flipped) of each key from an image whose pixels name their place."""
    ramp = np.broadcast_to(np.moveaxis(np.indices((size, size)), 0, 2), (len(keys), size, size, 2))
    out = np.asarray(crop_flip(keys, jnp.asarray(ramp, jnp.int32), pad=pad, flip=True))
    middle = size // 2  # never padding, as long as pad + 1 < size / 2
    flipped = out[:, middle, middle + 1, 1] < out[:, middle, middle, 1]
    top = out[:, middle, middle, 0] - middle + pad
    left = out[:, middle, middle, 1] - np.where(flipped, size - 1 - middle, middle) + pad
    return top, left, flipped


def crop_flip_slowly(images, top, left, flipped, pad):
    b, h, w = images.shape[:3]
    out = np.zeros_like(images)
    for n in range(b):
        for i in range(h):
            for j in range(w):
                row = i + top[n] - pad
                column = (w - 1 - j if flipped[n] else j) + left[n] - pad
                if 0 <= row < h and 0 <= column < w:
                    out[n, i, j] = images[n, row, column]
    return out


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_equals_a_loop_over_pixels(dtype):
    images = (255 * np.random.default_rng(0).random((20, 12, 10, 3))).astype(dtype)
    keys = jax.random.split(jax.random.key(1), 20)
    top, left, flipped = draw(keys, pad=3)
    assert 0 < flipped.sum() < 20
    out = crop_flip(keys, images, pad=3, flip=True)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, crop_flip_slowly(images, top, left, flipped, 3))
    cropped = crop_flip(keys, images, pad=3, flip=False)
    np.testing.assert_array_equal(cropped, crop_flip_slowly(images, top, left, flipped & False, 3))


def test_no_padding_leaves_only_flips():
    images = jnp.asarray(np.random.default_rng(0).random((16, 8, 8, 1), np.float32))
    keys = jax.random.split(jax.random.key(2), 16)
    np.testing.assert_array_equal(crop_flip(keys, images, pad=0, flip=False), images)
    out = np.asarray(crop_flip(keys, images, pad=0, flip=True))
    mirrored = np.asarray(images)[:, :, ::-1]
    flipped = (out == mirrored).all((1, 2, 3))
    assert 0 < flipped.sum() < 16
    np.testing.assert_array_equal(out[~flipped], np.asarray(images)[~flipped])


def test_offsets_and_flips_are_uniform_and_independent():
    pad = 2
    top, left, flipped = draw(jax.random.split(jax.random.key(3), 5000), pad)
    sides = 2 * pad + 1
    assert top.min() == left.min() == 0
    assert top.max() == left.max() == 2 * pad
    cells = np.bincount((top * sides + left) * 2 + flipped, minlength=2 * sides**2)
    assert scipy.stats.chisquare(cells).pvalue > 1e-3


def test_an_example_depends_on_its_own_key_only():
    images = jnp.asarray(np.random.default_rng(4).integers(0, 256, (9, 8, 8, 3)), jnp.uint8)
    keys = jax.random.split(jax.random.key(4), 9)
    whole = np.asarray(crop_flip(keys, images, pad=2, flip=True))
    order = np.array([3, 8, 0, 5])
    np.testing.assert_array_equal(
        crop_flip(keys[order], images[order], pad=2, flip=True), whole[order]
    )
    np.testing.assert_array_equal(crop_flip(keys, images, pad=2, flip=True), whole)
    other = np.asarray(crop_flip(jax.random.split(jax.random.key(5), 9), images, pad=2, flip=True))
    assert (other != whole).any((1, 2, 3)).sum() >= 7


def test_shards_equal_the_whole():
    images = jnp.asarray(np.random.default_rng(6).integers(0, 256, (16, 8, 8, 3)), jnp.uint8)
    keys = jax.random.split(jax.random.key(6), 16)
    mesh = jax.make_mesh((4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.jit(
        jax.shard_map(
            lambda k, x: augment.crop_flip(k, x, pad=2, flip=True),
            mesh=mesh,
            in_specs=(P('data'), P('data')),
            out_specs=P('data'),
        )
    )
    np.testing.assert_array_equal(sharded(keys, images), crop_flip(keys, images, pad=2, flip=True))
