"""The product of the layers' norms, for the networks of this project and for layers of yours."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ntk.networks import FullyConnected, NormFreeWideResNet
from ntk.spectral.operators import NUM_STEPS, Padding, conv_norm, convolve, dense_norm
from war_jax.models.wide_resnet import BatchNorm, WideResNet

# Largest slopes; that of GELU is at sqrt(2). The square of ReLU (relu2) has none.
SLOPES = {
    'relu': 1.0,
    'erf': 2 / math.sqrt(math.pi),
    'gelu': (1 + math.erf(1)) / 2 + math.exp(-1) / math.sqrt(math.pi),
}


class LipschitzBound(NamedTuple):
    bound: float  # of the logits, L2 to L2
    norms: dict[str, float]  # by layer


class Conv(NamedTuple):
    kernel: Array  # (height, width, in, out) as applied, any multiplier included
    stride: int
    padding: Padding


class Block(NamedTuple):
    """active = phi(norm1(x)); conv2(phi(norm2(conv1(active)))) + (shortcut(active) or x)."""

    gain1: Array | float  # Lipschitz constant of phi and norm1 together
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


def lipschitz_bound(
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, ...],
    key: Array,
    num_steps: int = NUM_STEPS,
) -> LipschitzBound:
    """Of the logits of a WideResNet of war_jax in inference mode, or of a network of ntk.networks.

    variables: {'params', 'batch_stats'}; of a network of ntk.networks {'params'}, the matrices that
    it multiplies with (`Scales.effective`). image_shape: of one image, (h, w, c).
    Raises ValueError for other models, and for activations of unbounded slope.
    """
    if isinstance(model, WideResNet):
        layers = wide_resnet_layers(model, variables)
    elif isinstance(model, NormFreeWideResNet):
        layers = norm_free_layers(model, variables)
    elif isinstance(model, FullyConnected):
        matrices = {name: layer['kernel'] for name, layer in variables['params'].items()}
        return fully_connected_bound(matrices, largest_slope(model.activation))
    else:
        raise ValueError(
            f'model = {type(model).__name__}: expected WideResNet, NormFreeWideResNet or '
            'FullyConnected; describe its layers for wide_resnet_bound or fully_connected_bound'
        )
    return wide_resnet_bound(layers, image_shape, key, num_steps)


def fully_connected_bound(kernels: Mapping[str, Array], slope: float = 1.0) -> LipschitzBound:
    """Product of the norms of all matrices (in, out), as applied, and of the slopes between them.

    slope: the activation's largest.
    """
    norms = {name: float(dense_norm(kernel)) for name, kernel in kernels.items()}
    return LipschitzBound(math.prod(norms.values()) * slope ** (len(norms) - 1), norms)


def wide_resnet_bound(
    layers: WideResNetLayers,
    image_shape: tuple[int, ...],
    key: Array,
    num_steps: int = NUM_STEPS,
) -> LipschitzBound:
    """||head|| / sqrt(h w) * gain * product over blocks * ||stem||, h x w the last map.

    A block that adds x itself has 1 + r with r = ||conv2|| gain2 ||conv1|| gain1, one with a
    projection gain1 * (||shortcut|| + ||conv2|| gain2 ||conv1||), both branches starting from the
    activated input.
    """
    norms: dict[str, float] = {}

    def measure(name: str, conv: Conv, shape: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        of_layer = jax.random.fold_in(key, len(norms))
        norms[name] = float(conv_norm(conv.kernel, shape, *conv[1:], of_layer, num_steps))
        image = jax.ShapeDtypeStruct(shape, conv.kernel.dtype)
        linear = partial(convolve, stride=conv.stride, padding=conv.padding)
        return norms[name], jax.eval_shape(linear, image, conv.kernel).shape

    bound, shape = measure('stem', layers.stem, image_shape)
    for name, block in layers.blocks.items():
        gain1 = norms[f'{name}/gain1'] = float(block.gain1)
        gain2 = norms[f'{name}/gain2'] = float(block.gain2)
        first, after = measure(f'{name}/conv1', block.conv1, shape)
        second, after = measure(f'{name}/conv2', block.conv2, after)
        straight = 1.0
        if block.shortcut is not None:
            straight = gain1 * measure(f'{name}/shortcut', block.shortcut, shape)[0]
        bound *= straight + second * gain2 * first * gain1
        shape = after
    norms['gain'] = float(layers.gain)
    norms['pool'] = 1.0 / math.sqrt(shape[0] * shape[1])
    norms['head'] = float(dense_norm(layers.head))
    return LipschitzBound(bound * norms['gain'] * norms['pool'] * norms['head'], norms)


def wide_resnet_layers(model: WideResNet, variables: Mapping[str, Any]) -> WideResNetLayers:
    """The layers of war_jax's WideResNet in inference mode, from {'params', 'batch_stats'}."""
    params, stats = variables['params'], variables['batch_stats']

    def conv(layer: Mapping[str, Array], stride: int) -> Conv:
        pad = (layer['kernel'].shape[0] - 1) // 2
        return Conv(layer['kernel'], stride, ((pad, pad), (pad, pad)))

    blocks = {}
    for s, stage_stride in enumerate(model.strides):
        stage = f'stage{s + 1}'
        for b in range((model.depth - 4) // 6):
            block, moments = params[stage][f'block{b}'], stats[stage][f'block{b}']
            stride = stage_stride if b == 0 else 1
            blocks[f'{stage}/block{b}'] = Block(
                gain1=norm_gain(block['norm1'], moments['norm1']),
                conv1=conv(block['conv1'], stride),
                gain2=norm_gain(block['norm2'], moments['norm2']),
                conv2=conv(block['conv2'], 1),
                shortcut=conv(block['shortcut'], stride) if 'shortcut' in block else None,
            )
    return WideResNetLayers(
        stem=conv(params['stem'], 1),
        blocks=blocks,
        gain=norm_gain(params['norm'], stats['norm']),
        head=params['head']['kernel'],
    )


def norm_free_layers(model: NormFreeWideResNet, variables: Mapping[str, Any]) -> WideResNetLayers:
    """The layers of `ntk.networks.NormFreeWideResNet`, from {'params': effective weights}."""
    params, slope = variables['params'], largest_slope(model.activation)

    def conv(name: str, stride: int) -> Conv:
        return Conv(params[name]['kernel'], stride, 'SAME')

    blocks = {}
    for s, stage_stride in enumerate(model.strides, start=1):
        for b in range((model.depth - 4) // 6):
            name, stride = f'stage{s}_block{b}', stage_stride if b == 0 else 1
            blocks[f'stage{s}/block{b}'] = Block(
                gain1=slope,
                conv1=conv(f'{name}_conv1', stride),
                gain2=slope,
                conv2=conv(f'{name}_conv2', 1),
                shortcut=conv(f'{name}_shortcut', stride) if b == 0 else None,
            )
    return WideResNetLayers(conv('stem', 1), blocks, slope, params['head']['kernel'])


def largest_slope(activation: str) -> float:
    """Raises ValueError for an activation without a Lipschitz constant."""
    if activation not in SLOPES:
        raise ValueError(f'activation = {activation!r}: expected one of {", ".join(SLOPES)}')
    return SLOPES[activation]


def norm_gain(params: Mapping[str, Array], stats: Mapping[str, Array]) -> Array:
    """Largest |scale| / sqrt(var + epsilon) of a BatchNorm that uses its running statistics."""
    return jnp.max(jnp.abs(params['scale']) * jax.lax.rsqrt(stats['var'] + BatchNorm.epsilon))
