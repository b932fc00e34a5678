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

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers

# The paper's code draws every convolution from N(0, 2 / (kernel area * output channels)) and leaves
# the dense layer at PyTorch's default, U(-1/sqrt(in), 1/sqrt(in)).
conv_init = initializers.variance_scaling(2.0, 'fan_out', 'normal')
dense_init = initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


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
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        shape = (x.shape[-1],)
        scale = self.param('scale', initializers.ones, shape, self.param_dtype)
        bias = self.param('bias', initializers.zeros, shape, self.param_dtype)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, self.param_dtype).value
        var = self.variable('batch_stats', 'var', jnp.ones, shape, self.param_dtype).value
        if train:
            mean, var, count = self._moments(x, mask)
            self.put_variable('moments', 'mean', mean)
            unbiased = var * (count / jnp.maximum(count - 1, 1))
            self.put_variable('moments', 'var', unbiased)
        gain = scale * jax.lax.rsqrt(var + self.epsilon)
        shift = bias - mean * gain
        along_channels = (1,) * (x.ndim - 1) + shape
        gain, shift = gain.reshape(along_channels), shift.reshape(along_channels)
        return x * gain.astype(self.dtype) + shift.astype(self.dtype)

    def _moments(self, x: Array, mask: Array | None) -> tuple[Array, Array, Array]:
        """Mean and biased variance per channel over unmasked examples, and how many values."""
        x = x.astype(self.param_dtype)  # bfloat16 sums over a batch would lose the small terms
        axes = tuple(range(x.ndim - 1))
        positions = x.size // (x.shape[0] * x.shape[-1])
        weight = jnp.ones(x.shape[0], x.dtype) if mask is None else mask.astype(x.dtype)
        if self.axis_name is None:
            # A device may hold nothing but padding. That counts nowhere, but has to stay finite: a
            # variance of 0 would amplify from layer to layer, and 0 * inf is not a number.
            weight = jnp.where(weight.any(), weight, 1)
        weight = weight.reshape((-1,) + (1,) * (x.ndim - 1))

        def total(values: Array) -> Array:
            return values if self.axis_name is None else jax.lax.psum(values, self.axis_name)

        count = jnp.maximum(total(jnp.sum(weight)) * positions, 1)
        mean = total(jnp.sum(x * weight, axes)) / count
        centred = x - mean.reshape((1,) * (x.ndim - 1) + mean.shape)
        # Two passes: E[x^2] - E[x]^2 cancels where a channel's mean is far from 0.
        var = total(jnp.sum(jnp.square(centred) * weight, axes)) / count
        return mean, var, count


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; norm and ReLU come before each convolution."""

    features: int
    stride: int
    axis_name: str | None
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None) -> Array:
        def norm(name: str) -> BatchNorm:
            return BatchNorm(
                axis_name=self.axis_name, dtype=self.dtype, param_dtype=self.param_dtype, name=name
            )

        active = nn.relu(norm('norm1')(x, train=train, mask=mask))
        y = conv(self.features, 3, self.stride, self.dtype, self.param_dtype, 'conv1')(active)
        y = nn.relu(norm('norm2')(y, train=train, mask=mask))
        y = conv(self.features, 3, 1, self.dtype, self.param_dtype, 'conv2')(y)
        if x.shape[-1] != self.features:
            # As in TRADES' code, the projection starts from the activated input.
            types = (self.dtype, self.param_dtype)
            x = conv(self.features, 1, self.stride, *types, 'shortcut')(active)
        elif self.stride != 1:
            x = x[:, :: self.stride, :: self.stride]
        return x + y


def conv(features: int, size: int, stride: int, dtype, param_dtype, name: str) -> nn.Conv:
    """A square convolution without bias, padded by (size - 1) / 2 on every side as in PyTorch."""
    pad = (size - 1) // 2
    return nn.Conv(
        features,
        (size, size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        kernel_init=conv_init,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )


class WideResNet(nn.Module):
    """WideResNet-depth-widen_factor.

    depth: (depth - 4) must be a positive multiple of 6, else ValueError.
    widen_factor: k > 0; may be a fraction.
    stem_channels: channels of the first convolution (16 in the papers).
    strides: of the three stages; (1, 2, 2) in the papers.
    axis_name: mesh axis of the training-mode batch statistics, None for per-device statistics.
    dtype, param_dtype: of the computation, and of parameters and statistics.
    remat: in training mode, keep no more than the inputs of blocks for the gradient.
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

    @nn.compact
    def __call__(self, images: Array, *, train: bool, mask: Array | None = None) -> Array:
        """(b, h, w, c) in [0, 1] -> (b, num_classes) logits; mask (b,) marks the real examples."""
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(f'depth = {self.depth}: (depth - 4) must be a positive multiple of 6')
        types = (self.dtype, self.param_dtype)
        # The first convolution keeps full precision: rounded to bfloat16, an image moves by up to
        # 0.002, and a perturbation of 8/255 arrives with errors of a tenth of itself.
        stem = conv(self.stem_channels, 3, 1, self.param_dtype, self.param_dtype, 'stem')
        x = stem(images.astype(self.param_dtype)).astype(self.dtype)
        for s, features in enumerate(stage_widths(self.widen_factor)):
            stage = Stage(
                (self.depth - 4) // 6,
                features,
                self.strides[s],
                self.axis_name,
                *types,
                self.remat,
                name=f'stage{s + 1}',
            )
            x = stage(x, train=train, mask=mask)
        norm = BatchNorm(
            axis_name=self.axis_name, dtype=self.dtype, param_dtype=self.param_dtype, name='norm'
        )
        x = nn.relu(norm(x, train=train, mask=mask)).mean((1, 2))
        head = nn.Dense(
            self.num_classes,
            kernel_init=dense_init,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name='head',
        )
        return head(x)


class Stage(nn.Module):
    """`num_blocks` blocks of equal width; the first one carries the stride."""

    num_blocks: int
    features: int
    stride: int
    axis_name: str | None
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None) -> Array:
        def apply(block: Block, x: Array, mask: Array | None) -> Array:
            return block(x, train=train, mask=mask)

        if self.remat and train:
            apply = nn.remat(apply)
        for i in range(self.num_blocks):
            block = Block(
                self.features,
                self.stride if i == 0 else 1,
                self.axis_name,
                self.dtype,
                self.param_dtype,
                name=f'block{i}',
            )
            x = apply(block, x, mask)
        return x
