"""Oracles: the whole network in NumPy, closed formulas, the distributions of the first weights."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from scipy import stats

from tests.war_jax.models.numpy_network import ACTIVATIONS, NumpyNetwork
from war_jax.families import FAMILIES
from war_jax.mesh import AXIS, make_mesh
from war_jax.models.layers import BatchNorm
from war_jax.models.normalisation import Normalisation
from war_jax.models.residual import PreActResNet
from war_jax.models.wide_resnet import WideResNet

FLOAT64 = jnp.dtype('float64')


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def random_variables(model: WideResNet, shape: tuple[int, ...]) -> dict:
    """Random in every leaf, so that no scale of 1 and no bias of 0 can hide a fault."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if leaf.ndim > 1:
            return rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        positive = path[-1].key in ('var', 'scale')
        return rng.uniform(0.5, 1.5, leaf.shape) if positive else rng.normal(size=leaf.shape)

    return jax.tree_util.tree_map_with_path(draw, shapes_of(model, shape))


def shapes_of(model: WideResNet, shape: tuple[int, ...]) -> Any:
    image = jnp.zeros((1, *shape))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))


def images(count: int, shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (count, *shape))


# The network


@pytest.mark.parametrize(
    'shape, fields',
    [
        ((8, 8, 1), {'depth': 16, 'widen_factor': 0.25}),
        ((28, 28, 1), {'depth': 10, 'widen_factor': 0.125}),
        ((33, 33, 3), {'depth': 10, 'widen_factor': 0.125}),  # odd maps: 33, 17, 9
        # The stem is as wide as the first stage: no projection, which then skips pixels.
        ((9, 8, 2), {'depth': 10, 'widen_factor': 0.25, 'stem_channels': 4, 'strides': (2, 1, 3)}),
    ],
)
def test_logits_with_running_statistics(shape, fields, float64):
    model = WideResNet(num_classes=7, dtype=FLOAT64, param_dtype=FLOAT64, **fields)
    variables, x = random_variables(model, shape), images(2, shape)
    logits = jax.jit(functools.partial(model.apply, train=False))(variables, x)
    assert logits.dtype == jnp.float64
    desired = NumpyNetwork(variables, tuple(model.strides))(x)
    np.testing.assert_allclose(logits, desired, rtol=1e-9, atol=1e-10)


PREACT = {'depth': 12, 'stem_channels': 3, 'strides': (1, 2, 1, 2), 'stage_depths': (1, 2, 1, 1)}


@pytest.mark.parametrize(
    ('kind', 'fields', 'blocks', 'channels'),
    [
        # Another number of blocks in each stage, and another width; GELU and Swish.
        (WideResNet, {'depth': 12, 'widen_factor': 0.25, 'stage_depths': (1, 2, 1),
                      'stage_widths': (2, 1, 0.5), 'activation': 'gelu'}, (1, 2, 1), (8, 8, 8)),
        (PreActResNet, {**PREACT, 'widen_factor': 0.0625, 'stage_widths': (1, 1, 1, 0.5),
                        'activation': 'swish'}, (1, 2, 1, 1), (4, 8, 16, 16)),
    ],
)  # fmt: skip
def test_logits_of_unusual_networks(kind, fields, blocks, channels, float64):
    """In both modes. The images are in [0, 1]; the oracle is given (image - mean) / deviation."""
    mean, std = (0.3, 0.5, 0.6), (0.2, 0.25, 0.5)
    model = kind(num_classes=7, dtype=FLOAT64, param_dtype=FLOAT64,
                 normalise=Normalisation(mean, std), **fields)  # fmt: skip
    assert (model.blocks, model.channels) == (blocks, channels)
    variables, x = random_variables(model, (8, 8, 3)), images(3, (8, 8, 3))
    assert [len(variables['params'][f'stage{s + 1}']) for s in range(len(blocks))] == list(blocks)
    # Equal channels need no projection, but a PreActResNet's stride has one.
    has_projection = ['shortcut' in variables['params'][f'stage{s + 1}']['block0'] for s in (1, 2)]
    assert has_projection == [kind is PreActResNet] * 2

    @jax.jit
    def call(variables, x):
        trained = model.apply(variables, x, train=True, mask=mask, mutable=['moments'])
        return model.apply(variables, x, train=False), trained

    mask = np.array([True, True, False])
    logits, (trained, changed) = call(variables, x)
    for mode, found in ((None, logits), (mask, trained)):
        active = ACTIVATIONS[model.activation]
        oracle = NumpyNetwork(variables, model.strides, mode, active)
        desired = oracle((x - np.array(mean)) / np.array(std))
        np.testing.assert_allclose(found, desired, rtol=1e-9, atol=1e-10)
    assert len(oracle.moments) == 2 * sum(blocks) + 1
    for path, moments in oracle.moments.items():
        found = functools.reduce(lambda tree, name: tree[name], path, changed['moments'])
        np.testing.assert_allclose((found['mean'], found['var']), moments, rtol=1e-9, atol=1e-10)


# On four devices: full, half full, full, nothing but padding.
MASK = np.array([True, True, False, True, True, True, False, False])
STRIDES = (1, 2, 1)


def small_network(axis_name: str | None) -> WideResNet:
    return WideResNet(10, 0.25, 5, 4, STRIDES, axis_name, FLOAT64, FLOAT64)


@pytest.mark.parametrize('num_devices', [1, 4])
def test_training_mode_with_global_statistics(num_devices, float64):
    """Logits, moments of every norm and the gradient through them, on any number of devices.

    Oracle: the network of the real examples alone on one host; central differences of it.
    """
    model, shape = small_network(AXIS), (8, 8, 3)
    variables, x = random_variables(model, shape), images(8, shape)
    weight = np.random.default_rng(2).normal(size=(8, 5)) * MASK[:, None]

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=make_mesh(jax.devices()[:num_devices]),
        in_specs=(P(), P(AXIS), P(AXIS)),
        out_specs=(P(AXIS), P()),
    )
    def train(variables, x, mask):
        logits, changed = model.apply(variables, x, train=True, mask=mask, mutable=['moments'])
        return logits, changed['moments']

    def loss(x):
        logits, moments = train(variables, x, MASK)
        return jnp.sum(weight * logits), (logits, moments)

    gradient, (logits, moments) = jax.grad(loss, has_aux=True)(x)
    oracle = NumpyNetwork(variables, STRIDES, MASK)
    np.testing.assert_allclose(logits[MASK], oracle(x)[MASK], rtol=1e-9, atol=1e-10)
    assert len(oracle.moments) == 7
    assert jax.tree.structure(moments) == jax.tree.structure(variables['batch_stats'])
    for path, (mean, var) in oracle.moments.items():
        found = functools.reduce(lambda tree, name: tree[name], path, moments)
        np.testing.assert_allclose(found['mean'], mean, rtol=1e-9, atol=1e-11, err_msg=str(path))
        np.testing.assert_allclose(found['var'], var, rtol=1e-9, err_msg=str(path))

    direction, step = np.random.default_rng(3).normal(size=x.shape), 1e-7
    up, down = (np.sum(weight * oracle(x + d)) for d in (step * direction, -step * direction))
    np.testing.assert_allclose(np.sum(gradient * direction), (up - down) / (2 * step), rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(gradient)[~MASK], 0)


def test_per_device_statistics_are_those_of_each_device(float64):
    """As under pmap. Oracle: each device's two images by themselves."""
    model, shape = small_network(None), (8, 8, 3)
    variables, x = random_variables(model, shape), images(8, shape)
    mask = np.array([True, True, False, True, True, True, True, True])
    train = jax.shard_map(
        lambda x, mask: model.apply(variables, x, train=True, mask=mask, mutable=['moments'])[0],
        mesh=make_mesh(jax.devices()),
        in_specs=(P(AXIS), P(AXIS)),
        out_specs=P(AXIS),
    )
    logits = np.asarray(jax.jit(train)(x, mask)).reshape(4, 2, 5)
    for i in range(4):
        real = mask.reshape(4, 2)[i]
        desired = NumpyNetwork(variables, STRIDES, real)(x.reshape(4, 2, *shape)[i])
        np.testing.assert_allclose(logits[i][real], desired[real], rtol=1e-9, atol=1e-10)
    together = NumpyNetwork(variables, STRIDES, mask)(x)
    assert np.abs(logits.reshape(8, 5) - together)[mask].max() > 1e-3


# Its size and its first weights


def closed_formula(depth: int, k: int, classes: int) -> int:
    """Blocks, layer by layer: 3x3 convolutions without bias, two numbers per normalised channel."""
    blocks = (depth - 4) // 6
    total, channels = 3 * 9 * 16, 16
    for width in (16 * k, 32 * k, 64 * k):
        first = 2 * channels + 9 * channels * width + 2 * width + 9 * width**2
        projection = channels * width if channels != width else 0
        total += first + projection + (blocks - 1) * (18 * width**2 + 4 * width)
        channels = width
    return total + 2 * channels + (channels + 1) * classes


@pytest.mark.parametrize(
    'depth, k, published',
    [(34, 1, None), (34, 5, None), (34, 10, 46_160_474), (28, 10, 36_479_194)],
)
def test_number_of_parameters(depth, k, published):
    shapes = shapes_of(WideResNet(depth, k, 10), (32, 32, 3))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))
    assert count == closed_formula(depth, k, 10)
    assert published is None or count == published


@pytest.mark.parametrize(
    'k, widths',
    [
        (1, (16, 32, 64)),
        (10, (160, 320, 640)),
        (0.25, (4, 8, 16)),
        (1.3, (21, 42, 83)),
        (0.01, (1, 1, 1)),
    ],
)
def test_widths_of_the_stages(k, widths):
    assert FAMILIES['wide_resnet'].channels(k) == widths


def test_first_weights_have_the_papers_distributions():
    """Oracle: Kolmogorov-Smirnov against N(0, 2 / (9 out)) and U(-1, 1) / sqrt(in), one seed."""
    model = WideResNet(10, 1, 100)
    variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, 8, 8, 3)), train=False))(
        jax.random.key(0)
    )
    params = variables['params']
    wide = params['stage3']['block0']  # 32 channels in, 64 out
    for kernel, fan_out in [
        (params['stem']['kernel'], 9 * 16),
        (wide['conv1']['kernel'], 9 * 64),
        (wide['conv2']['kernel'], 9 * 64),
        (wide['shortcut']['kernel'], 64),
    ]:
        standard = np.ravel(kernel) / np.sqrt(2 / fan_out)
        assert stats.kstest(standard, 'norm').pvalue > 0.01
    dense = np.ravel(params['head']['kernel']) * np.sqrt(64)
    assert stats.kstest(dense, stats.uniform(-1, 2).cdf).pvalue > 0.01
    np.testing.assert_array_equal(params['head']['bias'], 0)
    for collection, name, value in [
        (params, 'scale', 1), (params, 'bias', 0),
        (variables['batch_stats'], 'mean', 0), (variables['batch_stats'], 'var', 1),
    ]:  # fmt: skip
        np.testing.assert_array_equal(collection['norm'][name], np.full(64, value))


# Its normalisation by itself


def norm_variables(channels: int, mean: float = 0.0) -> dict:
    rng = np.random.default_rng(4)
    return {
        'params': {'scale': rng.uniform(0.5, 2, channels), 'bias': rng.normal(size=channels)},
        'batch_stats': {
            'mean': mean + rng.normal(size=channels),
            'var': rng.uniform(0.5, 2, channels),
        },
    }


def float32(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def run_norm(norm: BatchNorm, variables: Any, x: np.ndarray, mask: np.ndarray | None = None) -> Any:
    """Output and moments in training mode."""
    y, changed = norm.apply(variables, x, train=True, mask=mask, mutable=['moments'])
    return y, changed['moments']


def test_inference_folds_the_running_statistics():
    variables, x = norm_variables(3), np.random.default_rng(5).normal(2, 3, (4, 5, 6, 3))
    p, s = variables['params'], variables['batch_stats']
    desired = (x - s['mean']) / np.sqrt(s['var'] + 1e-5) * p['scale'] + p['bias']
    actual: Any = BatchNorm().apply(float32(variables), x.astype(np.float32), train=False)
    np.testing.assert_allclose(actual, desired, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('shape', [(6, 4, 5, 3), (6, 3)])
def test_batch_moments_far_from_zero(shape):
    """float32 with a mean 1000 standard deviations from 0, where E[x^2] - E[x]^2 has no digit left.
    Oracle: float64."""
    x = np.random.default_rng(6).normal(1000, 1, shape).astype(np.float32)
    mask = np.array([True, False, True, True, True, False])
    y, moments = run_norm(BatchNorm(), float32(norm_variables(3)), x, mask)
    real = x.astype(np.float64)[mask].reshape(-1, 3)
    np.testing.assert_allclose(moments['mean'], real.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments['var'], real.var(0, ddof=1), rtol=1e-3)
    assert y.shape == shape and y.dtype == jnp.float32


def test_all_examples_count_without_mask(float64):
    """Oracle: NumPy; with moments the output has mean `bias` and standard deviation `scale`."""
    variables, x = norm_variables(2), np.random.default_rng(7).normal(3, 2, (5, 4, 4, 2))
    norm = BatchNorm(dtype=FLOAT64, param_dtype=FLOAT64)
    y, moments = run_norm(norm, variables, x)
    flat: Any = x.reshape(-1, 2)
    np.testing.assert_allclose(moments['mean'], flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments['var'], flat.var(0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(y.mean((0, 1, 2)), variables['params']['bias'], rtol=1e-10)
    np.testing.assert_allclose(y.std((0, 1, 2)), variables['params']['scale'], rtol=1e-4)


def test_padding_does_not_influence_the_real_examples():
    """Oracle: the same batch with other padding, bit for bit."""
    model, mask = WideResNet(10, 0.25, 5, strides=STRIDES), np.array([True, False, True])
    variables = float32(random_variables(model, (8, 8, 1)))
    x = images(3, (8, 8, 1)).astype(np.float32)
    other = x.copy()
    other[1] = 1e3 * images(1, (8, 8, 1), seed=9)[0]

    @jax.jit
    def train(x):
        return model.apply(variables, x, train=True, mask=mask, mutable=['moments'])

    (logits, moments), (other_logits, other_moments) = train(x), train(other)
    np.testing.assert_array_equal(logits[mask], other_logits[mask])
    chex.assert_trees_all_equal(moments, other_moments)


def test_device_that_holds_nothing_but_padding_stays_finite():
    """Per-device statistics at the end of an epoch. Its results are multiplied by 0, which makes
    no number of an infinity: logits, moments and gradients, through a deep network."""
    model = WideResNet(16, 0.125, 5, strides=STRIDES)
    variables = float32(random_variables(model, (8, 8, 1)))
    x = jnp.asarray(images(2, (8, 8, 1)), jnp.float32)

    def loss(params):
        padding = jnp.zeros(2, bool)
        logits, changed = model.apply(
            {**variables, 'params': params}, x, train=True, mask=padding, mutable=['moments']
        )
        return 0.0 * jnp.sum(logits), (logits, changed)

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss, has_aux=True))(variables['params'])):
        assert np.isfinite(leaf).all()
