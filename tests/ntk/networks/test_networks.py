"""Networks without normalisation, against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from ntk.networks import Architecture, make_network, plain_weights, weight_shapes

ACTIVATIONS = {
    'relu': lambda x: np.maximum(x, 0),
    'erf': erf,
    'gelu': lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    'relu2': lambda x: np.maximum(x, 0) ** 2,
}


def same_convolution(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Zeros around it so that ceil(size / stride) outputs fit, the odd one at the far end."""
    size = kernel.shape[0]
    out = -(-x.shape[1] // stride)
    pad = max((out - 1) * stride + size - x.shape[1], 0)
    x = np.pad(x, ((0, 0), (pad // 2, pad - pad // 2), (pad // 2, pad - pad // 2), (0, 0)))
    result = np.zeros((len(x), out, out, kernel.shape[3]))
    for i in range(out):
        for j in range(out):
            patch = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            result[:, i, j] = np.tensordot(patch, kernel, 3)
    return result


@pytest.mark.parametrize('activation', sorted(ACTIVATIONS))
def test_fully_connected(activation: str):
    model = make_network(Architecture('fcn', num_layers=3, activation=activation), 5, 2)
    weights = plain_weights(model, jax.random.key(0), (3, 2, 1))
    x = np.random.default_rng(0).uniform(size=(4, 3, 2, 1))
    names = ('layer1', 'layer2', 'head')
    w1, w2, w3 = (np.asarray(weights[name]['kernel'], float) for name in names)
    assert w1.shape == (6, 5) and w3.shape == (5, 2)
    phi = ACTIVATIONS[activation]
    expected = phi(phi(x.reshape(4, 6) @ w1) @ w2) @ w3
    got = np.asarray(model.apply({'params': weights}, jnp.asarray(x)))
    np.testing.assert_allclose(got, expected, rtol=2e-5)


def test_residual_network():
    model = make_network(Architecture('wrn', depth=16, strides=(1, 2, 2)), 0.125, 3)
    weights = plain_weights(model, jax.random.key(0), (8, 8, 1))
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(2, 8, 8, 1))
    kernels = {name: np.asarray(layer['kernel'], float) for name, layer in weights.items()}
    assert len(kernels) == 1 + 3 * (2 * 2 + 1) + 1  # a projection in each stage's first block

    def phi(z: np.ndarray) -> np.ndarray:
        return np.maximum(z, 0)

    h = same_convolution(x, kernels['stem'], 1)
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        for block in (0, 1):
            name, step = f'stage{stage}_block{block}', stride if block == 0 else 1
            y = same_convolution(phi(h), kernels[f'{name}_conv1'], step)
            y = same_convolution(phi(y), kernels[f'{name}_conv2'], 1)
            if block == 0:
                h = same_convolution(phi(h), kernels[f'{name}_shortcut'], step)
            h = h + y
    expected = phi(h).mean((1, 2)) @ kernels['head']
    got = np.asarray(model.apply({'params': weights}, jnp.asarray(x)))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_weights_are_standard_normal_and_independent():
    model = make_network(Architecture('fcn', num_layers=3), 200, 10)
    weights = plain_weights(model, jax.random.key(0), (8, 8, 1))
    assert jax.tree.map(jnp.shape, weights) == jax.tree.map(
        jnp.shape, weight_shapes(model, (8, 8, 1))
    )
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(weights)])
    assert abs(flat.mean()) < 4 / np.sqrt(flat.size)
    assert abs(flat.var() - 1) < 4 * np.sqrt(2 / flat.size)
    first, second = weights['layer1']['kernel'].ravel(), weights['layer2']['kernel'].ravel()
    assert abs(np.corrcoef(first, second[: first.size])[0, 1]) < 4 / np.sqrt(first.size)
