"""`import ntk`: its names, its examples, and networks of every kind that they take.

Oracles: linear models in closed form; a linen network with the weights of an NNX one.
"""

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ntk
from ntk.gradients import Norm

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).normal(size=(5, 3)).astype('float32')


def test_importing_it_imports_no_jax():
    code = 'import sys, ntk; dir(ntk); print("jax" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == 'False\n', done.stderr


def test_every_public_name_is_there():
    assert set(ntk.__all__) == set(ntk._HOMES) <= set(dir(ntk))
    assert callable(ntk.empirical_ntk) and callable(ntk.input_gradient_norms)
    assert 'empirical_ntk' in vars(ntk)  # loaded once, and then there like any other name
    assert ntk.infinite is import_module('ntk.infinite')
    with pytest.raises(AttributeError, match='no attribute'):
        ntk.no_such_name  # noqa: B018


@pytest.mark.parametrize('name', ['empirical.kernel', 'gradients', 'infinite'])
def test_examples_are_true(name):
    outcome = doctest.testmod(
        import_module(f'ntk.{name}'), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert outcome.attempted and not outcome.failed


class OfLinen(nn.Module):
    """A hidden layer with BatchNorm, which has to be told how it is called."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Dense(7, name='first')(x)
        x = nn.BatchNorm(use_running_average=not train, name='norm')(x)
        return nn.Dense(2, name='second')(nn.tanh(x))


class OfNnx(nnx.Module):
    """The same network."""

    def __init__(self, rngs: nnx.Rngs):
        self.first, self.second = nnx.Linear(3, 7, rngs=rngs), nnx.Linear(7, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(7, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(nnx.tanh(self.norm(self.first(x))))


@pytest.fixture(scope='module')
def networks() -> tuple[OfNnx, dict[str, Any]]:
    """With running statistics that are not 0 and 1; and the variables of the linen network."""
    module = OfNnx(nnx.Rngs(0))
    module.norm.mean[...] = jnp.linspace(-1.0, 1.0, 7)
    module.norm.var[...] = jnp.linspace(0.5, 2.0, 7)
    module.eval()
    params, statistics, _ = nnx.split_state(nnx.state(module), nnx.Param, nnx.BatchStat, ...)
    return module, {
        'params': nnx.to_pure_dict(params), 'batch_stats': nnx.to_pure_dict(statistics)
    }  # fmt: skip


def test_a_network_of_nnx_has_the_kernel_of_the_same_linen_network(networks):
    module, variables = networks
    expected = ntk.empirical_ntk(OfLinen(), variables, X, outputs='full', call={'train': False})
    assert expected.shape == (5, 5, 2, 2) and np.abs(expected).max() > 0.1
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(module)))
    found = ntk.empirical_ntk(module, None, X, outputs='full')
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    norms = ntk.input_gradient_norms(module, None, X)
    of_linen = ntk.input_gradient_norms(OfLinen(), variables, X, call={'train': False})
    np.testing.assert_allclose(norms, of_linen, rtol=1e-5)
    after = nnx.to_pure_dict(nnx.state(module))
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_moments_of_the_batch_are_refused_in_nnx_too(networks):
    module = nnx.clone(networks[0])
    module.train()
    with pytest.raises(ValueError, match='expected independent rows'):
        ntk.empirical_ntk(module, None, X)


def test_a_linen_module_through_the_bridge():
    """Oracle: of x W + b, every output has the kernel x x^T + 1, whatever the weights."""
    module = nnx.bridge.lazy_init(nnx.bridge.ToNNX(nn.Dense(4), rngs=nnx.Rngs(0)), X)
    expected = X.astype('float64') @ X.T + 1
    np.testing.assert_allclose(ntk.empirical_ntk(module, None, X), expected, rtol=1e-5, atol=1e-5)


def test_input_gradients_of_a_linear_function():
    w = np.random.default_rng(1).normal(size=(3, 2)).astype('float32')
    orders: dict[Norm, float] = {'l1': 1, 'l2': 2, 'linf': np.inf}
    for norm, order in orders.items():
        found = ntk.input_gradient_norms(lambda w, x: x @ w, w, X, norm)
        expected = np.linalg.norm(w.astype('float64'), order, axis=0)
        np.testing.assert_allclose(found, np.tile(expected, (5, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ('f', 'params', 'more', 'words'),
    [
        (nnx.Linear(3, 2, rngs=nnx.Rngs(0)), {}, {}, 'expected None, as a module of flax.nnx'),
        (nnx.Dropout(0.5), None, {}, 'Dropout: expected variables of type nnx.Param'),
        (nn.Dense(2), None, {}, 'params = None: expected parameters'),
        (lambda p, x: x @ p, np.ones((3, 1), 'f'), {'call': {'train': 1}}, 'f is no module'),
    ],
)
def test_what_is_no_network_is_refused(f, params, more, words):
    for of in (ntk.empirical_ntk, ntk.input_gradient_norms):
        with pytest.raises(ValueError, match=words):
            of(f, params, X, **more)
