"""All singular values of the layers of a WideResNet, taken as operators on whole maps.

    values = conv_singular_values(kernel, (8, 8), stride=2)            # (n,), descending
    values = singular_values(fold(layers), (8, 8, 1))                  # {'stem': (n,), ...}
    bound = certified_bound(fold(layers), (8, 8, 1)).bound             # not by iteration

A circular convolution is block diagonal in Fourier space (Sedghi, Gupta & Long 2019): at stride 1
one block (out, in) per frequency; at stride s a frequency of the small map collects the s^2
frequencies of the large one that alias to it, in a block (out, s^2 in) divided by s. The networks
pad with zeros, where a circular convolution wraps around: means and spreads are of the circular
operator. The padded one is a part of the circular one on a map with the padding around it, whose
norm therefore bounds the padded one's.
"""

import math

import numpy as np
from jax import lax

from war_jax.measures.operators.layers import (
    LipschitzBound,
    Place,
    WideResNetLayers,
    composed,
    places,
    pool_norm,
)


def conv_singular_values(
    kernel: np.ndarray, map_shape: tuple[int, ...], stride: int = 1
) -> np.ndarray:
    """(height, width, in, out) -> (n,), descending: of the circular convolution of h x w maps.

    n is the smaller dimension of the operator. Raises ValueError unless stride divides h and w.
    """
    values = np.linalg.svd(_blocks(kernel, map_shape, stride), compute_uv=False)
    return np.sort(values.ravel())[::-1]


def _blocks(kernel: np.ndarray, map_shape: tuple[int, ...], stride: int) -> np.ndarray:
    """(h / s, w / s, out, s^2 in): the circular convolution in Fourier space."""
    (h, w), (rows, columns, channels, features) = map_shape, kernel.shape
    if h % stride or w % stride:
        raise ValueError(f'map_shape = {map_shape}: expected multiples of the stride, {stride}')
    wrapped = np.zeros((h, w, channels, features))
    for i, j in np.ndindex(rows, columns):  # a kernel larger than the map meets itself
        wrapped[i % h, j % w] += kernel[i, j]
    transfer = np.fft.fft2(wrapped, axes=(0, 1))
    # (s, h / s, s, w / s, in, out): frequencies h / s apart alias to one.
    aliases = transfer.reshape(stride, h // stride, stride, w // stride, channels, features)
    blocks = aliases.transpose(1, 3, 5, 0, 2, 4).reshape(h // stride, w // stride, features, -1)
    return blocks / stride


def padded_norm_bound(place: Place) -> float:
    """At least the norm of the convolution as it stands there, with its zero padding."""
    conv, kernel = place.conv, np.asarray(place.conv.kernel, np.float64)
    padding = conv.padding
    if isinstance(padding, str):
        strides = (conv.stride, conv.stride)
        padding = lax.padtype_to_pads(place.shape[:2], kernel.shape[:2], strides, padding)
    sizes = zip(place.shape[:2], padding, strict=True)
    # With the padding around it, and up to a multiple of the stride: nothing wraps around then.
    around = [-(-(size + before + after) // conv.stride) * conv.stride
              for size, (before, after) in sizes]  # fmt: skip
    blocks = _blocks(kernel, tuple(around), conv.stride)
    # By the smaller Gram matrices, which is several times faster than all singular values.
    rows, columns = blocks.shape[2:]
    turned = blocks.conj().swapaxes(2, 3)
    grams = blocks @ turned if rows <= columns else turned @ blocks
    return math.sqrt(max(0.0, float(np.linalg.eigvalsh(grams)[..., -1].max())))


def certified_bound(layers: WideResNetLayers, image_shape: tuple[int, ...]) -> LipschitzBound:
    """||head|| / sqrt(h w) * gain * product over blocks * ||stem||, h x w the last map.

    A block that adds x itself has 1 + r with r = ||conv2|| gain2 ||conv1|| gain1, one with a
    projection gain1 * (||shortcut|| + ||conv2|| gain2 ||conv1||), both branches starting from the
    activated input. Gains are the largest of their channels. Norms of convolutions are upper bounds
    themselves, too large by a few percent on large maps and by up to a half on maps of 2 x 2; up to
    rounding, which in the head is that of float32.
    """
    norms = {place.name: padded_norm_bound(place) for place in places(layers, image_shape)}
    return composed(layers, image_shape, norms)


def singular_values(
    layers: WideResNetLayers, image_shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """By layer, descending; the head's with the global average pool before it."""
    found = {
        name: conv_singular_values(np.asarray(conv.kernel, np.float64), shape[:2], conv.stride)
        for name, conv, shape in places(layers, image_shape)
    }
    head = np.linalg.svd(np.asarray(layers.head, np.float64), compute_uv=False)
    return {**found, 'head': head * pool_norm(layers, image_shape)}
