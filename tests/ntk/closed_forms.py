"""Kernels of infinite networks in float64 NumPy, from the papers' formulas.

ReLU as arc-cosine kernels in terms of angles (Cho & Saul 2009), erf as arc-sine kernels (Williams
1996), smooth activations by 2-D Gauss-Hermite quadrature, and a residual network by dense
covariances of all pixels. No code is shared with `ntk`.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

Expectations = tuple[np.ndarray, np.ndarray]  # E phi(u) phi(v) and E phi'(u) phi'(v)


def angles(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """(n1, n2); Kahan's formula, exactly 0 for equal inputs."""
    u = x1 / np.linalg.norm(x1, axis=1, keepdims=True)
    v = x2 / np.linalg.norm(x2, axis=1, keepdims=True)
    difference = np.linalg.norm(u[:, None] - v[None], axis=-1)
    return 2 * np.arctan2(difference, np.linalg.norm(u[:, None] + v[None], axis=-1))


def relu_kernels(
    x1: np.ndarray,
    x2: np.ndarray,
    num_layers: int,
    weight_variance: float,
    output_variance: float,
    rates: Sequence[float],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The NNGP kernel, and rate * (the part of the NTK) of each layer."""
    variances = [weight_variance] * (num_layers - 1) + [output_variance]
    theta = angles(x1, x2)
    size = np.linalg.norm(x1, axis=1)[:, None] * np.linalg.norm(x2, axis=1)[None] / x1.shape[1]
    nngp = variances[0] * size * np.cos(theta)
    size = variances[0] * size  # sqrt(q q'), q being the variances
    parts = [rates[0] * nngp]
    for variance, rate in zip(variances[1:], rates[1:], strict=True):
        kappa0 = (np.pi - theta) / np.pi
        kappa1 = (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / np.pi
        size = variance * size / 2
        nngp = size * kappa1
        parts = [variance * kappa0 / 2 * part for part in parts] + [rate * nngp]
        theta = np.arccos(kappa1)
    return nngp, parts


def erf_expectations(cov: np.ndarray, var1: np.ndarray, var2: np.ndarray) -> Expectations:
    product = (1 + 2 * var1) * (1 + 2 * var2)
    values = 2 / np.pi * np.arcsin(2 * cov / np.sqrt(product))
    return values, 4 / np.pi / np.sqrt(product - 4 * cov**2)


def quadrature(
    phi: Callable[[np.ndarray], np.ndarray], slope: Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], Expectations]:
    """Expectations of smooth activations, by 80 x 80 nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()

    def expectations(cov: np.ndarray, var1: np.ndarray, var2: np.ndarray) -> Expectations:
        rho = np.clip(cov / np.sqrt(var1 * var2), -1, 1)[..., None, None]
        u = np.broadcast_to(nodes[:, None], (*cov.shape, 80, 80))
        v = rho * u + np.sqrt(1 - rho**2) * nodes
        u, v = np.sqrt(var1)[..., None, None] * u, np.sqrt(var2)[..., None, None] * v
        grid = weights[:, None] * weights
        return (phi(u) * phi(v) * grid).sum((-2, -1)), (slope(u) * slope(v) * grid).sum((-2, -1))

    return expectations


def kernels(
    expectations: Callable[[np.ndarray, np.ndarray, np.ndarray], Expectations],
    x1: np.ndarray,
    x2: np.ndarray,
    num_layers: int,
    weight_variance: float,
    output_variance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """NNGP kernel and NTK (n1, n2), by the recursion of Jacot et al. 2018."""
    variances = [weight_variance] * (num_layers - 1) + [output_variance]
    cov = variances[0] * x1 @ x2.T / x1.shape[1]
    var1 = np.broadcast_to(variances[0] * np.mean(x1**2, 1)[:, None], cov.shape)
    var2 = np.broadcast_to(variances[0] * np.mean(x2**2, 1)[None], cov.shape)
    ntk = cov
    for variance in variances[1:]:
        value, slopes = expectations(cov, var1, var2)
        var1, var2 = (variance * expectations(var, var, var)[0] for var in (var1, var2))
        cov = variance * value
        ntk = variance * slopes * ntk + cov
    return cov, ntk


Pair = tuple[np.ndarray, np.ndarray]  # NNGP kernel and NTK, of all pixels of all images


def residual_kernels(
    x: np.ndarray,
    num_blocks: int,
    strides: Sequence[int],
    weight_variance: float,
    output_variance: float,
) -> Pair:
    """Of a WideResNet with ReLU; x (n, h, w, c) -> (n, n)."""
    n, shape = len(x), x.shape[1:3]
    pixels = x.reshape(-1, x.shape[-1])
    cov = pixels @ pixels.T / x.shape[-1]

    def conv(state: Pair, shape: tuple[int, ...], size: int, stride: int) -> Pair:
        pieces = [np.kron(np.eye(n), p) for p in _offsets(shape, size, stride)]
        nngp, ntk = (
            weight_variance / size**2 * np.sum([p @ value @ p.T for p in pieces], 0)
            for value in state
        )
        return nngp, ntk + nngp

    def relu(state: Pair) -> Pair:
        nngp, ntk = state
        size = np.sqrt(np.outer(np.diag(nngp), np.diag(nngp)))
        theta = np.arccos(np.clip(nngp / size, -1, 1))
        np.fill_diagonal(theta, 0)
        kappa1 = np.sin(theta) + (np.pi - theta) * np.cos(theta)
        return size * kappa1 / (2 * np.pi), (np.pi - theta) / (2 * np.pi) * ntk

    state = conv((cov, 0 * cov), shape, 3, 1)
    for stride in strides:
        for block in range(num_blocks):
            stride = stride if block == 0 else 1
            after = tuple(-(-length // stride) for length in shape)
            active = relu(state)
            y = conv(relu(conv(active, shape, 3, stride)), after, 3, 1)
            shortcut = conv(active, shape, 1, stride) if block == 0 else state
            state, shape = (shortcut[0] + y[0], shortcut[1] + y[1]), after
    pool = np.kron(np.eye(n), np.full((1, math.prod(shape)), 1 / math.prod(shape)))
    nngp, ntk = (output_variance * pool @ value @ pool.T for value in relu(state))
    return nngp, ntk + nngp


def _offsets(shape: tuple[int, ...], size: int, stride: int) -> list[np.ndarray]:
    """One matrix (pixels after, pixels before) for each weight of a kernel with 'SAME' padding."""

    def along(length: int, offset: int) -> np.ndarray:
        after = -(-length // stride)
        padding = max((after - 1) * stride + size - length, 0) // 2
        matrix = np.zeros((after, length))
        for row in range(after):
            column = row * stride + offset - padding
            if 0 <= column < length:
                matrix[row, column] = 1
        return matrix

    height, width = shape
    return [np.kron(along(height, i), along(width, j)) for i in range(size) for j in range(size)]
