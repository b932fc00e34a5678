"""Residual networks of many blocks: images in [0, 1] to logits.

    model = WideResNet(depth=34, widen_factor=10, num_classes=10)           # models.wide_resnet
    model = PreActResNet(18, 1, num_classes=10)                             # four stages
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    logits = model.apply(variables, images, train=False)            # (b, h, w, c) -> (b, classes)

One network stands for all of a family: a first convolution, stages of blocks, of which the first
carries the stride, a global average pool and a dense head. `Form` says what a block is and what
stands between; sizes are those of `war_jax.families`. All can be read from PyTorch's files
(`war_jax.models.variants`); runs train WideResNets and PreActResNets.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from war_jax.config_rules import convert
from war_jax.families import FAMILIES, network_name
from war_jax.models.layers import (
    BatchNorm,
    Convolution,
    CosineHead,
    Pssilu,
    activation,
    dense_init,
)
from war_jax.models.normalisation import IDENTITY, Normalisation

Padding = Literal['torch', 'tensorflow']
EXPANSION = 4  # of a bottleneck: channels behind it, over those within


class Form(NamedTuple):
    """What the blocks of a network compute, and what stands around them.

    block: 'preactivation', norm and activation before each of two 3x3 convolutions (He et al.
      2016b); 'basic', behind them and behind the sum (He et al. 2016a); 'bottleneck', that with a
      3x3 convolution between two of 1x1, the last four times as wide.
    projects_activated: projections take the activated input of a block with pre-activations, as in
      TRADES' and in Rice et al.'s code, or else the input itself.
    projects_strides: a block with a stride has a projection, too, where the number of channels
      stays; or else pixels are skipped.
    projection: size of its kernel, 1 or 3.
    has_last_norm: norm and activation before the pool.
    is_cosine: logits are the cosines between features and the classes' weights (Pang et al. 2020).
    """

    block: Literal['preactivation', 'basic', 'bottleneck'] = 'preactivation'
    projects_activated: bool = True
    projects_strides: bool = False
    projection: int = 1
    has_last_norm: bool = True
    is_cosine: bool = False

    @property
    def is_preactivated(self) -> bool:
        return self.block == 'preactivation'


WIDE = Form()
PREACT = Form(projects_strides=True)
BASIC = Form('basic', False, True, has_last_norm=False)
BOTTLENECK = BASIC._replace(block='bottleneck')


class Block(nn.Module):
    """Two or three convolutions and a shortcut, as `form` says."""

    features: int
    stride: int
    activation: str | Pssilu
    padding: str
    axis_name: str | None
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    form: Form = WIDE

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None, passes: int | None) -> Array:
        types, form = (self.dtype, self.param_dtype), self.form
        active = activation(self.activation)

        def norm(x: Array, name: str) -> Array:
            layer = BatchNorm(1e-5, self.axis_name, *types, name=name)
            return layer(x, train=train, mask=mask, passes=passes)

        def conv(x: Array, name: str, size: int, stride: int = 1, width: int = 1) -> Array:
            layer = Convolution(width * self.features, size, stride, *types, name=name)
            if size == 3 and stride == 2 and self.padding == 'tensorflow':
                # Nothing above and to the left: windows begin one pixel later than PyTorch's.
                return layer(jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0))))[:, 1:, 1:]
            return layer(x)

        if form.block == 'preactivation':
            shortcut_of = active(norm(x, 'norm1'))
            between = conv(shortcut_of, 'conv1', 3, self.stride)
            y = conv(active(norm(between, 'norm2')), 'conv2', 3)
            if not form.projects_activated:
                shortcut_of = x
        elif form.block == 'basic':
            y = active(norm(conv(x, 'conv1', 3, self.stride), 'norm1'))
            y, shortcut_of = norm(conv(y, 'conv2', 3), 'norm2'), x
        else:
            y = active(norm(conv(x, 'conv1', 1), 'norm1'))
            y = active(norm(conv(y, 'conv2', 3, self.stride), 'norm2'))
            y, shortcut_of = norm(conv(y, 'conv3', 1, width=EXPANSION), 'norm3'), x
        width = y.shape[-1] // self.features
        if x.shape[-1] != y.shape[-1] or (form.projects_strides and self.stride != 1):
            x = conv(shortcut_of, 'shortcut', form.projection, self.stride, width)
            x = x if form.is_preactivated else norm(x, 'shortcut_norm')
        elif self.stride != 1:
            x = x[:, :: self.stride, :: self.stride]
        return x + y if form.is_preactivated else active(x + y)


class Stage(nn.Module):
    """`num_blocks` blocks of equal width; the first one carries the stride."""

    num_blocks: int
    features: int
    stride: int
    activation: str | Pssilu
    padding: str
    axis_name: str | None
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    remat: bool
    form: Form = WIDE

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
                self.form,
                name=f'block{i}',
            )
            x = apply(block, x, mask)
        return x


class ResidualNetwork(nn.Module):
    """The network of a family; by default a WideResNet-depth-widen_factor.

    depth: of the name; ValueError for one that says nothing of the blocks of the family's stages,
      unless `stage_depths` does.
    widen_factor: > 0, may be a fraction; of the family's channels.
    stem_channels: channels of the first convolution.
    strides: of the stages.
    axis_name: mesh axis of the training-mode batch statistics, None for per-device statistics.
    dtype, param_dtype: of the computation, and of parameters and statistics.
    remat: in training mode, keep no more than the inputs of blocks for the gradient.
    activation: of `layers.ACTIVATIONS`, or a PSSiLU.
    padding: of 3x3 convolutions with stride 2: one pixel on every side ('torch'), or below and to
      the right ('tensorflow': its 'SAME' for images of even size).
    stage_depths, stage_widths: blocks of each stage, and factors of its channels; empty where the
      family says them.
    normalise: what the images go through first.
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
    activation: str | Pssilu = 'relu'
    padding: str = 'torch'
    stage_depths: Sequence[int] = ()
    stage_widths: Sequence[float] = ()
    normalise: Normalisation = IDENTITY
    family: str = 'wide_resnet'
    form: Form = WIDE

    @nn.compact
    def __call__(self, images: Array, *, train: bool, mask: Array | None = None) -> Array:
        """(..., b, h, w, c) in [0, 1] -> (..., b, num_classes) logits.

        mask (b,) marks the real examples. Several batches may go through together, (passes, b, h,
        w, c); each has batch statistics of its own.
        """
        convert('padding', self.padding, Padding)
        active = activation(self.activation)
        passes = images.shape[0] if images.ndim == 5 else None
        how = {'train': train, 'mask': mask, 'passes': passes}
        types = (self.dtype, self.param_dtype)

        def normed(x: Array, name: str) -> Array:
            return active(BatchNorm(1e-5, self.axis_name, *types, name=name)(x, **how))

        # The first convolution keeps full precision in its type and in its products: rounded to
        # bfloat16, an image moves by up to 0.002, and a perturbation of 8/255 arrives with errors
        # of a tenth of itself.
        stem = Convolution(
            self.stem_channels, 3, 1, self.param_dtype, self.param_dtype, name='stem'
        )
        with jax.default_matmul_precision('highest'):
            x = images.reshape(-1, *images.shape[-3:]).astype(self.param_dtype)
            x = stem(self.normalise(x)).astype(self.dtype)
        if not self.form.is_preactivated:
            x = normed(x, 'stem_norm')
        sizes = zip(self.blocks, self.channels, self.strides, strict=True)
        for s, (num_blocks, features, stride) in enumerate(sizes):
            stage = Stage(
                num_blocks,
                features,
                stride,
                self.activation,
                self.padding,
                self.axis_name,
                *types,
                self.remat,
                self.form,
                name=f'stage{s + 1}',
            )
            x = stage(x, **how)
        if self.form.has_last_norm:
            x = normed(x, 'norm')
        x = x.mean((1, 2))
        if self.form.is_cosine:
            head = CosineHead(self.num_classes, *types, name='head')
        else:
            head = nn.Dense(
                self.num_classes,
                kernel_init=dense_init,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name='head',
            )
        return head(x).reshape(*images.shape[:-3], self.num_classes)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Of each stage."""
        depths = tuple(self.stage_depths) or FAMILIES[self.family].depths(self.depth)
        if depths is None:
            name = FAMILIES[self.family].name
            raise ValueError(f'depth = {self.depth}: no {name} has it, without stage_depths')
        return depths

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each stage, of a bottleneck's within."""
        return FAMILIES[self.family].channels(self.widen_factor, tuple(self.stage_widths))

    @property
    def title(self) -> str:
        """Its name by its size, and the sizes of stages that are not usual."""
        usual = FAMILIES[self.family].depths(self.depth)
        depths = () if self.blocks == usual else self.blocks
        sizes = {'name': self.family, 'depth': self.depth, 'widen_factor': self.widen_factor}
        return network_name({**sizes, 'stage_depths': depths, 'stage_widths': self.stage_widths})


class PreActResNet(ResidualNetwork):
    """PreActResNet-depth, 18 in most papers, in the form of Rice et al. 2020: projections take the
    activated input, and norm and activation stand before the pool."""

    stem_channels: int = 64
    strides: Sequence[int] = (1, 2, 2, 2)
    family: str = 'preact_resnet'
    form: Form = PREACT
