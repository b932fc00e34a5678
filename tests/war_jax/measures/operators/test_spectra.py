"""Spectra of layers. Oracle: SVDs of dense float64 matrices, written down entry by entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.measures.operators import (
    conv_singular_values,
    fold,
    singular_values,
    wide_resnet_bound,
    wide_resnet_layers,
)
from war_jax.models.wide_resnet import BatchNorm, WideResNet


def dense_circular(kernel: np.ndarray, h: int, w: int, stride: int) -> np.ndarray:
    """Output (i, j) is the sum over (a, b) of kernel[a, b] input (i s + a - p, j s + b - p)."""
    rows, columns, channels, features = kernel.shape
    matrix = np.zeros((h // stride, w // stride, features, h, w, channels))
    for i, j, a, b in np.ndindex(h // stride, w // stride, rows, columns):
        y, x = (i * stride + a - rows // 2) % h, (j * stride + b - columns // 2) % w
        matrix[i, j, :, y, x, :] += kernel[a, b].T
    return matrix.reshape(h * w // stride**2 * features, -1)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [1, 3])
@pytest.mark.parametrize('shape', [(4, 6), (2, 2)])  # the last one smaller than the kernel
def test_fourier_spectrum_is_that_of_the_dense_operator(stride, size, shape):
    for channels, features in ((2, 3), (3, 2)):
        kernel = np.random.default_rng(size).normal(size=(size, size, channels, features))
        exact = np.linalg.svd(dense_circular(kernel, *shape, stride), compute_uv=False)
        found = conv_singular_values(kernel, shape, stride)
        assert len(found) == len(exact)
        np.testing.assert_allclose(found, exact, atol=1e-12)


def test_a_stride_that_does_not_divide_the_map_is_refused():
    with pytest.raises(ValueError, match=r'map_shape = \(5, 4\): expected multiples'):
        conv_singular_values(np.ones((3, 3, 1, 1)), (5, 4), 2)


@pytest.fixture(scope='module')
def network():
    """A small network whose BatchNorms all do something."""
    model = WideResNet(10, 0.125, 3, stem_channels=3, strides=(1, 2, 1))
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
    numbers = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: leaf + numbers.uniform(0.1, 0.5, leaf.shape).astype(np.float32), variables
    )
    return model, variables


def test_spectra_have_batchnorms_scales_and_the_pool_in_them(network):
    model, variables = network
    found = singular_values(fold(wide_resnet_layers(model, variables)), (8, 8, 1))
    block, moments = (variables[name]['stage2']['block0'] for name in ('params', 'batch_stats'))
    scale = np.abs(block['norm1']['scale']) / np.sqrt(moments['norm1']['var'] + BatchNorm.epsilon)
    kernel = np.asarray(block['conv1']['kernel'], float) * np.asarray(scale)[:, None]
    exact = np.linalg.svd(dense_circular(kernel, 8, 8, 2), compute_uv=False)
    np.testing.assert_allclose(found['stage2/block0/conv1'], exact, atol=1e-5)
    scale = variables['params']['norm']['scale'] / np.sqrt(
        variables['batch_stats']['norm']['var'] + BatchNorm.epsilon
    )
    head = np.asarray(scale)[:, None] * np.asarray(variables['params']['head']['kernel'])
    pooled = np.tile(head / 16, (16, 1))  # of the 16 pixels of the last map, each a sixteenth
    np.testing.assert_allclose(found['head'], np.linalg.svd(pooled, compute_uv=False), rtol=1e-5)
    assert list(found)[:3] == ['stem', 'stage1/block0/conv1', 'stage1/block0/conv2']
    assert 'stage2/block0/shortcut' in found


def test_folded_norms_give_the_smaller_bound(network):
    model, variables = network
    layers = wide_resnet_layers(model, variables)
    apart = wide_resnet_bound(layers, (8, 8, 1), jax.random.key(0), 12).bound
    assert wide_resnet_bound(fold(layers), (8, 8, 1), jax.random.key(0), 12).bound < apart
