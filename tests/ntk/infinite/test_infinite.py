"""Infinite-width kernels. Oracles: the papers' closed forms and quadrature in float64 NumPy
(`closed_forms`), and finite networks drawn at random, in NumPy and from convolutions of jax.lax."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.special import ndtr

from ntk.infinite import Kernel, compute, fully_connected, wide_resnet
from tests.ntk.closed_forms import (
    erf_expectations,
    kernels,
    quadrature,
    relu_kernels,
    residual_kernels,
)

BOTH = ('nngp', 'ntk')
TOLERANCE = {False: 1e-4, True: 1e-8}


def inputs(n1: int, n2: int, *shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Of different lengths; the first ones of both are equal."""
    rng = np.random.default_rng(seed)
    x1, x2 = (rng.normal(size=(n, *shape)) * rng.uniform(0.5, 2) for n in (n1, n2))
    x2[0] = x1[0]
    return x1, x2


def cast(is_double: bool, *arrays: np.ndarray) -> list[np.ndarray]:
    return [x.astype(np.float64 if is_double else np.float32) for x in arrays]


def whole(kernel: Kernel, x1: np.ndarray, x2: np.ndarray | None = None):
    """Both kernels, in one program: neural-tangents' many small ones would compile for long."""
    return jax.jit(lambda x1, x2: kernel(x1, x2, BOTH))(x1, x2)


@pytest.mark.parametrize('is_double', [False, True])
@pytest.mark.parametrize('num_layers', [1, 2, 5])
def test_relu_networks_are_arc_cosine_kernels(is_double, num_layers):
    x1, x2 = inputs(5, 4, 12)
    rates = (1.0,) * num_layers
    nngp, parts = relu_kernels(x1, x2, num_layers, 1.7, 0.6, rates)
    kernel = fully_connected(num_layers, weight_variance=1.7, output_variance=0.6)
    with jax.enable_x64(is_double):
        found = whole(kernel, *cast(is_double, x1, x2))
        np.testing.assert_allclose(found.nngp, nngp, rtol=TOLERANCE[is_double])
        np.testing.assert_allclose(found.ntk, sum(parts), rtol=TOLERANCE[is_double])
        itself = whole(kernel, *cast(is_double, x1)).ntk
        expected = sum(relu_kernels(x1, x1, num_layers, 1.7, 0.6, rates)[1])
        np.testing.assert_allclose(itself, expected, rtol=TOLERANCE[is_double])


def test_one_hidden_layer_and_the_defaults():
    """Variance 2, then 1: Theta = (x.x' kappa_0 + |x| |x'| kappa_1) / d."""
    x = np.random.default_rng(1).normal(size=(6, 9))
    norms = np.linalg.norm(x, axis=1)
    size = norms[:, None] * norms
    cosine = np.clip(x @ x.T / size, -1, 1)
    np.fill_diagonal(cosine, 1)
    theta = np.arccos(cosine)
    kappa0, kappa1 = (np.pi - theta) / np.pi, np.sin(theta) + (np.pi - theta) * cosine
    expected = size * (cosine * kappa0 + kappa1 / np.pi) / 9
    with jax.enable_x64(True):
        np.testing.assert_allclose(fully_connected(2)(x), expected, rtol=1e-8)


def gelu_slope(u: np.ndarray) -> np.ndarray:
    return ndtr(u) + u * np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)


EXPECTATIONS = {
    'erf': erf_expectations,
    'gelu': quadrature(lambda u: u * ndtr(u), gelu_slope),
}


@pytest.mark.parametrize('is_double', [False, True])
@pytest.mark.parametrize('activation', EXPECTATIONS)
def test_smooth_activations(is_double, activation):
    x1, x2 = inputs(4, 3, 10)
    nngp, ntk = kernels(EXPECTATIONS[activation], x1, x2, 3, 0.8, 1.2)
    kernel = fully_connected(3, activation, 0.8, 1.2)
    with jax.enable_x64(is_double):
        found = whole(kernel, *cast(is_double, x1, x2))
        np.testing.assert_allclose(found.nngp, nngp, rtol=TOLERANCE[is_double])
        np.testing.assert_allclose(found.ntk, ntk, rtol=TOLERANCE[is_double])


@pytest.mark.parametrize('is_double', [False, True])
def test_squared_relu(is_double):
    """2-D Gauss-Hermite quadrature of relu^2 = (u^2 + u |u|) / 2 would converge slowly: integrated
    over the angle instead, with E r^4 = 8 and E r^2 = 2."""
    x1, x2 = inputs(4, 3, 10)
    cov = 0.8 * x1 @ x2.T / 10
    product = 0.64 * np.mean(x1**2, 1)[:, None] * np.mean(x2**2, 1)
    theta = np.arccos(np.clip(cov / np.sqrt(product), -1, 1))
    nodes, weights = np.polynomial.legendre.leggauss(40)
    half = (np.pi - theta) / 2
    angle = half[..., None] * (nodes + 1) + theta[..., None] - np.pi / 2
    arc = np.cos(angle) * np.cos(angle - theta[..., None])
    value = 8 * product * (arc**2 @ weights) * half / (2 * np.pi)
    slopes = 4 * 2 * np.sqrt(product) * (arc @ weights) * half / (2 * np.pi)
    with jax.enable_x64(is_double):
        found = whole(fully_connected(2, 'relu2', 0.8, 1.2), *cast(is_double, x1, x2))
        np.testing.assert_allclose(found.nngp, 1.2 * value, rtol=TOLERANCE[is_double])
        ntk = 1.2 * value + 1.2 * slopes * cov
        np.testing.assert_allclose(found.ntk, ntk, rtol=TOLERANCE[is_double])


@pytest.mark.parametrize('rates', [(2.0, 0.5, 3.0, 0.1), (0.0, 0.0, 1e-6, 0.0), (1e4, 1, 0, 1)])
def test_layer_rates_weigh_the_parts_of_the_ntk(rates):
    x1, x2 = inputs(5, 4, 12)
    nngp, parts = relu_kernels(x1, x2, 4, 2.0, 1.0, rates)
    with jax.enable_x64(True):
        found = whole(fully_connected(4, layer_rates=rates), x1, x2)
        np.testing.assert_allclose(found.ntk, sum(parts), rtol=1e-8)
        np.testing.assert_allclose(found.nngp, nngp, rtol=1e-8)


@pytest.mark.parametrize('activation', ['gelu', 'relu2'])
def test_parts_of_all_layers_sum_to_the_ntk(activation):
    x1, x2 = inputs(5, 4, 12)
    with jax.enable_x64(True):
        kernels = [fully_connected(3, activation, layer_rates=tuple(rate)) for rate in np.eye(3)]
        parts = [whole(kernel, x1, x2).ntk for kernel in kernels]
        expected = whole(fully_connected(3, activation), x1, x2).ntk
        np.testing.assert_allclose(sum(parts), expected, rtol=1e-12)
        assert fully_connected(3, layer_rates=(1, 1, 1)) == fully_connected(3)


def within(values: np.ndarray, expected: np.ndarray, errors: float = 4.0) -> None:
    """Draws (count, ...) have the expected mean within so many standard errors."""
    standard = values.std(0, ddof=1) / math.sqrt(len(values))
    distance = np.abs(values.mean(0) - expected) / standard
    assert distance.max() < errors, distance


def test_networks_of_4096_units():
    """Draws in NumPy; f = v.phi(W x) sqrt(1.5 / m), h = W x sqrt(2 / d)."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(4, 7))
    nngp, ntk = [], []
    for _ in range(100):
        weights, last = rng.normal(size=(4096, 7)), rng.normal(size=4096)
        h = x @ weights.T * math.sqrt(2 / 7)
        active = np.maximum(h, 0)
        nngp.append(1.5 * active @ active.T / 4096)
        # df/dv, and df/dW = sqrt(1.5 / m) sqrt(2 / d) v_i phi'(h_i) x.
        back = last * (h > 0)
        ntk.append(nngp[-1] + 1.5 * (back @ back.T / 4096) * 2 * (x @ x.T / 7))
    found = whole(fully_connected(2, output_variance=1.5), x.astype(np.float32))
    within(np.array(nngp), found.nngp)
    within(np.array(ntk), found.ntk)


CHANNELS = 64


def draw(rng: np.random.Generator, *shape: int) -> jax.Array:
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def residual_network(phi, strides, rng):
    """Weights (all N(0, 1)) and the function of a WideResNet-10, in jax.lax; variances 1.6, 0.9."""
    weights = {'stem': draw(rng, 3, 3, 2, CHANNELS), 'last': draw(rng, CHANNELS)}
    for stage in range(3):
        for name, size in (('a', 3), ('b', 3), ('p', 1)):
            weights[f'{name}{stage}'] = draw(rng, size, size, CHANNELS, CHANNELS)

    def conv(x, w, stride):
        dims = ('NHWC', 'HWIO', 'NHWC')
        y = lax.conv_general_dilated(x, w, (stride, stride), 'SAME', dimension_numbers=dims)
        return y * math.sqrt(1.6 / math.prod(w.shape[:3]))

    def f(weights, image):
        x = conv(image[None], weights['stem'], 1)
        for stage, stride in enumerate(strides):
            active = phi(x)
            y = conv(phi(conv(active, weights[f'a{stage}'], stride)), weights[f'b{stage}'], 1)
            x = conv(active, weights[f'p{stage}'], stride) + y
        pooled = phi(x)[0].mean((0, 1))
        return pooled @ weights['last'] * math.sqrt(0.9 / CHANNELS)

    return weights, f


def test_wide_resnet_against_finite_networks():
    """The derivatives by the last weights give the NNGP kernel, since f is linear in them."""
    rng = np.random.default_rng(6)
    images = rng.normal(size=(3, 5, 4, 2)).astype(np.float32)
    weights, f = residual_network(jax.nn.relu, (1, 2, 2), rng)
    gradient = jax.jit(jax.grad(f))
    nngp, ntk = [], []
    for _ in range(40):
        weights = jax.tree.map(lambda w: draw(rng, *w.shape), weights)
        per_image = jax.device_get([gradient(weights, image) for image in images])
        rows = {name: np.stack([g[name].ravel() for g in per_image]) for name in weights}
        nngp.append(rows['last'] @ rows['last'].T)
        ntk.append(sum(row @ row.T for row in rows.values()))
    found = whole(wide_resnet(10, weight_variance=1.6, output_variance=0.9), images)
    within(np.array(nngp), found.nngp)
    within(np.array(ntk), found.ntk)


@pytest.mark.parametrize(
    ('depth', 'strides', 'shape', 'is_double'),
    [(16, (1, 2, 2), (5, 4, 2), True), (10, (2, 1, 3), (4, 4, 1), False)],
)
def test_wide_resnet_against_dense_covariances(depth, strides, shape, is_double):
    x = np.random.default_rng(7).normal(size=(3, *shape))
    nngp, ntk = residual_kernels(x, (depth - 4) // 6, strides, 1.6, 0.9)
    kernel = wide_resnet(depth, strides, weight_variance=1.6, output_variance=0.9)
    with jax.enable_x64(is_double):
        found = whole(kernel, *cast(is_double, x))
    tolerance = 1e-7 if is_double else 1e-4  # the oracle's arccos loses half of the digits
    np.testing.assert_allclose(found.nngp, nngp, rtol=tolerance)
    np.testing.assert_allclose(found.ntk, ntk, rtol=tolerance)


def test_images_are_flattened_for_fully_connected_networks():
    x1, x2 = cast(False, *inputs(3, 2, 4, 3, 2))
    flat = fully_connected(3)(x1.reshape(3, -1), x2.reshape(2, -1))
    np.testing.assert_array_equal(fully_connected(3)(x1, x2), flat)


X = np.ones((3, 4), np.float32)


@pytest.mark.parametrize(
    ('call', 'sentence'),
    [
        (lambda: fully_connected(0), 'num_layers = 0: must be at least 1'),
        (lambda: fully_connected(2, 'tanh'), "activation = 'tanh': must be one of relu, erf"),
        (lambda: fully_connected(2, weight_variance=0), 'weight_variance = 0: must be positive'),
        (lambda: wide_resnet(10, output_variance=math.nan), 'output_variance = nan: must be'),
        (lambda: fully_connected(2, layer_rates=(1,)), 'must be 2 finite numbers'),
        (lambda: fully_connected(2, layer_rates=(1, -1)), 'none of them negative'),
        (lambda: wide_resnet(12), r'depth = 12: \(depth - 4\) must be a positive multiple of 6'),
        (lambda: wide_resnet(10, strides=(1, 2)), r'strides = \(1, 2\): must be three positive'),
        (lambda: fully_connected(2)(X, get='cov'), "get = 'cov': must be 'nngp', 'ntk' or"),
        (lambda: fully_connected(2)(X, X[:, :3]), r'x2 has shape \(3, 3\): must be \(n2, \*\(4,'),
        (lambda: fully_connected(2)(X[0]), r'x1 has shape \(4,\): must be \(n, ...\)'),
        (lambda: wide_resnet(10)(X), r'x1 has shape \(3, 4\): must be \(n, h, w, c\)'),
        (lambda: compute(fully_connected(2), X > 0), 'x1 is of type bool: must be float32 or'),
        (lambda: compute(fully_connected(2), X, X.astype(np.float64)), 'x2 is of type float64'),
        (lambda: compute(fully_connected(2), X.astype(np.float64)), "'jax_enable_x64', True"),
        (lambda: compute(fully_connected(2), X, X[:0]), r'x2 has shape \(0, 4\): must not be'),
        (lambda: compute(fully_connected(2), X, block_size=0), 'block_size = 0: must be at'),
    ],
)
def test_refuses(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
