"""Oracles: dense Jacobians, by finite differences in NumPy or by jax.jacrev of a whole batch."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntk.empirical import (
    alignment,
    blocks,
    empirical_ntk,
    kernel_distance,
    largest_eigenvalue,
)
from ntk.functional import functional, functional_on_batch
from tests.ntk.small_wide_resnet import random_images, random_variables
from tests.one_block import OneBlock
from war_jax.mesh import make_mesh

X1 = np.random.default_rng(1).normal(size=(7, 3))
X2 = np.random.default_rng(2).normal(size=(4, 3))
K = 2


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


# A tiny network, the same in JAX and NumPy


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {'v': (3, 5), 'b': (5,), 'u': (5, 4), 'w': (4, K)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def network(params: Any, x: Any, tanh: Any = jnp.tanh) -> Any:
    """Two hidden layers: with one, Theta(x, x') would be a symmetric matrix for all x and x'."""
    hidden = tanh(x @ params['v'] + params['b'].reshape(1, -1))
    return tanh(hidden @ params['u']) @ params['w']


def jacobian_by_differences(x: np.ndarray) -> np.ndarray:
    """(n, k, P) from central differences of the NumPy network."""
    step, columns = 1e-6, []
    for name, values in weights().items():
        for index in np.ndindex(values.shape):
            up, down = weights(), weights()
            up[name][index] += step
            down[name][index] -= step
            columns.append(
                (network(up, x, np.tanh) - network(down, x, np.tanh)) / (2 * step)
            )
    return np.stack(columns, -1)


@pytest.fixture(scope='module')
def expected() -> dict[str, np.ndarray]:
    """(n, m, k, k) kernels of the tiny network."""
    j1, j2 = jacobian_by_differences(X1), jacobian_by_differences(X2)
    return {
        'symmetric': product(j1, j1),
        'crossed': product(j1, j2),
        'transposed': product(j2, j1),
    }


def mean(theta: np.ndarray) -> np.ndarray:
    return np.trace(theta, axis1=2, axis2=3) / theta.shape[-1]


def mesh_of(devices: int) -> jax.sharding.Mesh:
    return make_mesh(jax.devices()[:devices])


@pytest.mark.parametrize('devices', [1, 2, 4])
@pytest.mark.parametrize('block_size', [1, 3, 7, None])
@pytest.mark.parametrize('method', ['jacobian', 'vector_products'])
def test_any_blocks_on_any_devices(expected, method, block_size, devices):
    ntk = partial(
        empirical_ntk, network, weights(), method=method, block_size=block_size,
        mesh=mesh_of(devices),
    )  # fmt: skip
    for name, x in (
        ('symmetric', (X1,)), ('crossed', (X1, X2)), ('transposed', (X2, X1)),
    ):  # fmt: skip
        theta = ntk(*x, outputs='full')
        assert theta.dtype == np.float64
        np.testing.assert_allclose(theta, expected[name], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(ntk(*x), mean(expected[name]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize('method', ['jacobian', 'vector_products'])
def test_of_examples_with_themselves_it_is_symmetric_to_the_last_bit(method):
    mesh = mesh_of(2)
    ntk = partial(empirical_ntk, network, method=method, block_size=3, mesh=mesh)
    params = jax.tree.map(np.float32, weights())
    theta = ntk(params, X1.astype('float32'), outputs='full')
    assert theta.dtype == np.float32
    np.testing.assert_array_equal(theta, theta.transpose(1, 0, 3, 2))
    theta = ntk(params, X1.astype('float32'))
    np.testing.assert_array_equal(theta, theta.T)


@pytest.mark.parametrize('method', ['jacobian', 'vector_products'])
def test_one_shape_is_compiled_and_compiled_once(expected, method):
    """Seven examples in blocks of 2 have a last block of 1; the mesh fills that up to 2."""
    traced = []

    def f(params, x):
        traced.append(x.shape)
        return network(params, x)

    ntk = partial(empirical_ntk, method=method, block_size=2, mesh=mesh_of(2))
    ntk(f, weights(), X1)
    once = list(traced)
    # The number of outputs is asked for, and rows compared, alone and together; then a derivative
    # is taken of one example per device, and one in forward mode of a block.
    asked, compared = [(1, 3)], [(1, 3), (1, 3), (2, 3)]
    assert once == asked + compared + [(1, 3), (2, 3)][: 1 if method == 'jacobian' else 2]
    twice = jax.tree.map(lambda leaf: 2 * leaf, weights())
    ntk(f, twice, X2, X1)
    theta = ntk(f, weights(), X1, X2)
    np.testing.assert_allclose(theta, mean(expected['crossed']), rtol=1e-8, atol=1e-8)
    assert set(traced[len(once) :]) <= {(1, 3)} and len(traced) - len(once) <= 2


@pytest.mark.parametrize(
    'devices, pairs',
    [(1, 6), (2, 3)],  # 7 examples: blocks of 3, 3 and 1; and of 4 and 3, for 3 is no multiple of 2
)
def test_progress_counts_pairs_of_blocks(devices, pairs):
    seen = []
    empirical_ntk(
        network, weights(), X1, block_size=3, mesh=mesh_of(devices),
        on_block=lambda *numbers: seen.append(numbers),
    )  # fmt: skip
    assert seen == [(done, pairs) for done in range(1, pairs + 1)]


def test_a_default_block_is_as_large_as_memory_is_to_be(monkeypatch):
    """48 parameters, 2 outputs, 8 bytes: 768 bytes per example, and two blocks of them."""
    seen = []

    def last_total(**options):
        note = lambda done, total: seen.append(total)  # noqa: E731
        empirical_ntk(network, weights(), X1, mesh=mesh_of(1), on_block=note, **options)
        return seen[-1]

    monkeypatch.setattr('ntk.empirical.kernel.JACOBIAN_BYTES', 3 * 2 * 768)
    assert last_total() == 6  # blocks of 3
    monkeypatch.setattr('ntk.empirical.kernel.JACOBIAN_BYTES', 100)
    assert last_total() == 28  # blocks of 1
    assert last_total(method='vector_products') == 1


def test_blocks_of_jacobians_are_taken_once_per_pair(monkeypatch):
    """4 blocks, 10 pairs: one block to begin with, and one more for each pair off the diagonal."""
    calls = []
    write = blocks._write_jacobians
    monkeypatch.setattr(
        blocks, '_write_jacobians', lambda *a, **k: calls.append(1) or write(*a, **k)
    )
    x = np.random.default_rng(3).normal(size=(8, 3))
    empirical_ntk(network, weights(), x, block_size=2, mesh=mesh_of(2))
    assert len(calls) == 1 + 6
    calls.clear()
    empirical_ntk(network, weights(), x, x, block_size=2, mesh=mesh_of(2))
    assert len(calls) == 4 * 4 + 1  # each row begins with the column that the last one ended with


def test_a_loop_inside_the_network():
    """Its carry begins as a constant and ends with an example's values, device by device."""

    def f(params, x):
        def add(total, w):
            return total + jnp.tanh(x * w.reshape(1, -1)), None

        return jax.lax.scan(add, jnp.zeros((len(x), 3)), params)[0]

    params = np.random.default_rng(0).normal(size=(4, 3))
    slopes = X1[:, None] * (1 - np.tanh(X1[:, None] * params) ** 2)  # (n, 4, k)
    expected = np.einsum('ira,jra->ija', slopes, slopes).mean(-1)
    for method in ('jacobian', 'vector_products'):
        theta = empirical_ntk(f, params, X1, method=method, mesh=mesh_of(2))
        np.testing.assert_allclose(theta, expected, rtol=1e-12)


# A residual network of the parts of a WideResNet


def residual(mode: str, dtype: str) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """f, params, five images and three others."""
    model = OneBlock(dtype=jnp.dtype(dtype))
    variables = random_variables(0, dtype, model)
    images = random_images(12, 0, dtype)
    if mode == 'inference':
        f, params = functional(model, variables, train=False)
    else:
        f, params = functional_on_batch(model, variables, images[8:])
    return f, params, images[:5], images[5:8]


@pytest.fixture(scope='module')
def dense() -> dict[str, np.ndarray]:
    """(8, k, P) Jacobians of all images at once, by mode."""
    jacobians = {}
    with jax.enable_x64(True):
        for mode in ('inference', 'batch'):
            f, params, x1, x2 = residual(mode, 'float64')
            leaves = jax.tree.leaves(jax.jit(jax.jacrev(f))(params, np.concatenate([x1, x2])))
            jacobians[mode] = np.concatenate([np.reshape(leaf, (8, 3, -1)) for leaf in leaves], -1)
    return jacobians


def product(j1: np.ndarray, j2: np.ndarray) -> np.ndarray:
    return np.einsum('iap,jbp->ijab', j1, j2)


@pytest.mark.parametrize('method', ['jacobian', 'vector_products'])
@pytest.mark.parametrize('mode', ['inference', 'batch'])
def test_residual_network(dense, mode, method):
    f, params, x1, x2 = residual(mode, 'float64')
    theta = empirical_ntk(
        f, params, x1, x2, outputs='full', method=method, block_size=3, mesh=mesh_of(2)
    )
    expected = product(dense[mode][:5], dense[mode][5:])
    np.testing.assert_allclose(theta, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('mode, method', [('inference', 'vector_products'), ('batch', 'jacobian')])
def test_residual_network_in_single_precision(dense, mode, method):
    f, params, x1, x2 = residual(mode, 'float32')
    theta = empirical_ntk(f, params, x1, x2, outputs='full', method=method, mesh=mesh_of(1))
    assert theta.dtype == np.float32
    expected = product(dense[mode][:5], dense[mode][5:])
    np.testing.assert_allclose(theta, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


# The largest eigenvalue


def test_largest_eigenvalue(expected):
    """Oracle: eigvalsh of the whole matrix; what remains after few steps, from its spectrum."""
    gram = expected['symmetric'].transpose(0, 2, 1, 3).reshape(7 * K, 7 * K)
    spectrum = np.linalg.eigvalsh(gram)
    ratio = spectrum[-2] / spectrum[-1]
    assert 0.1 < ratio < 0.9
    for steps in (8, 30):
        found = largest_eigenvalue(network, weights(), X1, steps=steps)
        error = 1 - found / spectrum[-1]
        assert -1e-8 < error < 10 * ratio ** (2 * (steps - 1)) + 1e-8
    assert found == largest_eigenvalue(network, weights(), X1)
    assert largest_eigenvalue(network, weights(), X1, steps=1) < 0.999 * spectrum[-1]


def test_largest_eigenvalue_of_nothing():
    assert largest_eigenvalue(lambda p, x: 0 * network(p, x), weights(), X1) == 0.0


# Comparisons of kernels


def test_distance_and_alignment():
    a, b = np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([[0.0, 0.0], [0.0, 2.0]])
    assert kernel_distance(a, b) == pytest.approx(13**0.5 / 2)
    assert kernel_distance(b, a) == pytest.approx(13**0.5 / 5)
    assert alignment(a, b) == pytest.approx(0.8)
    assert alignment(a, -3 * a) == pytest.approx(-1)
    with pytest.raises(ValueError, match=r'shapes \(2, 2\) and \(2,\)'):
        kernel_distance(a, b[0])
    with pytest.raises(ValueError, match=r'shapes \(2,\) and \(2, 2\)'):
        alignment(a[0], b)
    with pytest.raises(ValueError, match=r'b = 0'):
        kernel_distance(a, 0 * b)
    with pytest.raises(ValueError, match=r'a kernel is 0'):
        alignment(0 * a, b)


@pytest.mark.parametrize(
    'change, message',
    [
        ({'outputs': 'trace'}, r"outputs = 'trace': expected 'mean' or 'full'"),
        ({'method': 'auto'}, r"method = 'auto': expected 'jacobian' or 'vector_products'"),
        ({'block_size': 0}, r'block_size = 0: expected at least 1'),
        ({'x1': X1[:0]}, r'shapes \(0, 3\) and \(0, 3\): expected at least one example'),
        ({'x2': X2[:0]}, r'shapes \(7, 3\) and \(0, 3\): expected at least one example'),
        ({'x2': X2[:, :2]}, r'shapes \(7, 3\) and \(4, 2\)'),
        ({'f': lambda p, x: network(p, x)[:, 0]}, r'f maps \(1, 3\) to \(1,\): expected one row'),
        ({'f': lambda p, x: network(p, jnp.tile(x, (2, 1)))}, r'to \(2, 2\): expected one'),
        ({'params': {**weights(), 'b': np.ones(5, 'float32')}}, r"\['float32', 'float64'\]: exp"),
        ({'params': {}}, r'parameters of \[\]: expected all float32 or all float64'),
    ],
)
def test_errors(change, message):
    with pytest.raises(ValueError, match=message):
        empirical_ntk(**{'f': network, 'params': weights(), 'x1': X1, **change})


def test_a_mesh_over_several_processes_is_refused():
    mesh: Any = SimpleNamespace(size=2, is_multi_process=True)
    with pytest.raises(ValueError, match=r'mesh of 2 devices: expected devices of one process'):
        empirical_ntk(network, weights(), X1, mesh=mesh)


def test_errors_of_the_eigenvalue():
    with pytest.raises(ValueError, match=r'steps = 0: expected at least 1'):
        largest_eigenvalue(network, weights(), X1, steps=0)
    with pytest.raises(ValueError, match=r'shapes \(0, 3\)'):
        largest_eigenvalue(network, weights(), X1[:0])
