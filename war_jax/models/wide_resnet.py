"""Pre-activation WideResNet-d-k: images in [0, 1] to logits.

The function is that of the TRADES and WAR authors' PyTorch networks (Zagoruyko & Komodakis 2016,
with a global average pool), so that their weights and ours are interchangeable
(`war_jax.models.torch_io`):

    model = WideResNet(depth=34, widen_factor=10, num_classes=10)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    logits = model.apply(variables, images, train=False)            # (b, h, w, c) -> (b, classes)

There are three stages of (d - 4) / 6 blocks of two convolutions; stage s = 0, 1, 2 has
round(16 * 2**s * k) channels.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

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
ACTIVATIONS = {'relu': nn.relu, 'swish': nn.silu}
Padding = Literal['torch', 'tensorflow']


def stage_widths(widen_factor: float) -> tuple[int, int, int]:
    """Channels of the three stages; at least one each, so that a widen factor below 1 works."""
    w1, w2, w3 = (max(1, round(base * widen_factor)) for base in (16, 32, 64))
    return w1, w2, w3


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
        if train:
            mean, var, unbiased = self._moments(x, mask, passes or 1)
            self.put_variable('moments', 'mean', mean if passes else mean[0])
            self.put_variable('moments', 'var', unbiased if passes else unbiased[0])
            mean, var = self._to_each((mean, var))
            scale, bias = scale[None], bias[None]
        gain = scale * jax.lax.rsqrt(var + self.epsilon)
        shift = bias - mean * gain
        return x * self._along(gain, x) + self._along(shift, x)

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
        values = values.astype(x.dtype)
        if values.ndim == 1:
            return values.reshape((1,) * (x.ndim - 1) + values.shape)
        # An array of x's shape cut into passes would cost more: XLA's loops over it would divide.
        each = jnp.repeat(values, x.shape[0] // len(values), 0)
        return each.reshape(len(each), *[1] * (x.ndim - 2), x.shape[-1])


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; norm and activation come before each convolution."""

    features: int
    stride: int
    activation: str
    padding: str
    axis_name: str | None
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None, passes: int | None) -> Array:
        types = (self.dtype, self.param_dtype)

        def activate(x: Array, name: str) -> Array:
            norm = BatchNorm(1e-5, self.axis_name, *types, name=name)
            return ACTIVATIONS[self.activation](norm(x, train=train, mask=mask, passes=passes))

        active = activate(x, 'norm1')
        conv1 = Convolution(self.features, 3, self.stride, *types, name='conv1')
        if self.stride == 2 and self.padding == 'tensorflow':
            # Nothing above and to the left: windows begin one pixel later than PyTorch's.
            before = ((0, 0), (1, 0), (1, 0), (0, 0))
            between = conv1(jnp.pad(active, before))[:, 1:, 1:]
        else:
            between = conv1(active)
        y = activate(between, 'norm2')
        y = Convolution(self.features, 3, 1, *types, name='conv2')(y)
        if x.shape[-1] != self.features:
            # As in TRADES' code, the projection starts from the activated input.
            x = Convolution(self.features, 1, self.stride, *types, name='shortcut')(active)
        elif self.stride != 1:
            x = x[:, :: self.stride, :: self.stride]
        return x + y


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
        return convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)


class WideResNet(nn.Module):
    """WideResNet-depth-widen_factor.

    depth: (depth - 4) must be a positive multiple of 6, else ValueError.
    widen_factor: k > 0; may be a fraction.
    stem_channels: channels of the first convolution (16 in the papers).
    strides: of the three stages; (1, 2, 2) in the papers.
    axis_name: mesh axis of the training-mode batch statistics, None for per-device statistics.
    dtype, param_dtype: of the computation, and of parameters and statistics.
    remat: in training mode, keep no more than the inputs of blocks for the gradient.
    activation: 'relu', or 'swish', x * sigmoid(x).
    padding: of 3x3 convolutions with stride 2: one pixel on every side ('torch'), or below and to
      the right ('tensorflow': its 'SAME' for images of even size).
    ConfigError for any other activation or padding.
    """

    depth: int
    widen_factor: float
    num_classes: int
    stem_channels: int = 16
    strides: Sequence[int] = (1, 2, 2)
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.dtype('float32')
    param_dtype: jnp.dtype = jnp.dtype('float32')
    remat: bool = False
    activation: str = 'relu'
    padding: str = 'torch'

    @nn.compact
    def __call__(self, images: Array, *, train: bool, mask: Array | None = None) -> Array:
        """(..., b, h, w, c) in [0, 1] -> (..., b, num_classes) logits.

        mask (b,) marks the real examples. Several batches may go through together, (passes, b, h,
        w, c); each has batch statistics of its own.
        """
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(f'depth = {self.depth}: (depth - 4) must be a positive multiple of 6')
        convert('activation', self.activation, Literal[*ACTIVATIONS])
        convert('padding', self.padding, Padding)
        passes = images.shape[0] if images.ndim == 5 else None
        how = {'train': train, 'mask': mask, 'passes': passes}
        types = (self.dtype, self.param_dtype)
        # The first convolution keeps full precision in its type and in its products: rounded to
        # bfloat16, an image moves by up to 0.002, and a perturbation of 8/255 arrives with errors
        # of a tenth of itself.
        stem = Convolution(
            self.stem_channels, 3, 1, self.param_dtype, self.param_dtype, name='stem'
        )
        with jax.default_matmul_precision('highest'):
            x = stem(images.reshape(-1, *images.shape[-3:])).astype(self.dtype)
        num_blocks = (self.depth - 4) // 6
        for s, features in enumerate(stage_widths(self.widen_factor)):
            stage = Stage(
                num_blocks,
                features,
                self.strides[s],
                self.activation,
                self.padding,
                self.axis_name,
                *types,
                self.remat,
                name=f'stage{s + 1}',
            )
            x = stage(x, **how)
        norm = BatchNorm(1e-5, self.axis_name, *types, name='norm')
        x = ACTIVATIONS[self.activation](norm(x, **how)).mean((1, 2))
        head = nn.Dense(
            self.num_classes,
            kernel_init=dense_init,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name='head',
        )
        return head(x).reshape(*images.shape[:-3], self.num_classes)


class Stage(nn.Module):
    """`num_blocks` blocks of equal width; the first one carries the stride."""

    num_blocks: int
    features: int
    stride: int
    activation: str
    padding: str
    axis_name: str | None
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None, passes: int | None) -> Array:
        def apply(block: Block, x: Array, mask: Array | None) -> Array:
            return block(x, train=train, mask=mask, passes=passes)

        if self.remat and train:
            apply = nn.remat(apply)
        for i in range(self.num_blocks):
            block = Block(
                self.features,
                self.stride if i == 0 else 1,
                self.activation,
                self.padding,
                self.axis_name,
                self.dtype,
                self.param_dtype,
                name=f'block{i}',
            )
            x = apply(block, x, mask)
        return x
