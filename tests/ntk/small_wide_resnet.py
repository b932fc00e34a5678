"""A WideResNet small enough for dense oracles, with random parameters and statistics."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from war_jax.models.wide_resnet import WideResNet

STRIDES = (1, 2, 1)


def small_model(dtype: str) -> WideResNet:
    """Of (n, 8, 8, 1) images; three outputs."""
    of = jnp.dtype(dtype)
    return WideResNet(10, 0.25, 3, strides=STRIDES, dtype=of, param_dtype=of)


def random_variables(seed: int, dtype: str = 'float64', model: nn.Module | None = None) -> Any:
    """Random in every leaf, so that no scale of 1 and no bias of 0 can hide a fault.

    model: of the same images; None means the WideResNet.
    """
    rng, of = np.random.default_rng(seed), model or small_model('float32')
    image = jnp.zeros((1, 8, 8, 1))
    shapes = jax.eval_shape(lambda: of.init(jax.random.key(0), image, train=False))

    def draw(leaf: Any) -> np.ndarray:
        if leaf.ndim > 1:
            fan_in = np.prod(leaf.shape[:-1])
            return (rng.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(dtype)
        return rng.uniform(0.5, 1.5, leaf.shape).astype(dtype)

    return jax.tree.map(draw, shapes)


def random_images(count: int, seed: int, dtype: str = 'float64') -> Any:
    return np.random.default_rng(seed).uniform(0, 1, (count, 8, 8, 1)).astype(dtype)
