"""RandAugment (Cubuk et al. 2020): a few random operations on each image, all of one strength.

    images = randaugment(keys, images, count=2, magnitude=9.0)      # (b,), (b, h, w, c) in [0, 1]

The operations and what the largest strength does to an image are those of torchvision's
`RandAugment`; how each is defined is Pillow's, on real numbers: only what counts grey values
(posterise, equalise) rounds them to 0 .. 255 first. Geometric operations take the nearest pixel and
leave black where there is none; they are about the image's centre, also the shears, which are about
a corner there. dm-pix has neither shears nor four of the others, hence the few lines of our own.

Every image meets every operation, of which one result is kept: so a choice for each image is
compiled (docs/performance.md has the time).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

LARGEST_MAGNITUDE = 30.0
# At the largest strength.
_SHEAR, _TRANSLATION, _DEGREES, _BLEND, _BITS = 0.3, 150 / 331, 30.0, 0.9, 4
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, of red, green and blue


def randaugment(keys: Array, images: Array, *, count: int, magnitude: float) -> Array:
    """`count` operations, one after the other, each drawn uniformly from `OPERATIONS`.

    Args:
      keys: (b,) PRNG keys, one for each image.
      images: (b, h, w, c) in [0, 1].
      count: of operations per image, >= 0.
      magnitude: 0 to 30, the strength; the direction of each operation is random.
    """
    strength = magnitude / LARGEST_MAGNITUDE

    def one(key: Array, image: Array) -> Array:
        for each in jax.random.split(key, count):
            which, sign = jax.random.split(each)
            number = jax.random.randint(which, (), 0, len(OPERATIONS))
            signed = jnp.where(jax.random.bernoulli(sign), strength, -strength)
            image = jax.lax.switch(number, OPERATIONS, image, signed.astype(image.dtype))
        return image

    return jax.vmap(one)(keys, images)


def identity(image: Array, strength: Array) -> Array:
    """(h, w, c), () in [-1, 1] -> (h, w, c), as all operations."""
    del strength
    return image


def shear_x(image: Array, strength: Array) -> Array:
    return _warp(image, columns=lambda y, x: x + _SHEAR * strength * y)


def shear_y(image: Array, strength: Array) -> Array:
    return _warp(image, rows=lambda y, x: y + _SHEAR * strength * x)


def translate_x(image: Array, strength: Array) -> Array:
    distance = _TRANSLATION * image.shape[1] * strength
    return _warp(image, columns=lambda y, x: x - distance + 0 * y)


def translate_y(image: Array, strength: Array) -> Array:
    distance = _TRANSLATION * image.shape[0] * strength
    return _warp(image, rows=lambda y, x: y - distance + 0 * x)


def rotate(image: Array, strength: Array) -> Array:
    """Counterclockwise for strength > 0."""
    angle = jnp.deg2rad(_DEGREES * strength)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    return _warp(image, lambda y, x: cos * y + sin * x, lambda y, x: cos * x - sin * y)


def brightness(image: Array, strength: Array) -> Array:
    return _blend(image, jnp.zeros_like(image), strength)


def colour(image: Array, strength: Array) -> Array:
    """Towards its grey image, or away from it."""
    return _blend(image, jnp.broadcast_to(_grey(image), image.shape), strength)


def contrast(image: Array, strength: Array) -> Array:
    """Towards its mean grey, or away from it."""
    return _blend(image, jnp.full_like(image, _grey(image).mean()), strength)


def sharpness(image: Array, strength: Array) -> Array:
    """Towards the mean of each pixel (of weight 5) and its eight neighbours; the border stays."""
    h, w, _ = image.shape
    inner = image[1:-1, 1:-1]
    window = sum(image[i : h - 2 + i, j : w - 2 + j] for i in range(3) for j in range(3))
    return _blend(image, image.at[1:-1, 1:-1].set((window + 4 * inner) / 13), strength)


def posterise(image: Array, strength: Array) -> Array:
    """Keeps 8 to 4 bits of each grey value."""
    dropped = jnp.round(_BITS * jnp.abs(strength)).astype(jnp.int32)
    return _from_levels((_levels(image) >> dropped) << dropped, image)


def solarise(image: Array, strength: Array) -> Array:
    """Inverts what is at least as bright as 1 - |strength|."""
    return jnp.where(image >= 1 - jnp.abs(strength), 1 - image, image)


def autocontrast(image: Array, strength: Array) -> Array:
    """Stretches each channel over 0 to 1."""
    del strength
    low, high = (f(image, (0, 1), keepdims=True) for f in (jnp.min, jnp.max))
    stretched = (image - low) / jnp.where(high > low, high - low, 1)
    return jnp.where(high > low, stretched, image)


def equalise(image: Array, strength: Array) -> Array:
    """Makes each channel's histogram flat; one of fewer than 256 pixels beside its brightest ones
    stays as it is."""
    del strength

    def channel(levels: Array) -> Array:
        counts = jnp.zeros(256, jnp.int32).at[levels].add(1)
        step = (levels.size - counts[levels.max()]) // 255
        below = jnp.cumsum(counts) - counts
        table = jnp.clip((step // 2 + below) // jnp.maximum(step, 1), 0, 255)
        return jnp.where(step > 0, table[levels], -1)

    levels = jax.vmap(channel, -1, -1)(_levels(image))
    return jnp.where(levels < 0, image, _from_levels(levels, image))


OPERATIONS = (
    identity, shear_x, shear_y, translate_x, translate_y, rotate, brightness, colour, contrast,
    sharpness, posterise, solarise, autocontrast, equalise,
)  # fmt: skip

# Of a pixel's distance from the centre, down (h, 1) and to the right (1, w): that of its source.
Source = Callable[[Array, Array], Array]


def _warp(
    image: Array, rows: Source = lambda y, x: y + 0 * x, columns: Source = lambda y, x: x + 0 * y
) -> Array:
    h, w, _ = image.shape
    middle, centre = (h - 1) / 2, (w - 1) / 2
    y = jnp.arange(h, dtype=image.dtype)[:, None] - middle
    x = jnp.arange(w, dtype=image.dtype)[None, :] - centre
    row = jnp.floor(rows(y, x) + middle + 0.5).astype(jnp.int32)
    column = jnp.floor(columns(y, x) + centre + 0.5).astype(jnp.int32)
    inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
    source = image[jnp.clip(row, 0, h - 1), jnp.clip(column, 0, w - 1)]
    return jnp.where(inside[..., None], source, 0)


def _blend(image: Array, other: Array, strength: Array) -> Array:
    """`other` + factor * (image - other), with a factor of 0.1 to 1.9."""
    return jnp.clip(other + (1 + _BLEND * strength) * (image - other), 0, 1)


def _grey(image: Array) -> Array:
    """(h, w, c) -> (h, w, 1)"""
    if image.shape[-1] != len(_LUMA):
        return image.mean(-1, keepdims=True)
    return sum(weight * image[..., i : i + 1] for i, weight in enumerate(_LUMA))  # type: ignore


def _levels(image: Array) -> Array:
    return jnp.round(255 * image).astype(jnp.int32)


def _from_levels(levels: Array, like: Array) -> Array:
    return levels.astype(like.dtype) / 255
