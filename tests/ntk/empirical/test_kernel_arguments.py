"""Networks that have no kernel, and modules that do. Oracle: dense Jacobians by jax.jacrev."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntk.empirical import empirical_ntk, largest_eigenvalue
from ntk.functional import functional

X = np.random.default_rng(0).normal(size=(5, 3)).astype('float32')


class Network(nn.Module):
    """Dense layers, with or without BatchNorm, and dropout that is on where a rate is given."""

    norm: bool = False
    rate: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Dense(16)(x)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(self.rate, deterministic=not train)(nn.tanh(x))
        return nn.Dense(2)(x)


def variables_of(model: nn.Module) -> Any:
    return model.init(jax.random.key(0), X)


def dense_kernel(f: Any, params: Any) -> np.ndarray:
    """(5, 5): the mean over the outputs, from the Jacobian of the whole batch."""
    leaves = jax.tree.leaves(jax.jacrev(f)(params, X))
    jacobian = np.concatenate([np.reshape(leaf, (5, 2, -1)) for leaf in leaves], -1)
    return np.einsum('iap,jap->ij', jacobian, jacobian) / 2


def test_a_module_stands_for_its_apply():
    model = Network()
    params = variables_of(model)['params']
    expected = dense_kernel(lambda p, x: model.apply({'params': p}, x), params)
    np.testing.assert_allclose(empirical_ntk(model, params, X), expected, rtol=1e-5)
    apply: Any = model.apply
    kernel = empirical_ntk(apply, {'params': params}, X)
    np.testing.assert_allclose(kernel, expected, rtol=1e-5)
    largest = largest_eigenvalue(model, params, X)
    assert 0 < largest <= 2 * np.trace(expected) * (1 + 1e-5)


def test_batch_norm_in_training_mode_is_refused_and_in_inference_is_not():
    model = Network(norm=True)
    variables = variables_of(model)
    statistics = {'batch_stats': variables['batch_stats']}

    def training(params, x):
        whole = {**statistics, 'params': params}
        return model.apply(whole, x, train=True, mutable=['batch_stats'])[0]

    for method in ('jacobian', 'vector_products'):
        with pytest.raises(ValueError, match=r'^f gives .* independent rows.* ntk\.functional'):
            empirical_ntk(training, variables['params'], X, method=method)
    with pytest.raises(ValueError, match=r'^f gives .*functional_on_batch'):
        largest_eigenvalue(training, variables['params'], X)
    f, params = functional(model, variables, train=False)
    np.testing.assert_allclose(empirical_ntk(f, params, X), dense_kernel(f, params), rtol=1e-5)


@pytest.mark.parametrize('rate', [0.1, 0.5])
def test_dropout_that_is_on_is_refused(rate):
    model = Network(rate=rate)
    variables = variables_of(model)

    def dropping(params: Any, x: Any) -> Any:
        return model.apply({'params': params}, x, train=True, rngs={'dropout': jax.random.key(1)})

    with pytest.raises(ValueError, match=r'^f gives an example other outputs .* or dropout; use'):
        empirical_ntk(dropping, variables['params'], X)
    # A kernel all the same, if the same units were dropped for every example: rows independent.
    one_mask = np.random.default_rng(1).random(16) > rate

    def masked(params, x):
        hidden = jnp.tanh(x @ params['Dense_0']['kernel']) * one_mask.reshape(1, -1)
        return hidden @ params['Dense_1']['kernel']

    params = variables['params']
    expected = dense_kernel(masked, params)
    np.testing.assert_allclose(empirical_ntk(masked, params, X), expected, rtol=1e-5)


def test_other_collections_are_no_parameters():
    """A module with all its variables is differentiated by its parameters; a function is asked."""
    model = Network(norm=True)
    variables = variables_of(model)
    f, params = functional(model, variables)
    found = empirical_ntk(model, variables, X, call={'train': False})
    np.testing.assert_array_equal(found, empirical_ntk(f, params, X))
    apply: Any = model.apply
    with pytest.raises(ValueError, match=r"^params with .*\['batch_stats', 'params'\].*functi"):
        empirical_ntk(apply, variables, X)


def test_another_byte_order_is_refused():
    model = Network()
    params = variables_of(model)['params']
    big_endian = X.astype('>f4')
    line = r"^examples of dtype '>f4': expected .*; convert them with \.astype\('float32'\)$"
    for x in ((big_endian,), (X, big_endian)):
        with pytest.raises(ValueError, match=line):
            empirical_ntk(model, params, *x)
    swapped = jax.tree.map(lambda leaf: np.asarray(leaf).astype('>f4'), params)
    with pytest.raises(ValueError, match=r"^parameters of dtype '>f4'"):
        empirical_ntk(model, swapped, X)


def test_a_function_of_one_row_only_is_refused():
    with pytest.raises(ValueError, match=r'^f maps \(2, 3\) to \(1, 3\): expected \(2, 3\)$'):
        empirical_ntk(lambda p, x: p * x[:1], np.ones((1, 1), 'float32'), X)
