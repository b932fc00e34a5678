"""A WideResNet as a chain of linear layers, and the product of their norms.

    layers = wide_resnet_layers(model, variables)
    composed(layers, (32, 32, 3), norms).bound                # norms and largest gains apart
    composed(fold(layers), (32, 32, 3), norms).bound          # together, of the folded layers

An upper bound of the network's Lipschitz constant between L2 norms: the constant of a composition
is at most the product of the layers' constants, that of a sum at most their sum (Szegedy et al.
2014, section 4.3).
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from war_jax.measures.operators.norms import Padding, convolve, dense_norm
from war_jax.models.layers import BatchNorm
from war_jax.models.residual import ResidualNetwork


class LipschitzBound(NamedTuple):
    bound: float  # of the logits, L2 to L2
    norms: dict[str, float]  # by layer


class Conv(NamedTuple):
    kernel: Array  # (height, width, in, out) as applied, any multiplier included
    stride: int
    padding: Padding


class Block(NamedTuple):
    """active = phi(norm1(x)); conv2(phi(norm2(conv1(active)))) + (shortcut(active) or x).

    Gains: Lipschitz constants of a norm and phi together, one number or (channels,).
    """

    gain1: Array | float
    conv1: Conv
    gain2: Array | float
    conv2: Conv
    shortcut: Conv | None  # None: x itself, or every `stride`-th pixel of it


class WideResNetLayers(NamedTuple):
    """What the bound of a pre-activation residual network needs to know."""

    stem: Conv
    blocks: Mapping[str, Block]  # in order, by name
    gain: Array | float  # of the last norm and activation
    head: Array  # (in, out), behind a global average pool


class Place(NamedTuple):
    """A convolution, where it stands."""

    name: str  # 'stage1/block0/conv1'
    conv: Conv
    shape: tuple[int, ...]  # of the map (h, w, c) that it is given


def wide_resnet_layers(model: ResidualNetwork, variables: Mapping[str, Any]) -> WideResNetLayers:
    """The layers of a network that runs train, in inference mode, from {'params', 'batch_stats'}.

    The first convolution is that of the images in [0, 1]: divided by the deviation that they are
    normalised by. Raises ValueError for another activation than ReLU, whose slope is at most 1.
    """
    if model.activation != 'relu':
        raise ValueError(f"activation = {model.activation!r}: bounds are of 'relu' alone")
    params, stats = variables['params'], variables['batch_stats']

    def conv(layer: Mapping[str, Array], stride: int) -> Conv:
        pad = (layer['kernel'].shape[0] - 1) // 2
        return Conv(jnp.asarray(layer['kernel']), stride, ((pad, pad), (pad, pad)))

    blocks = {}
    for s, stage_stride in enumerate(model.strides):
        stage = f'stage{s + 1}'
        for b in range(model.blocks[s]):
            block, moments = params[stage][f'block{b}'], stats[stage][f'block{b}']
            stride = stage_stride if b == 0 else 1
            blocks[f'{stage}/block{b}'] = Block(
                gain1=norm_gains(block['norm1'], moments['norm1']),
                conv1=conv(block['conv1'], stride),
                gain2=norm_gains(block['norm2'], moments['norm2']),
                conv2=conv(block['conv2'], 1),
                shortcut=conv(block['shortcut'], stride) if 'shortcut' in block else None,
            )
    stem, std = conv(params['stem'], 1), jnp.array(model.normalise.std).reshape(1, 1, -1, 1)
    return WideResNetLayers(
        stem=stem._replace(kernel=stem.kernel / std),
        blocks=blocks,
        gain=norm_gains(params['norm'], stats['norm']),
        head=jnp.asarray(params['head']['kernel']),
    )


def norm_gains(params: Mapping[str, Array], stats: Mapping[str, Array]) -> Array:
    """(channels,): |scale| / sqrt(var + epsilon) of a BatchNorm on its running statistics."""
    return jnp.abs(params['scale']) * jax.lax.rsqrt(stats['var'] + BatchNorm.epsilon)


def fold(layers: WideResNetLayers) -> WideResNetLayers:
    """The same with every gain multiplied into the input channels of the layers behind it.

    ReLU changes a difference of its inputs by factors between 0 and 1, pixel by pixel, which
    commute with the gains of channels. So ||conv diag(gain)|| bounds norm, ReLU and convolution
    together, as ||conv|| max(gain) does, and is never larger.
    """

    def folded(conv: Conv, gain: Array | float) -> Conv:
        return conv._replace(kernel=conv.kernel * jnp.reshape(gain, (1, 1, -1, 1)))

    blocks = {
        name: Block(
            1.0,
            folded(block.conv1, block.gain1),
            1.0,
            folded(block.conv2, block.gain2),
            None if block.shortcut is None else folded(block.shortcut, block.gain1),
        )
        for name, block in layers.blocks.items()
    }
    head = layers.head * jnp.reshape(layers.gain, (-1, 1))
    return WideResNetLayers(layers.stem, blocks, 1.0, head)


def places(layers: WideResNetLayers, image_shape: tuple[int, ...]) -> Iterator[Place]:
    """All convolutions, in the order of the network."""
    yield Place('stem', layers.stem, image_shape)
    shape = _after(layers.stem, image_shape)
    for name, block in layers.blocks.items():
        between = _after(block.conv1, shape)
        yield Place(f'{name}/conv1', block.conv1, shape)
        yield Place(f'{name}/conv2', block.conv2, between)
        if block.shortcut is not None:
            yield Place(f'{name}/shortcut', block.shortcut, shape)
        shape = _after(block.conv2, between)


def pool_norm(layers: WideResNetLayers, image_shape: tuple[int, ...]) -> float:
    """Of the global average pool: 1 / sqrt(h w), h x w the last map."""
    (*_, last) = (p for p in places(layers, image_shape) if p.name.endswith('conv2'))
    return 1.0 / math.sqrt(math.prod(_after(last.conv, last.shape)[:2]))


def _after(conv: Conv, shape: tuple[int, ...]) -> tuple[int, ...]:
    image = jax.ShapeDtypeStruct(shape, conv.kernel.dtype)
    linear = partial(convolve, stride=conv.stride, padding=conv.padding)
    return jax.eval_shape(linear, image, conv.kernel).shape


def composed(
    layers: WideResNetLayers, image_shape: tuple[int, ...], norms: dict[str, float]
) -> LipschitzBound:
    """The product that `certified_bound` describes, from norms by `Place.name`."""
    norms = dict(norms)
    bound = norms['stem']
    for name, block in layers.blocks.items():
        gain1 = norms[f'{name}/gain1'] = float(np.max(np.asarray(block.gain1)))
        gain2 = norms[f'{name}/gain2'] = float(np.max(np.asarray(block.gain2)))
        straight = 1.0 if block.shortcut is None else gain1 * norms[f'{name}/shortcut']
        bound *= straight + norms[f'{name}/conv2'] * gain2 * norms[f'{name}/conv1'] * gain1
    norms['gain'] = float(np.max(np.asarray(layers.gain)))
    norms['pool'] = pool_norm(layers, image_shape)
    norms['head'] = float(dense_norm(layers.head))
    return LipschitzBound(bound * norms['gain'] * norms['pool'] * norms['head'], norms)
