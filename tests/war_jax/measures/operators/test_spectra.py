"""Spectra of layers. Oracle: SVDs of dense float64 matrices, written down entry by entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.measures.operators import (
    Conv,
    certified_bound,
    conv_singular_values,
    fold,
    singular_values,
    wide_resnet_layers,
)
from war_jax.measures.operators.layers import Place, places
from war_jax.measures.operators.spectra import padded_norm_bound
from war_jax.models.layers import BatchNorm
from war_jax.models.normalisation import Normalisation
from war_jax.models.wide_resnet import WideResNet


def dense(kernel: np.ndarray, h: int, w: int, stride: int, wraps: bool = True) -> np.ndarray:
    """Output (i, j) is the sum over (a, b) of kernel[a, b] input (i s + a - p, j s + b - p)."""
    rows, columns, channels, features = kernel.shape
    after = -(-h // stride), -(-w // stride)
    matrix = np.zeros((*after, features, h, w, channels))
    for i, j, a, b in np.ndindex(*after, rows, columns):
        y, x = i * stride + a - rows // 2, j * stride + b - columns // 2
        if wraps or (0 <= y < h and 0 <= x < w):
            matrix[i, j, :, y % h, x % w, :] += kernel[a, b].T
    return matrix.reshape(after[0] * after[1] * features, -1)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [1, 3])
@pytest.mark.parametrize('shape', [(4, 6), (2, 2)])  # the last one smaller than the kernel
def test_fourier_spectrum_is_that_of_the_dense_operator(stride, size, shape):
    for channels, features in ((2, 3), (3, 2)):
        kernel = np.random.default_rng(size).normal(size=(size, size, channels, features))
        exact = np.linalg.svd(dense(kernel, shape[0], shape[1], stride), compute_uv=False)
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
    exact = np.linalg.svd(dense(kernel, 8, 8, 2), compute_uv=False)
    np.testing.assert_allclose(found['stage2/block0/conv1'], exact, atol=1e-5)
    scale = variables['params']['norm']['scale'] / np.sqrt(
        variables['batch_stats']['norm']['var'] + BatchNorm.epsilon
    )
    head = np.asarray(scale)[:, None] * np.asarray(variables['params']['head']['kernel'])
    pooled = np.tile(head / 16, (16, 1))  # of the 16 pixels of the last map, each a sixteenth
    np.testing.assert_allclose(found['head'], np.linalg.svd(pooled, compute_uv=False), rtol=1e-5)
    assert list(found)[:3] == ['stem', 'stage1/block0/conv1', 'stage1/block0/conv2']
    assert 'stage2/block0/shortcut' in found


def test_a_normalisation_of_the_images_is_part_of_the_first_layer(network):
    """Oracle: f(x / 0.25) changes four times as fast as f."""
    model, variables = network
    normalised = model.clone(normalise=Normalisation((0.5,), (0.25,)))
    plain, sharper = (
        certified_bound(wide_resnet_layers(each, variables), (8, 8, 1)).bound
        for each in (model, normalised)
    )
    assert sharper == pytest.approx(4 * plain, rel=1e-6)
    with pytest.raises(ValueError, match="activation = 'swish': bounds are of 'relu' alone"):
        wide_resnet_layers(model.clone(activation='swish'), variables)


def test_folded_norms_give_the_smaller_bound(network):
    layers = wide_resnet_layers(*network)
    assert certified_bound(fold(layers), (8, 8, 1)).bound < certified_bound(layers, (8, 8, 1)).bound


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('shape', [(4, 4), (3, 5)])
def test_certified_norms_are_above_those_with_zero_padding(stride, shape):
    """And close to them; a wrapped map of the same size need not reach them."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 3))
    matrix = dense(kernel, shape[0], shape[1], stride, wraps=False)
    exact = np.linalg.svd(matrix, compute_uv=False)[0]
    conv = Conv(jnp.asarray(kernel, jnp.float32), stride, ((1, 1), (1, 1)))
    assert exact <= padded_norm_bound(Place('one', conv, (*shape, 2))) * (1 + 1e-6) < 1.35 * exact


def test_a_norm_that_no_wrapped_map_of_that_size_has_is_bounded():
    """[-1, 2, -1] along both axes of 3 x 5 pixels, where the eigenvalues are known: with zero
    padding 2 + 2 cos(pi / (n + 1)) along n pixels, wrapped around 2 + 2 cos(pi / n) for odd n."""
    taps = np.array([-1.0, 2.0, -1.0], np.float32)
    conv = Conv(jnp.asarray(np.outer(taps, taps))[:, :, None, None], 1, ((1, 1), (1, 1)))
    exact, wrapped = (
        np.prod([2 + 2 * np.cos(np.pi / n) for n in sizes]) for sizes in ((4, 6), (3, 5))
    )
    bound = padded_norm_bound(Place('one', conv, (3, 5, 1)))
    assert wrapped < exact <= bound < 1.2 * exact


def test_padding_by_name_is_that_of_its_numbers(network):
    place = next(places(fold(wide_resnet_layers(*network)), (8, 8, 1)))
    by_name, by_number = (
        padded_norm_bound(place._replace(conv=place.conv._replace(padding=padding)))
        for padding in ('SAME', ((1, 1), (1, 1)))
    )
    assert place.conv.stride == 1 and by_name == by_number
