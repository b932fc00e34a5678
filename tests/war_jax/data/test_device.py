"""Pixels in [0, 1] against NumPy's quotients and, in other types, exact fractions."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from war_jax.config_rules import ConfigError
from war_jax.data.device import as_unit_interval

PIXELS = np.arange(256, dtype=np.uint8).reshape(2, 8, 8, 2)
BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


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
