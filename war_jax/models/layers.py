"""What the networks are made of: activations, BatchNorm, convolutions, and their first weights.

active = activation('swish')(BatchNorm(name='norm1')(x, train=False))
y = Convolution(features=64, size=3, stride=2, dtype=..., param_dtype=...)(active)
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers

from war_jax.config_rules import convert
from war_jax.mesh import to_each, total
from war_jax.models.convolution import convolve

# The paper's code draws every convolution from N(0, 2 / (kernel area * output channels)) and leaves
# the dense layer at PyTorch's default, U(-1/sqrt(in), 1/sqrt(in)).
conv_init = initializers.variance_scaling(2.0, 'fan_out', 'normal')
dense_init = initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
T = TypeVar('T')
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    'relu': nn.relu,
    'swish': nn.silu,
    'gelu': partial(nn.gelu, approximate=False),
}


class Pssilu(NamedTuple):
    """x (sigmoid(|alpha| x) - |beta|) / (1 - |beta|), of two trained numbers (Dai et al. 2022)."""

    alpha: float
    beta: float

    def __call__(self, x: Array) -> Array:
        alpha, beta = abs(self.alpha), abs(self.beta)
        return x * (nn.sigmoid(alpha * x) - beta) / (1 - beta)

    def __str__(self) -> str:
        return f'PSSiLU (alpha {self.alpha:g}, beta {self.beta:g})'


def activation(name: str | Pssilu) -> Callable[[Array], Array]:
    """Raises ConfigError for a name that is not of ACTIVATIONS."""
    if isinstance(name, Pssilu):
        return name
    return ACTIVATIONS[convert('activation', name, Literal[*ACTIVATIONS])]


def from_weights(layer: nn.Module, name: str, make: Callable[[], T]) -> T:
    """make(), which must look at weights and statistics alone, or what `forward.prepared` has kept
    of it in the collection `prepared`."""
    if layer.has_variable('prepared', name):
        return layer.get_variable('prepared', name)
    value = make()
    if layer.is_mutable_collection('prepared') and not layer.is_initializing():
        layer.put_variable('prepared', name, value)
    return value


class BatchNorm(nn.Module):
    """Batch normalisation that leaves its running statistics alone.

    In inference mode the running mean and variance fold into one scale and one shift per channel.
    In training mode the batch's own moments are used and put into the collection `moments`
    (`mean`, and the *unbiased* `var` that PyTorch accumulates); the caller decides in which order
    several passes enter the running statistics (`forward.update_statistics`).

    axis_name: mesh axis over which the moments are taken; None means this device's examples only.
    """

    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.dtype('float32')
    param_dtype: jnp.dtype = jnp.dtype('float32')

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, passes: int | None = None
    ) -> Array:
        """(n, ..., c) -> the same; mask (b,) marks the real examples.

        passes: the input is that many batches of b examples, one behind the other. Each is
        normalised by its own moments, which have shape (passes, features), or (features,) for None.
        """
        shape = x.shape[-1:]
        scale = self.param('scale', initializers.ones, shape, self.param_dtype)
        bias = self.param('bias', initializers.zeros, shape, self.param_dtype)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, self.param_dtype).value
        var = self.variable('batch_stats', 'var', jnp.ones, shape, self.param_dtype).value
        if not train:
            gain, shift = from_weights(
                self, 'factors', lambda: self._factors(scale, bias, mean, var, x.dtype)
            )
            return x * self._along(gain, x) + self._along(shift, x)
        mean, var, unbiased = self._moments(x, mask, passes or 1)
        self.put_variable('moments', 'mean', mean if passes else mean[0])
        self.put_variable('moments', 'var', unbiased if passes else unbiased[0])
        mean, var = self._to_each((mean, var))
        gain, shift = self._factors(scale[None], bias[None], mean, var, x.dtype)
        return x * self._along(gain, x) + self._along(shift, x)

    def _factors(self, scale: Array, bias: Array, mean: Array, var: Array, dtype: Any) -> Any:
        """The two numbers by which a channel is multiplied and shifted."""
        gain = scale * jax.lax.rsqrt(var + self.epsilon)
        return gain.astype(dtype), (bias - mean * gain).astype(dtype)

    def _moments(self, x: Array, mask: Array | None, passes: int) -> tuple[Array, Array, Array]:
        """(n, ..., c) -> (passes, features): mean, biased and unbiased variance of each channel
        over the unmasked examples of each batch."""
        x = x.astype(self.param_dtype)  # bfloat16 sums over a batch would lose the small terms
        batch = x.shape[0] // passes
        real = jnp.ones(batch, bool) if mask is None else mask
        if self.axis_name is None:
            # A device may hold nothing but padding. That counts nowhere, but has to stay finite: a
            # variance of 0 would amplify from layer to layer, and 0 * inf is not a number.
            real = real | ~real.any()

        def of_all(values: Array) -> Array:
            return values if self.axis_name is None else total(values, self.axis_name)

        def mean_of(values: Array) -> Array:
            by_example = jnp.sum(values, tuple(range(1, x.ndim - 1)))
            by_example = by_example.reshape(passes, batch, x.shape[-1])
            return of_all(jnp.sum(jnp.where(real[:, None], by_example, 0), 1)) / count

        positions = math.prod(x.shape[1:-1])
        count = jnp.maximum(of_all(jnp.sum(real.astype(x.dtype))) * positions, 1)
        mean = mean_of(x)
        # Two sweeps: E[x^2] - E[x]^2 cancels where a channel's mean is far from 0.
        var = mean_of(jnp.square(x - self._along(self._to_each(mean), x)))
        return mean, var, var * (count / jnp.maximum(count - 1, 1))

    def _to_each(self, moments: Any) -> Any:
        return moments if self.axis_name is None else to_each(moments, self.axis_name)

    def _along(self, values: Array, x: Array) -> Array:
        """(features,), or (passes, features) for the examples of each batch: to meet x."""
        if values.ndim == 1:
            return values.reshape((1,) * (x.ndim - 1) + values.shape)
        # An array of x's shape cut into passes would cost more: XLA's loops over it would divide.
        each = jnp.repeat(values, x.shape[0] // len(values), 0)
        return each.reshape(len(each), *[1] * (x.ndim - 2), x.shape[-1])


class Convolution(nn.Module):
    """A square convolution without bias, padded by (size - 1) / 2 on every side as in PyTorch."""

    features: int
    size: int
    stride: int
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(b, h, w, c) -> (b, h', w', features)."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param('kernel', conv_init, shape, self.param_dtype)
        rounded = from_weights(self, 'kernel', lambda: kernel.astype(self.dtype))
        return convolve(x.astype(self.dtype), rounded, self.stride)


class CosineHead(nn.Module):
    """Cosines between features and the weights of each class; of a vector of length 0, 0."""

    num_classes: int
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """(b, features) -> (b, num_classes)."""
        shape = (features.shape[-1], self.num_classes)
        kernel = self.param('kernel', dense_init, shape, self.param_dtype)
        return _unit(features.astype(self.dtype), 1) @ _unit(kernel.astype(self.dtype), 0)


def _unit(vectors: Array, axis: int) -> Array:
    """Of length 1; the length is taken as 1e-12 at least, as in PyTorch's `normalize`."""
    square = jnp.square(vectors).sum(axis, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
