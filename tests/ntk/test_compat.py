"""neural-tangents on current JAX. Oracles: a process of its own that has just imported it, a direct
computation in NumPy or from a network's Jacobian, and what must be refused."""

import importlib
import subprocess
import sys
import types
from importlib import metadata
from typing import Any

import jax.core
import jax.numpy as jnp
import numpy as np
import pytest

from ntk import compat
from ntk.compat import nt, predict, stax

# Run with warnings as errors; says what the import left behind.
IMPORT = """
import sys
import jax, jax.core, jax.interpreters.ad
before = {module: set(vars(module)) for module in (jax.core, jax.interpreters.ad)}
from ntk.compat import nt, predict, stax
for module, names in before.items():
    assert set(vars(module)) == names, (module, set(vars(module)) - names)
loaded = {name.split('.')[0] for name in sys.modules}
assert not loaded & {'tensorflow', 'tf2jax'}, loaded
assert not hasattr(jax, 'util') and 'jax.util' not in sys.modules
assert 'neural_tangents.experimental' not in sys.modules
assert not hasattr(nt, 'experimental')
"""


def test_import_leaves_nothing_behind_and_warns_of_nothing():
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-c', IMPORT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ('version', 'sentence'),
    [(None, 'ntk needs neural-tangents 0.6.5: pip install'), ('0.6.4', '0.6.5, not 0.6.4: pip')],
)
def test_absent_or_other_release_is_one_clear_error(monkeypatch, version, sentence):
    def installed(name: str) -> str:
        assert name == 'neural-tangents'
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, 'version', installed)
    with pytest.raises(ImportError, match=sentence) as error:
        compat._check_installed()
    assert "'war-jax[ntk]'" in str(error.value) and '--no-deps' in str(error.value)


def test_missing_dependency_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'frozendict', None)
    with pytest.raises(ImportError, match='pip install frozendict'):
        compat._check_installed()


def test_names_of_old_go_even_after_an_error_and_leave_those_of_others(monkeypatch):
    theirs = types.ModuleType('jax.util')
    monkeypatch.setitem(sys.modules, 'jax.util', theirs)
    before = set(vars(jax.core))
    with pytest.raises(RuntimeError), compat._names_of_old():
        assert hasattr(jax.core, 'JaxprEqn')
        raise RuntimeError
    assert set(vars(jax.core)) == before
    assert sys.modules['jax.util'] is theirs


def test_loading_it_again_mends_what_was_there_at_first():
    first = compat._own_convolution, compat._own_basis
    importlib.reload(compat)
    assert (compat._own_convolution, compat._own_basis) == first
    assert compat._own_convolution.__code__.co_filename.endswith('stax/linear.py')
    assert not hasattr(compat.nt, 'experimental')


@pytest.fixture(scope='module')
def network():
    init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(32), stax.Erf(), stax.Dense(2))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    _, params = init_fn(jax.random.key(0), x.shape)
    return init_fn, apply_fn, kernel_fn, params, x


@pytest.mark.parametrize('name', ['JACOBIAN_CONTRACTION', 'NTK_VECTOR_PRODUCTS'])
def test_empirical_ntk_is_the_product_of_jacobians(network, name):
    _, apply_fn, _, params, x = network
    jacobian = jax.tree.leaves(jax.jacobian(apply_fn)(params, x))
    rows = [np.asarray(leaf, np.float64).reshape(5, 2, -1) for leaf in jacobian]
    expected = sum(np.einsum('icp,jcp->ij', leaf, leaf) / 2 for leaf in rows)
    ntk_fn = nt.empirical_ntk_fn(apply_fn, implementation=nt.NtkImplementation[name])
    np.testing.assert_allclose(ntk_fn(x, None, params), expected, rtol=1e-4)


@pytest.mark.parametrize('name', ['STRUCTURED_DERIVATIVES', 'AUTO'])
@pytest.mark.parametrize('number', [False, True])
def test_unusable_implementations_are_refused(network, name, number):
    init_fn, apply_fn, *_ = network
    implementation = nt.NtkImplementation[name]
    implementation = int(implementation) if number else implementation
    for make in (nt.empirical_ntk_fn, nt.empirical_kernel_fn):
        with pytest.raises(NotImplementedError, match='JACOBIAN_CONTRACTION'):
            make(apply_fn, implementation=implementation)
    with pytest.raises(NotImplementedError, match='JACOBIAN_CONTRACTION'):
        nt.monte_carlo_kernel_fn(
            init_fn, apply_fn, jax.random.key(0), 2, implementation=implementation
        )


def test_max_learning_rate_by_the_largest_eigenvalue(network):
    *_, kernel_fn, _, x = network
    ntk = kernel_fn(x, None, 'ntk')
    largest = np.linalg.norm(np.asarray(ntk, np.float64), 2)
    for momentum in (0.0, 0.5):
        rate = predict.max_learning_rate(ntk, y_train_size=10, momentum=momentum)
        np.testing.assert_allclose(rate, 2 * (1 + momentum) * 10 / largest, rtol=1e-5)


def test_predictors_work_inside_and_across_transformations(network):
    """Oracle: the solution of linear gradient flow, by an eigendecomposition in float64."""
    *_, kernel_fn, _, x = network
    ntk = kernel_fn(x, None, 'ntk')
    y = jnp.sin(x[:, :1])
    time = 3.0
    values, vectors = np.linalg.eigh(np.asarray(ntk, np.float64))
    decay = vectors @ np.diag(1 - np.exp(-values * time / y.size)) @ vectors.T
    expected = decay @ np.asarray(y, np.float64)

    def made_inside(kernel):
        return predict.gradient_descent_mse(kernel, y)(time, jnp.zeros_like(y))

    outside = predict.gradient_descent_mse(ntk, y)
    for value in (
        jax.jit(made_inside)(ntk),
        jax.vmap(made_inside)(jnp.stack([ntk, 2 * ntk]))[0],
        jax.jit(lambda t: outside(t, jnp.zeros_like(y)))(time),
        outside(time, jnp.zeros_like(y)),
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['SAME', 'VALID', 'CIRCULAR'])
def test_covariances_of_convolutions(name):
    """Oracle: neural-tangents' own function, which convolves. In float64 its program reads in front
    of its input on CPU and may crash there, unless compiled without optimization as tests are."""
    padding: Any = compat._linear.Padding[name]
    rng = np.random.default_rng(0)
    lhs = rng.normal(size=(2, 3, 5, 5, 7, 7)).astype(np.float32)
    for size, stride in (((3, 3), (1, 1)), ((3, 2), (2, 3)), ((1, 1), (2, 2)), ((4, 3), (1, 3))):
        arguments: Any = (lhs, size, stride, padding, 2)
        found, expected = (
            np.asarray(f(*arguments))
            for f in (compat._convolve_covariances, compat._own_convolution)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert compat._convolve_covariances(None, (3, 3), (1, 1), padding, 2) is None
