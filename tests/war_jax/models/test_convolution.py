"""Convolutions in their several forms. Oracle: sums over the taps, in float64 NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.models import convolution
from war_jax.models.convolution import convolve, neighbours_at_once

# (h, w), channels in and out, size, stride.
SHAPES = [
    ((8, 6), 3, 5, 3, 1),  # an image of even width: over pairs
    ((7, 5), 1, 4, 3, 1),  # of odd width
    ((6, 6), 20, 7, 3, 1),
    ((9, 6), 6, 5, 3, 2),
    ((7, 8), 6, 5, 1, 2),
    ((4, 4), 5, 6, 1, 1),
    ((5, 8), 16, 12, 3, 1),  # two neighbours at once, forwards and backwards
    ((3, 8), 5, 6, 3, 1),  # four
    ((6, 8), 20, 9, 3, 2),  # two, with a stride
    ((4, 6), 9, 5, 3, 1),  # two backwards; four do not fit
]


def by_taps(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    size, pad = len(kernel), len(kernel) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    h, w = x.shape[1:3]
    return np.add.reduce(
        [
            padded[:, i : i + h : stride, j : j + w : stride] @ kernel[i, j]
            for i in range(size)
            for j in range(size)
        ]
    )


def drawn(shape: Any, count: int = 2) -> tuple[np.ndarray, np.ndarray, int]:
    (h, w), c, d, size, stride = shape
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, h, w, c)), rng.normal(size=(size, size, c, d)), stride


@pytest.fixture(params=['cpu', 'gpu'])
def backend(request, monkeypatch):
    """Both forms of every convolution, though this machine may have one backend only."""
    monkeypatch.setattr(jax, 'default_backend', lambda: request.param)
    return request.param


@pytest.mark.parametrize('shape', SHAPES)
def test_values_and_derivatives(shape, backend, monkeypatch):
    """The function is linear in each argument: its change along (dx, dkernel) is f(dx, kernel) +
    f(x, dkernel), and <gradient, d> = <weight, change along d>, forwards as backwards."""
    monkeypatch.setattr(convolution, 'PART', 1)
    x, kernel, stride = drawn(shape, convolution.SMALLEST_PART + 3)  # two parts, one not full
    rng = np.random.default_rng(1)
    dx, dkernel = rng.normal(size=x.shape), rng.normal(size=kernel.shape)
    with jax.enable_x64(True):
        f = lambda x, kernel: convolve(x, kernel, stride)  # noqa: E731
        y, change = jax.jvp(f, (x, kernel), (dx, dkernel))
        weight = rng.normal(size=y.shape)
        gradients = jax.vjp(f, x, kernel)[1](jnp.asarray(weight))
        only_x = jax.jvp(lambda x: f(x, kernel), (x,), (dx,))[1]
    y, change, only_x, *gradients = jax.device_get((y, change, only_x, *gradients))
    along_x, along_kernel = by_taps(dx, kernel, stride), by_taps(x, dkernel, stride)
    close: Any = {'rtol': 1e-10, 'atol': 1e-10}
    np.testing.assert_allclose(y, by_taps(x, kernel, stride), **close)
    np.testing.assert_allclose(change, along_x + along_kernel, **close)
    np.testing.assert_allclose(only_x, along_x, **close)
    for gradient, direction, along in zip(
        gradients, (dx, dkernel), (along_x, along_kernel), strict=True
    ):
        np.testing.assert_allclose(np.sum(gradient * direction), np.sum(weight * along), **close)


def test_gradients_example_by_example(backend):
    """Under vmap, as the empirical NTK takes them: <gradient_i, d> = <weight_i, f(x_i, d)>."""
    x, kernel, stride = drawn(SHAPES[3], 3)
    direction = np.random.default_rng(2).normal(size=kernel.shape)
    along = by_taps(x, direction, stride)
    weight = np.random.default_rng(3).normal(size=along.shape)
    with jax.enable_x64(True):

        def of_example(x, weight):
            return jax.grad(lambda k: jnp.sum(weight * convolve(x[None], k, stride)[0]))(kernel)

        gradients = jax.device_get(jax.vmap(of_example)(x, weight))
    found = (gradients * direction).sum((1, 2, 3, 4))
    np.testing.assert_allclose(found, (weight * along).sum((1, 2, 3)), rtol=1e-10)


def test_gradient_of_the_image_has_a_fast_kernel_within_a_loop():
    """XLA's CPU backend has one only for kernels in the order (h, w, in, out)."""
    x, kernel, _ = drawn(SHAPES[2])

    def ascend(x, kernel):
        gradient = jax.grad(lambda x: jnp.sum(jnp.square(convolve(x, kernel, 1))))
        return jax.lax.scan(lambda x, _: (x + gradient(x), None), x, length=2)[0]

    program = jax.jit(ascend).lower(x.astype(np.float32), kernel.astype(np.float32))
    text = program.as_text()
    assert text.count('stablehlo.convolution') == 2
    assert text.count('[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]') == 2


def test_few_channels_are_computed_several_pixels_at_a_time():
    """Both ways, in windows of two pixels: none is thinned out with zeros, which is slow."""
    x, kernel = np.ones((2, 4, 8, 16), np.float32), np.ones((3, 3, 16, 16), np.float32)
    program = jax.jit(lambda x, k: jax.vjp(lambda x: convolve(x, k, 1), x)[1](x))
    text = program.lower(x, kernel).as_text()
    assert text.count('stablehlo.convolution') == 1
    assert 'stride = [1, 2]' in text and 'tensor<3x4x16x32xf32>' in text
    assert 'lhs_dilate = [1, 1]' in text


@pytest.mark.parametrize(
    ('shape', 'count', 'sizes'),
    [
        ((64, 32, 32, 17), 17, [8] * 8),
        ((64, 16, 16, 32), 32, [16] * 4),
        ((64, 8, 8, 32), 64, [32] * 2),
        ((30, 4, 4, 64), 64, [30]),
    ],
)
def test_gradients_of_kernels_are_taken_over_what_fits_into_caches(shape, count, sizes):
    """Half a MiB of 4 bytes each, and eight images at least."""
    x, kernel = np.ones(shape, np.float32), np.ones((3, 3, shape[3], count), np.float32)
    gradient = jax.jit(lambda x, k, y: jax.vjp(lambda k: convolve(x, k, 1), k)[1](y))
    text = gradient.lower(x, kernel, np.ones((*shape[:3], count), np.float32)).as_text()
    lines = [line for line in text.splitlines() if 'stablehlo.convolution' in line]
    assert all(f'tensor<{n}x' in line for n, line in zip(sizes, lines, strict=True))


def test_gradients_of_kernels_to_few_channels_are_taken_of_several_pixels():
    x, kernel = np.ones((8, 4, 8, 16), np.float32), np.ones((3, 3, 16, 16), np.float32)
    gradient = jax.jit(lambda x, k, y: jax.vjp(lambda k: convolve(x, k, 1), k)[1](y))
    assert 'tensor<3x4x16x32xf32>' in gradient.lower(x, kernel, x).as_text()


def test_number_of_pixels_at_a_time():
    assert [neighbours_at_once(c) for c in (1, 4, 8, 9, 16, 17, 160)] == [32, 8, 4, 2, 2, 1, 1]
