"""Oracles: Pillow for what becomes of colours, a loop over pixels in float64 for what moves."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image, ImageEnhance, ImageOps

from war_jax.data import randaugment as ours

SIGNS = [-1.0, 0.35, 1.0]
PIXELS = np.random.default_rng(0).integers(20, 230, (24, 20, 3)).astype(np.uint8)
PIXELS[4:20, 3:15] //= 3  # a histogram with something to equalise


def of_pillow(name: str, strength: float) -> np.ndarray:
    image, size = Image.fromarray(PIXELS), abs(strength)
    done = {
        'brightness': lambda: ImageEnhance.Brightness(image).enhance(1 + 0.9 * strength),
        'colour': lambda: ImageEnhance.Color(image).enhance(1 + 0.9 * strength),
        'contrast': lambda: ImageEnhance.Contrast(image).enhance(1 + 0.9 * strength),
        'sharpness': lambda: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * strength),
        'posterise': lambda: ImageOps.posterize(image, 8 - round(4 * size)),
        'solarise': lambda: ImageOps.solarize(image, math.ceil(255 * (1 - size))),
        'autocontrast': lambda: ImageOps.autocontrast(image),
        'equalise': lambda: ImageOps.equalize(image),
    }
    return np.asarray(done[name]()).astype(float)


def of_ours(name: str, strength: float, pixels: np.ndarray = PIXELS) -> np.ndarray:
    image = jnp.asarray(pixels / 255, jnp.float32)
    result = jax.jit(getattr(ours, name))(image, jnp.float32(strength))
    assert result.dtype == np.float32 and result.min() >= 0 and result.max() <= 1
    return 255 * np.asarray(result, float)


@pytest.mark.parametrize('strength', SIGNS)
@pytest.mark.parametrize('name', ['brightness', 'colour', 'contrast', 'sharpness', 'autocontrast'])
def test_blends_are_those_of_pillow(name, strength):
    """Which rounds a grey value, and what it blends with, to whole numbers: a unit each."""
    found, expected = of_ours(name, strength), of_pillow(name, strength)
    assert np.abs(expected - PIXELS).mean() > 2
    assert np.abs(found - expected).max() < 2
    assert abs((found - expected).mean()) < 0.75


@pytest.mark.parametrize('strength', SIGNS)
@pytest.mark.parametrize('name', ['posterise', 'solarise', 'equalise'])
def test_tables_of_grey_values_are_those_of_pillow(name, strength):
    expected = of_pillow(name, strength)
    assert (expected != PIXELS).any()
    np.testing.assert_allclose(of_ours(name, strength), expected, atol=1e-3)


def test_few_pixels_or_one_colour_stay_as_they_are():
    few, one = PIXELS[:8, :8], np.full((24, 20, 3), 77, np.uint8)
    np.testing.assert_array_equal(np.asarray(ImageOps.equalize(Image.fromarray(few))), few)
    for pixels, name in ((few, 'equalise'), (one, 'equalise'), (one, 'autocontrast')):
        np.testing.assert_allclose(of_ours(name, 1.0, pixels), pixels, atol=1e-4)


def test_one_channel_is_its_own_grey():
    pixels = PIXELS[..., :1]
    np.testing.assert_allclose(of_ours('colour', -1.0, pixels), pixels, atol=1e-4)
    contrast = of_ours('contrast', -0.5, pixels)
    np.testing.assert_allclose(contrast, pixels.mean() + 0.55 * (pixels - pixels.mean()), atol=1e-3)


def moved_slowly(matrix: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel by pixel the nearest one of the source, and how near it is to lying between two."""
    h, w, _ = PIXELS.shape
    centre = np.array([(h - 1) / 2, (w - 1) / 2])
    out, margin = np.zeros(PIXELS.shape), np.zeros((h, w))
    for at in np.ndindex(h, w):
        place = matrix @ (np.array(at) - centre) + centre + shift
        row, column = np.floor(place + 0.5).astype(int)
        margin[at] = np.abs(place - np.floor(place) - 0.5).min()
        if 0 <= row < h and 0 <= column < w:
            out[at] = PIXELS[row, column]
    return out, margin


@pytest.mark.parametrize('strength', SIGNS)
def test_moves_are_those_of_a_loop_over_pixels(strength):
    """Of rows and columns: the inverse of each map, about the centre."""
    angle = np.deg2rad(30 * strength)
    turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    still, none = np.eye(2), np.zeros(2)
    shear, reach = 0.3 * strength, 150 / 331 * strength
    maps = {
        'rotate': (turned, none),
        'shear_x': (np.array([[1, 0], [shear, 1]]), none),
        'shear_y': (np.array([[1, shear], [0, 1]]), none),
        'translate_x': (still, np.array([0, -20 * reach])),
        'translate_y': (still, np.array([-24 * reach, 0])),
    }
    for name, how in maps.items():
        expected, margin = moved_slowly(*how)
        sure = margin > 1e-4
        assert sure.mean() > 0.9 and (expected != PIXELS).mean() > 0.3
        found = of_ours(name, strength)
        np.testing.assert_allclose(found[sure], expected[sure], atol=1e-3, err_msg=name)


def test_rotation_is_in_pillows_direction():
    expected = np.asarray(Image.fromarray(PIXELS).rotate(18)).astype(float)
    assert (np.abs(of_ours('rotate', 0.6) - expected) < 0.01).mean() > 0.97


@jax.jit
def of_each(image: jax.Array) -> jax.Array:
    """(h, w, c) -> (28, h, w, c): by all operations in both directions, of magnitude 18."""
    signs = (jnp.float32(0.6), jnp.float32(-0.6))
    return jnp.stack([operation(image, sign) for operation in ours.OPERATIONS for sign in signs])


def test_operations_are_drawn_alike_and_one_after_the_other():
    """Read off a row of the results: which operation, or which two, made what came out."""
    image, row = jnp.asarray(PIXELS / 255, jnp.float32), 2
    keys = jax.random.split(jax.random.key(0), 2000)
    images = jnp.broadcast_to(image, (2000, *image.shape))
    some = jax.jit(ours.randaugment, static_argnames=('count', 'magnitude'))
    of_one = np.asarray(some(keys, images, count=1, magnitude=18.0))
    once = of_each(image)
    distance = np.abs(of_one[:, None, row] - once[None, :, row]).max((2, 3))
    assert distance.min(1).max() < 1e-5
    chosen = distance.argmin(1)
    unsigned = (ours.identity, ours.posterise, ours.solarise, ours.autocontrast, ours.equalise)
    is_signed = np.array([operation not in unsigned for operation in ours.OPERATIONS])
    counts = np.bincount(chosen, minlength=28).reshape(-1, 2)
    assert scipy.stats.chisquare(counts.sum(1)).pvalue > 1e-3
    assert scipy.stats.chisquare(counts[is_signed].ravel()).pvalue > 1e-3
    of_two = np.asarray(some(keys[:64], images[:64], count=2, magnitude=18.0))
    twice = np.asarray(jax.vmap(of_each)(once)).reshape(-1, *image.shape)
    assert np.abs(of_two[:, None, row] - twice[None, :, row]).max((2, 3)).min(1).max() < 1e-5
