"""Oracles: slow NumPy crops and boxes with their places read off the results, and tests of fit.

That devices, padding and the slots of a batch change nothing is in training/test_step.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import PartitionSpec as P

from war_jax.data import augment
from war_jax.data.batches import Batch
from war_jax.mesh import AXIS, make_mesh

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


def drawn_boxes(changed: np.ndarray) -> np.ndarray:
    """(n, h, w) bool -> (n, 4): first and last row and column of each, which must be filled."""
    edges = []
    for each in changed:
        rows, columns = np.flatnonzero(each.any(1)), np.flatnonzero(each.any(0))
        edges.append((rows[0], rows[-1], columns[0], columns[-1]))
        assert each[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert each.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return np.array(edges)


@pytest.mark.parametrize('side', [3, 4])
def test_cutout_is_one_black_square_anywhere(side):
    """Its centre is uniform: of every pixel, what lies up to half a side around it is black."""
    size, n = 9, 4000
    keys = jax.random.split(jax.random.key(0), n)
    images = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1, (n, size, size, 2)), jnp.float32)
    cut = np.asarray(jax.jit(augment.cutout, static_argnames='side')(keys, images, side=side))
    black = (cut == 0).all(-1)
    np.testing.assert_array_equal(cut, np.where(black[..., None], 0, images))
    top, bottom, left, right = drawn_boxes(black).T
    assert (bottom - top + 1).max() == (right - left + 1).max() == side
    places = []
    for first, last in ((top, bottom), (left, right)):
        centre = np.where(first > 0, first + side // 2, last - side + 1 + side // 2)
        start, stop = centre - side // 2, centre - side // 2 + side
        np.testing.assert_array_equal(first, np.maximum(start, 0))
        np.testing.assert_array_equal(last, np.minimum(stop, size) - 1)
        places.append(centre)
    cells = np.bincount(places[0] * size + places[1], minlength=size**2)
    assert scipy.stats.chisquare(cells).pvalue > 1e-3


def mixed(keys, batch: Batch, devices: int = 4, **options) -> Batch:
    mesh = make_mesh(jax.devices()[:devices])
    options = {'probability': 1.0, 'alpha': 1.0, 'num_classes': 5, **options}
    mix = jax.shard_map(
        lambda keys, batch: augment.cutmix(keys, batch, **options),
        mesh=mesh,
        in_specs=(P(AXIS), P(AXIS)),
        out_specs=P(AXIS),
    )
    return jax.device_get(jax.jit(mix)(keys, batch))


def painted(n: int, size: int) -> Batch:
    """Images of one colour each, their numbers; every fourth one is padding."""
    colours = np.arange(n, dtype=np.float32)[:, None, None, None]
    images = np.broadcast_to(colours, (n, size, size, 1))
    labels = np.random.default_rng(0).integers(0, 5, n).astype(np.int32)
    ids = np.random.default_rng(1).permutation(n).astype(np.int32)
    return Batch(images, labels, np.arange(n) % 4 > 0, ids)


@pytest.mark.parametrize('alpha', [1.0, 0.4])
def test_cutmix_is_a_box_of_another_real_image_and_its_share_of_the_label(alpha):
    n, size = 2000, 16
    batch = painted(n, size)
    out = mixed(jax.random.split(jax.random.key(3), n), batch, alpha=alpha)
    colours = out.images[..., 0].astype(int)
    changed = colours != np.arange(n)[:, None, None]
    partner = np.where(changed, colours, -1).max((1, 2))
    touched = partner >= 0
    assert (np.where(changed, partner[:, None, None], colours) == colours).all()
    assert batch.mask[partner[touched]].all() and 0.8 < touched.mean() < 1
    share = changed.mean((1, 2))
    expected = (1 - share)[:, None] * np.eye(5)[batch.labels]
    expected += share[:, None] * np.eye(5)[batch.labels[partner]]
    np.testing.assert_allclose(out.labels, expected, atol=1e-6)
    # Partners are uniform over the real ones; a box that no border cuts tells its lambda.
    real = np.flatnonzero(batch.mask)
    groups = np.bincount(np.searchsorted(real, partner[touched]) * 10 // len(real), minlength=10)
    assert scipy.stats.chisquare(groups).pvalue > 1e-3
    side = np.zeros(n, int)
    edges = drawn_boxes(changed[touched])
    side[touched] = np.maximum(edges[:, 1] - edges[:, 0], edges[:, 3] - edges[:, 2]) + 1
    lengths = np.sqrt(1 - scipy.stats.beta(alpha, alpha).rvs(200_000, random_state=0))
    cut = np.floor(size * lengths).astype(int)
    place = np.random.default_rng(2).integers(0, size, (2, len(cut))) - cut // 2
    seen = (np.minimum(place + cut, size) - np.maximum(place, 0)).max(0)
    expected_counts = np.bincount(seen, minlength=size + 1) * (n / len(cut))
    counts = np.bincount(side, minlength=size + 1)
    used = expected_counts > 5
    fit = ((counts - expected_counts)[used] ** 2 / expected_counts[used]).sum()
    assert scipy.stats.chi2(used.sum() - 1).sf(fit) > 1e-3


def test_cutmix_leaves_the_other_images_alone():
    batch = painted(2000, 16)
    keys = jax.random.split(jax.random.key(4), 2000)
    out, always = mixed(keys, batch, probability=0.3), mixed(keys, batch)
    same = (out.images == batch.images).all((1, 2, 3))
    np.testing.assert_array_equal(out.images[~same], always.images[~same])
    np.testing.assert_array_equal(out.labels[same], np.eye(5)[batch.labels[same]])
    assert 0.2 < (~same).mean() < 0.35
