"""Operator norms of layers, and their product: an upper bound of a network's Lipschitz constant.

    bound = lipschitz_bound(model, variables, (32, 32, 3), jax.random.key(0))
    bound.bound, bound.norms['stage1/block0/conv1']

    bound = fully_connected_bound({'layer1': matrix1, 'head': matrix2})      # any layers of yours
    norm = conv_norm(kernel, (32, 32, 16), stride=2, padding='SAME', key=jax.random.key(0))

All norms are those between L2 norms. The constant of a composition is at most the product of the
layers' constants, that of a sum at most their sum: ||f(x) - f(x')||_2 <= bound * ||x - x'||_2 for
all x, x' (Szegedy et al. 2014, section 4.3). How loose that is, is one of the things to look at:
with Gaussian weights the product grows with width where the network's gradients do not.

A convolution is measured as what it is, a linear map of whole images at their actual size, with
its stride and its zero padding; the reshaped kernel's norm is another number.

The norm of a convolution is found by Lanczos iteration, which converges from below
(`largest_eigenvalue` says how fast): a product of such norms is an upper bound up to that error,
1e-4 or less per layer where it was measured. The product itself is loose by factors.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ntk.networks import FullyConnected, NormFreeWideResNet
from war_jax.models.wide_resnet import BatchNorm, WideResNet

Padding = str | tuple[tuple[int, int], ...]  # as in jax.lax.conv_general_dilated
NUM_STEPS = 64
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
        convolve = partial(_convolve, stride=conv.stride, padding=conv.padding)
        image = jax.ShapeDtypeStruct(shape, conv.kernel.dtype)
        return norms[name], jax.eval_shape(convolve, image, conv.kernel).shape

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


@jax.jit
def dense_norm(kernel: Array) -> Array:
    """(in, out) -> (): largest singular value; exact, in O(in * out * min(in, out))."""
    with jax.default_matmul_precision('highest'):
        rows, columns = kernel.shape
        gram = kernel @ kernel.T if rows <= columns else kernel.T @ kernel
    return jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], 0))


@partial(jax.jit, static_argnames=('image_shape', 'stride', 'padding', 'num_steps'))
def conv_norm(
    kernel: Array,
    image_shape: tuple[int, ...],
    stride: int,
    padding: Padding,
    key: Array,
    num_steps: int = NUM_STEPS,
) -> Array:
    """(): norm of the convolution with `kernel` (height, width, in, out) of images (h, w, in).

    Compiled once for all kernels of a shape. Raises ValueError where the channels disagree.
    """
    if len(image_shape) != 3 or image_shape[2] != kernel.shape[2]:
        raise ValueError(
            f'image_shape = {image_shape}: expected (h, w, {kernel.shape[2]}) for a kernel of '
            f'shape {kernel.shape}'
        )
    convolve = partial(_convolve, kernel=kernel, stride=stride, padding=padding)
    return operator_norm(convolve, image_shape, key, num_steps, kernel.dtype)


def _convolve(image: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(
        image[None], kernel, (stride, stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )[0]


def operator_norm(
    linear: Callable[[Array], Array],
    shape: tuple[int, ...],
    key: Array,
    num_steps: int = NUM_STEPS,
    dtype: Any = jnp.float32,
) -> Array:
    """(): largest singular value of a linear map of arrays of `shape`, by `largest_eigenvalue`.

    From `num_steps` applications of the map and of its transpose; one number per key.
    Raises ValueError for num_steps < 1.
    """
    if num_steps < 1:
        raise ValueError(f'num_steps = {num_steps}: expected at least 1')
    like = jax.ShapeDtypeStruct(shape, dtype)
    image = jax.eval_shape(linear, like)
    # Matrix products at the accelerators' default precision would cost three digits.
    with jax.default_matmul_precision('highest'):
        transpose = jax.linear_transpose(linear, like)
        # An image of the transpose has no part in the null space, where steps would be lost.
        (start,) = transpose(jax.random.normal(key, image.shape, image.dtype))
        steps = min(num_steps, math.prod(shape), math.prod(image.shape))
        squared = largest_eigenvalue(lambda v: transpose(linear(v[0]))[0][None], start[None], steps)
    return jnp.sqrt(squared[0])


def largest_eigenvalue(apply: Callable[[Array], Array], start: Array, num_steps: int) -> Array:
    """(n, ...) -> (n,): of n symmetric positive semidefinite maps, by Lanczos iteration.

    apply: (n, ...) -> (n, ...), each row by a map of its own. start: one random vector per map.

    The result is the largest quotient <v, A v> / <v, v> over the Krylov space of the start, hence
    a lower bound, at least as high as the power iteration's after as many steps, and up to rounding
    the eigenvalue itself where num_steps reaches the dimension. For a start drawn from N(0, I) in
    N dimensions the relative error after k steps is on average at most
    0.103 (ln(N (k - 1)^4) / (k - 1))^2, whatever the spectrum (Kuczynski and Wozniakowski,
    SIAM J. Matrix Anal. Appl. 13, 1992): 1.8 % for N = 16384 and k = 64, half of it in the singular
    value. Gaussian 3x3 kernels (16 to 256 channels, maps of 8x8 to 32x32) were off by at most 1e-4
    in the singular value at k = 64, and by 1e-3 at k = 32.
    """

    def dot(u: Array, v: Array) -> Array:
        return jnp.sum(u * v, tuple(range(1, u.ndim)), keepdims=True)

    def unit(v: Array) -> tuple[Array, Array]:
        length = jnp.sqrt(dot(v, v))
        return v / jnp.where(length > 0, length, 1), length

    def step(carry: tuple[Array, Array, Array], _) -> tuple[Any, tuple[Array, Array]]:
        before, coupling, v = carry
        image = apply(v) - coupling * before
        diagonal = dot(image, v)
        after, next_coupling = unit(image - diagonal * v)
        return (v, next_coupling, after), (diagonal.reshape(-1), next_coupling.reshape(-1))

    v, length = unit(start)
    # XLA's CPU backend runs convolutions inside a loop up to 20 times slower than outside of one.
    unroll = num_steps if jax.default_backend() == 'cpu' else 1
    _, (diagonals, couplings) = jax.lax.scan(
        step, (v, jnp.zeros_like(length), v), length=num_steps, unroll=unroll
    )

    tridiagonal = jax.vmap(lambda d, c: jnp.diag(d) + jnp.diag(c, 1) + jnp.diag(c, -1), 1)
    matrices = tridiagonal(diagonals, couplings[:-1])
    return jnp.maximum(jnp.linalg.eigvalsh(matrices)[:, -1], 0)
