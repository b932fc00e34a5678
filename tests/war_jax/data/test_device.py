"""Batches against NumPy's indexing; pixels in [0, 1] against NumPy's quotients and, in other types,
exact fractions."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from war_jax.config_rules import ConfigError
from war_jax.data.batches import train_plan
from war_jax.data.device import DeviceData, as_unit_interval
from war_jax.data.sources import Dataset
from war_jax.mesh import AXIS, make_mesh

PIXELS = np.arange(256, dtype=np.uint8).reshape(2, 8, 8, 2)
BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


@pytest.mark.parametrize('placement', ['replicated', 'host_sharded'])
@pytest.mark.parametrize('done', [0, 3])
def test_devices_cut_the_batches_of_a_plan_out_of_all_data_by_themselves(done, placement):
    rng = np.random.default_rng(0)
    sets = [
        Dataset(rng.integers(0, 256, (n, 8, 8, 1), np.uint8), rng.integers(0, 10, n, np.int32))
        for n in (21, 14)
    ]
    images = np.concatenate([each.images for each in sets])
    labels = np.concatenate([each.labels for each in sets])
    mesh = make_mesh()
    plan = train_plan(0, 1, 21, 8, num_extra=14, extra_per_batch=4)
    assert not plan.mask.all() and len(plan.mask) == 6
    data = DeviceData(mesh, *sets, placement=placement)
    assert len(data) == 35
    batches = data.batches(plan, done)
    found = [next(batches)]
    with jax.transfer_guard_host_to_device('disallow_explicit'):
        found += batches
    for batch, indices, mask in zip(found, plan.indices[done:], plan.mask[done:], strict=True):
        assert batch.images.sharding == NamedSharding(mesh, P(AXIS))
        np.testing.assert_array_equal(batch.images, images[indices])
        np.testing.assert_array_equal(batch.labels, labels[indices])
        np.testing.assert_array_equal(batch.mask, mask)
        np.testing.assert_array_equal(batch.ids, indices)
    alone = data.batch(plan.indices[1], plan.mask[1])
    np.testing.assert_array_equal(alone.images, images[plan.indices[1]])


def test_a_device_holds_its_share_of_the_rows():
    """35 rows on four devices: nine on each, one of them padding."""
    mesh, rows = make_mesh(), np.arange(35, dtype=np.int32)
    images = np.zeros((35, 8, 8, 1), np.uint8)
    data = DeviceData(mesh, Dataset(images, rows), placement='host_sharded')
    held = (data._images, data._labels)
    shapes = [{shard.data.shape for shard in array.addressable_shards} for array in held]
    assert shapes == [{(9, 8, 8, 1)}, {(9,)}] and len(data) == 35


def converted(dtype: str, *, jit: bool = True) -> np.ndarray:
    def convert(images):
        return as_unit_interval(images, jnp.dtype(dtype))

    return np.asarray((jax.jit(convert) if jit else convert)(jnp.asarray(PIXELS)))


@pytest.mark.parametrize('jit', [True, False])
def test_all_pixels_are_bitwise_those_of_numpy(jit):
    found = converted('float32', jit=jit)
    expected = PIXELS.astype(np.float32) / np.float32(255)
    assert found.dtype == np.float32 and found.shape == PIXELS.shape
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_bytes_and_a_users_own_floats_are_the_same_images():
    own = jnp.asarray(PIXELS.astype(np.float32) / np.float32(255))
    as_floats = jax.jit(lambda images: as_unit_interval(images, jnp.dtype('float32')))(own)
    np.testing.assert_array_equal(converted('float32'), as_floats)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float64'])
def test_other_types_are_nearest_to_the_exact_fraction(dtype):
    """Oracle: neither neighbour of a number in its type is nearer to k/255."""
    with jax.enable_x64(dtype == 'float64'):
        found = converted(dtype).ravel()
    assert found.dtype == np.dtype(ml_dtypes.bfloat16 if dtype == 'bfloat16' else dtype)
    bits = found.view(BITS[found.itemsize])
    neighbours = [moved.view(found.dtype) for moved in (bits[1:] - 1, bits[1:] + 1)]
    assert found[0] == 0 and found[255] == 1
    for number, value in enumerate(found[1:], start=1):
        off = abs(Fraction(float(value)) - Fraction(number, 255))
        for other in neighbours:
            assert off <= abs(Fraction(float(other[number - 1])) - Fraction(number, 255))


@pytest.mark.parametrize('dtype', ['int32', 'int8', 'bool'])
def test_other_integers_are_refused(dtype):
    """Whether they are 0..255 cannot be seen inside a compiled program."""
    with pytest.raises(ConfigError, match=f"images = '{dtype}': must be uint8, or floats"):
        as_unit_interval(jnp.zeros((1, 8, 8, 1), dtype), jnp.dtype('float32'))
