"""Operator norms and their products. Oracles: SVDs of dense float64 NumPy matrices, which for
convolutions are written down entry by entry, and the sandwich Jacobian <= bound on every sample."""

import math
from itertools import pairwise
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from ntk.gradients import output_gradients
from ntk.networks import FullyConnected, NormFreeWideResNet
from ntk.spectral import (
    conv_norm,
    dense_norm,
    fully_connected_bound,
    largest_eigenvalue,
    lipschitz_bound,
    operator_norm,
)
from ntk.spectral.bound import SLOPES, norm_free_layers
from war_jax.models.wide_resnet import WideResNet

KEY = jax.random.key(0)
PAD = {1: ((0, 0), (0, 0)), 3: ((1, 1), (1, 1))}


def largest_singular_value(matrix: np.ndarray) -> float:
    return float(np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)[0])


def dense_conv(kernel: np.ndarray, height: int, width: int, stride: int, padding: Any):
    """(matrix, (height, width) after): output (i, j, o), input (i s + a - p, j s + b - p, c)."""
    size, _, channels, features = kernel.shape
    rows, columns = -(-height // stride), -(-width // stride)
    if padding == 'SAME':  # the total is the least that suffices, the smaller half before
        up, left = (
            max((after - 1) * stride + size - length, 0) // 2
            for after, length in ((rows, height), (columns, width))
        )
    else:
        up = left = padding[0][0]
    matrix = np.zeros((rows, columns, features, height, width, channels))
    for i, j, a, b in np.ndindex(rows, columns, size, size):
        y, x = i * stride + a - up, j * stride + b - left
        if 0 <= y < height and 0 <= x < width:
            matrix[i, j, :, y, x, :] = kernel[a, b].T
    return matrix.reshape(rows * columns * features, -1), (rows, columns)


def test_largest_eigenvalues_of_dense_matrices():
    """Full rank, rank 2, a multiple of I, zeros, and numbers near the ends of float64's squares."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(6, 9, 9))
    factors[1, :, 2:] = 0
    factors[2], factors[3] = 3 * np.eye(9), 0
    factors[4] *= 1e-60
    factors[5] *= 1e60
    matrices = factors @ factors.transpose(0, 2, 1)
    with jax.enable_x64(True):
        start = jax.random.normal(KEY, (6, 3, 3))

        def apply(v):
            return jnp.einsum('nij,nj->ni', matrices, v.reshape(6, 9)).reshape(6, 3, 3)

        found = jax.jit(lambda v: largest_eigenvalue(apply, v, 9))(start)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(matrices)[:, -1], rtol=1e-12)


def test_largest_eigenvalue_rises_with_its_steps_and_beats_the_power_iteration():
    matrix = np.diag(np.linspace(0, 1, 200))
    with jax.enable_x64(True):
        start = jax.random.normal(KEY, (1, 200))
        found = [float(largest_eigenvalue(lambda v: v @ matrix, start, n)[0]) for n in (2, 8, 32)]
    assert all(low < high for low, high in pairwise([*found, 1.0]))
    assert found[-1] > 1 - 1e-3
    power = np.asarray(start[0]) * np.linspace(0, 1, 200) ** 31
    assert found[-1] > power @ matrix @ power / (power @ power)


@pytest.mark.parametrize('shape', [(12, 30), (30, 12)])
def test_operator_norm_is_the_largest_singular_value(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def linear(v):
        return matrix @ v.reshape(-1)

    norm = jax.jit(lambda key: operator_norm(linear, (shape[1] // 3, 3), key))
    np.testing.assert_allclose(norm(KEY), largest_singular_value(matrix), rtol=2e-6)
    assert norm(KEY) == norm(KEY)


def test_operator_norm_of_zero_and_of_no_steps():
    assert operator_norm(lambda v: 0 * v, (7,), KEY, num_steps=5) == 0
    with pytest.raises(ValueError, match='num_steps = 0: expected at least 1'):
        operator_norm(lambda v: v, (7,), KEY, num_steps=0)


@pytest.mark.parametrize('size', [1, 3])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('same', [True, False])
def test_conv_norm_is_that_of_the_whole_map(size, stride, same):
    kernel = np.random.default_rng(size).normal(size=(size, size, 2, 3)).astype(np.float32)
    padding = 'SAME' if same else PAD[size]
    matrix, _ = dense_conv(kernel, 6, 5, stride, padding)
    norm = conv_norm(jnp.asarray(kernel), (6, 5, 2), stride, padding, KEY, 20)
    np.testing.assert_allclose(norm, largest_singular_value(matrix), rtol=1e-3)
    assert norm <= largest_singular_value(matrix) * (1 + 5e-6)


def test_conv_norm_is_as_accurate_as_documented():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    exact = largest_singular_value(dense_conv(kernel, 8, 8, 1, 'SAME')[0])
    norm = conv_norm(jnp.asarray(kernel), (8, 8, 8), 1, 'SAME', KEY, 32)
    assert exact * (1 - 1e-3) <= norm <= exact * (1 + 5e-6)


def test_conv_norm_refuses_other_channels():
    with pytest.raises(ValueError, match=r'image_shape = \(8, 8, 2\): expected \(h, w, 3\)'):
        conv_norm(jnp.zeros((3, 3, 3, 4)), (8, 8, 2), 1, 'SAME', KEY)


@pytest.mark.parametrize('shape', [(5, 40), (40, 5)])
def test_dense_norm_is_the_largest_singular_value(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(
        dense_norm(jnp.asarray(matrix)), largest_singular_value(matrix), rtol=1e-6
    )
    assert dense_norm(jnp.zeros(shape)) == 0


def test_slopes_are_the_largest_of_the_activations():
    """Oracle: the derivatives, from textbooks, on a fine grid."""
    x = np.linspace(-5, 5, 100_001)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    slopes = {
        'relu': np.where(x > 0, 1.0, 0.0),
        'erf': 2 / math.sqrt(math.pi) * np.exp(-(x**2)),
        'gelu': special.ndtr(x) + x * density,
    }
    assert {name: pytest.approx(slope.max(), rel=1e-8) for name, slope in slopes.items()} == SLOPES


# Networks.


def draw(model: nn.Module, shape: tuple[int, ...], seed: int = 0) -> Any:
    """He-sized random matrices for a network of ntk.networks."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: model.init(KEY, jnp.zeros((1, *shape))))
    return jax.tree.map(
        lambda leaf: jnp.asarray(
            rng.normal(size=leaf.shape) * math.sqrt(2 / math.prod(leaf.shape[:-1])), jnp.float32
        ),
        shapes,
    )


def random_images() -> np.ndarray:
    return np.random.default_rng(1).uniform(size=(20, 8, 8, 1)).astype(np.float32)


def wide_resnet() -> tuple[Any, Any]:
    """Statistics and scales random, some scales negative; one block has no projection."""
    model = WideResNet(10, 0.25, 3, stem_channels=4, strides=(2, 1, 2))
    images = jnp.zeros((1, 8, 8, 1))
    shapes = jax.eval_shape(lambda: model.init(KEY, images, train=False))
    rng = np.random.default_rng(0)

    def leaf(path: Any, of: Any) -> jax.Array:
        name = path[-1].key
        if name == 'kernel':
            values = rng.normal(size=of.shape) * math.sqrt(2 / math.prod(of.shape[:-1]))
        elif name == 'var':
            values = rng.uniform(0.2, 3, of.shape)
        else:
            values = rng.normal(size=of.shape)
        return jnp.asarray(values, jnp.float32)

    return model, jax.tree.map_with_path(leaf, shapes)


def expected_norms_of_wide_resnet(variables: Any) -> tuple[float, dict[str, float]]:
    """The composition written down once more, with dense matrices."""
    params, stats = variables['params'], variables['batch_stats']
    norms = {}

    def gain(name, layer, moments):
        scale, var = np.asarray(layer['scale'], float), np.asarray(moments['var'], float)
        norms[name] = np.abs(scale / np.sqrt(var + 1e-5)).max()
        return norms[name]

    def conv(name, layer, shape, stride):
        kernel = np.asarray(layer['kernel'], float)
        matrix, after = dense_conv(kernel, shape[0], shape[1], stride, PAD[len(kernel)])
        norms[name] = largest_singular_value(matrix)
        return norms[name], after

    bound, shape = conv('stem', params['stem'], (8, 8), 1)
    for stage, stride in (('stage1', 2), ('stage2', 1), ('stage3', 2)):
        block, moments, name = params[stage]['block0'], stats[stage]['block0'], f'{stage}/block0'
        gain1 = gain(f'{name}/gain1', block['norm1'], moments['norm1'])
        gain2 = gain(f'{name}/gain2', block['norm2'], moments['norm2'])
        conv1, after = conv(f'{name}/conv1', block['conv1'], shape, stride)
        conv2, _ = conv(f'{name}/conv2', block['conv2'], after, 1)
        if 'shortcut' in block:
            shortcut, _ = conv(f'{name}/shortcut', block['shortcut'], shape, stride)
            bound *= gain1 * shortcut + gain1 * conv1 * gain2 * conv2
        else:
            bound *= 1 + gain1 * conv1 * gain2 * conv2
        shape = after
    assert shape == (2, 2)
    bound *= gain('gain', params['norm'], stats['norm'])
    norms['pool'] = largest_singular_value(np.kron(np.eye(3), np.full((1, 4), 1 / 4)))
    norms['head'] = largest_singular_value(params['head']['kernel'])
    return bound * norms['pool'] * norms['head'], norms


def check_sandwich(f: Any, images: np.ndarray, bound: float) -> float:
    """Jacobians at all images and difference quotients of all pairs <= bound; the largest ratio."""
    slopes = np.asarray(jax.jit(lambda x: output_gradients(f, x))(images), np.float64)
    norms = np.linalg.svd(slopes.reshape(*slopes.shape[:2], -1), compute_uv=False)[:, 0]
    outputs = np.asarray(f(jnp.asarray(images)), np.float64)
    i, j = np.triu_indices(len(images), 1)
    changes = np.linalg.norm(outputs[i] - outputs[j], axis=1)
    distances = np.linalg.norm((images[i] - images[j]).reshape(len(i), -1), axis=1)
    assert np.all(norms <= bound * (1 + 1e-5))
    assert np.all(changes <= bound * distances * (1 + 1e-5))
    return norms.max() / bound


def test_bound_of_a_wide_resnet():
    """It is the composition of its layers, and holds."""
    model, variables = wide_resnet()
    expected, norms = expected_norms_of_wide_resnet(variables)
    found = lipschitz_bound(model, variables, (8, 8, 1))
    assert found.norms.keys() == norms.keys()
    assert 'stage1/block0/shortcut' not in norms and 'stage2/block0/shortcut' in norms
    # A true bound, layer by layer: never below the norm of the padded convolution.
    for name, value in norms.items():
        assert value * (1 - 1e-6) <= found.norms[name] <= 1.6 * value, name  # maps down to 2 x 2
    assert expected * (1 - 1e-5) <= found.bound <= 4 * expected
    check_sandwich(lambda x: model.apply(variables, x, train=False), random_images(), found.bound)


@pytest.mark.parametrize('activation', ['relu', 'gelu'])
def test_sandwich_and_norms_of_a_norm_free_wide_resnet(activation):
    model = NormFreeWideResNet(10, 0.125, 3, (1, 2, 2), activation)
    variables = draw(model, (8, 8, 1))
    found = lipschitz_bound(model, variables, (8, 8, 1))
    check_sandwich(lambda x: model.apply(variables, x), random_images(), found.bound)
    kernel = variables['params']['stage2_block0_conv1']['kernel']
    exact = largest_singular_value(dense_conv(kernel, 8, 8, 2, 'SAME')[0])
    assert exact * (1 - 1e-6) <= found.norms['stage2/block0/conv1'] <= 1.2 * exact
    gains = {value for name, value in found.norms.items() if 'gain' in name}
    assert gains == {SLOPES[activation]}
    assert found.norms['pool'] == 1 / 4 * 2
    product = found.norms['stem']
    for stage in (1, 2, 3):
        gain1, gain2, conv1, conv2, shortcut = (
            found.norms[f'stage{stage}/block0/{layer}']
            for layer in ('gain1', 'gain2', 'conv1', 'conv2', 'shortcut')
        )
        product *= gain1 * (shortcut + conv2 * gain2 * conv1)
    product *= found.norms['gain'] * found.norms['pool'] * found.norms['head']
    assert found.bound == pytest.approx(product, rel=1e-12)
    # On this image the other padding has nearly the same norm: look at the description itself.
    layers = norm_free_layers(model, variables)
    convolutions = [layers.stem, *(block.conv1 for block in layers.blocks.values())]
    assert [(conv.stride, conv.padding) for conv in convolutions] == [
        (1, 'SAME'), (1, 'SAME'), (2, 'SAME'), (2, 'SAME')
    ]  # fmt: skip


@pytest.mark.parametrize('activation', ['relu', 'erf', 'gelu'])
def test_sandwich_of_fully_connected_networks(activation):
    model = FullyConnected(3, 10, 4, activation)
    variables = draw(model, (4, 4, 1))
    found = lipschitz_bound(model, variables, (4, 4, 1))
    images = np.random.default_rng(0).normal(size=(50, 4, 4, 1)).astype(np.float32)
    ratio = check_sandwich(lambda x: model.apply(variables, x), images, found.bound)
    assert ratio > 0.1
    matrices = [largest_singular_value(layer['kernel']) for layer in variables['params'].values()]
    expected = math.prod(matrices) * SLOPES[activation] ** 2
    assert found.bound == pytest.approx(expected, rel=1e-5)
    assert found.norms.keys() == {'layer1', 'layer2', 'head'}


def test_bound_of_a_linear_network_is_attained():
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(9, 4)), jnp.float32)
    bound = fully_connected_bound({'head': matrix}, slope=7.0).bound
    assert bound == pytest.approx(largest_singular_value(np.asarray(matrix)), rel=1e-5)


def test_refuses_networks_it_cannot_bound():
    with pytest.raises(ValueError, match='model = Dense: expected WideResNet'):
        lipschitz_bound(nn.Dense(3), {}, (4, 4, 1))
    model = FullyConnected(2, 3, 2, 'relu2')
    with pytest.raises(ValueError, match="activation = 'relu2': expected one of relu, erf, gelu"):
        lipschitz_bound(model, draw(model, (4, 4, 1)), (4, 4, 1))
