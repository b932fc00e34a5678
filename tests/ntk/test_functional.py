"""Oracles: the whole network in NumPy, float64, and finite differences of it; traces counted."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntk.functional import functional, functional_on_batch
from tests.ntk.small_wide_resnet import STRIDES, random_images, random_variables, small_model
from tests.war_jax.models.numpy_network import NumpyNetwork
from war_jax.mesh import AXIS

MODEL = small_model('float64')


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def on_moments_of(variables: Any, reference: np.ndarray, x: np.ndarray) -> np.ndarray:
    """NumPy: logits of x, every norm on the moments of `reference`."""
    mask = np.arange(len(reference) + len(x)) < len(reference)
    both = np.concatenate([reference, x])
    return NumpyNetwork(variables, STRIDES, mask)(both)[len(reference) :]


def test_inference_mode_is_a_function_of_the_parameters():
    variables, others = random_variables(0), random_variables(1)
    f, params = functional(MODEL, variables, train=False)
    assert params is variables['params']
    x = random_images(4, seed=2)
    for given in (params, others['params']):
        expected = NumpyNetwork({**variables, 'params': given}, STRIDES)(x)
        np.testing.assert_allclose(f(given, x), expected, rtol=1e-12)


def test_a_model_with_nothing_but_parameters():
    model = nn.Dense(2, use_bias=False)
    kernel = np.arange(6.0).reshape(3, 2)
    f, params = functional(model, {'params': {'kernel': kernel}})
    np.testing.assert_array_equal(f(params, jnp.eye(3)), kernel)


def test_on_a_batch_its_own_logits_are_those_of_training():
    variables, reference = random_variables(0), random_images(5, seed=3)
    f, params = functional_on_batch(MODEL, variables, reference)
    logits, _ = MODEL.apply(variables, reference, train=True, mutable=['moments'])
    np.testing.assert_allclose(f(params, reference), logits, rtol=1e-12)
    expected = NumpyNetwork(variables, STRIDES, np.ones(5, bool))(reference)
    np.testing.assert_allclose(logits, expected, rtol=1e-10)


def test_on_a_batch_other_images_take_its_moments_and_are_independent():
    variables = random_variables(0)
    reference, x = random_images(5, seed=3), random_images(3, seed=4)
    f, params = functional_on_batch(MODEL, variables, reference)
    expected = on_moments_of(variables, reference, x)
    np.testing.assert_allclose(f(params, x), expected, rtol=1e-10)
    np.testing.assert_allclose(f(params, x[1:2]), expected[1:2], rtol=1e-10)


def test_derivatives_go_through_the_moments():
    """Oracle: a central difference of the NumPy network along a random direction."""
    variables = random_variables(0)
    reference, x = random_images(5, seed=3), random_images(2, seed=4)
    f, params = functional_on_batch(MODEL, variables, reference)
    rng = np.random.default_rng(5)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
    step = 1e-6

    def moved(by: float) -> np.ndarray:
        new = jax.tree.map(lambda p, d: p + by * d, params, direction)
        return on_moments_of({**variables, 'params': new}, reference, x)

    expected = (moved(step) - moved(-step)) / (2 * step)
    _, derivative = jax.jvp(lambda p: f(p, x), (params,), (direction,))
    np.testing.assert_allclose(derivative, expected, rtol=1e-6, atol=1e-6)


def test_a_model_with_moments_over_devices_is_used_without():
    """Its axis is unknown here, which would be an error."""
    variables = random_variables(0)
    reference, x = random_images(4, seed=3), random_images(2, seed=4)
    f, params = functional_on_batch(MODEL.clone(axis_name=AXIS), variables, reference)
    expected = on_moments_of(variables, reference, x)
    np.testing.assert_allclose(f(params, x), expected, rtol=1e-10)


def test_functions_of_one_model_share_a_program():
    traces = []

    @jax.jit
    def call(f, params, x):
        traces.append(f)
        return f(params, x)

    x, first, second = random_images(2, seed=2), random_variables(0), random_variables(1)
    for variables in (first, second):
        f, params = functional(MODEL.clone(), variables, train=False)
        expected = NumpyNetwork(variables, STRIDES)(x)
        np.testing.assert_allclose(call(f, params, x), expected, rtol=1e-10)
    assert len(traces) == 1
    for reference in (random_images(4, seed=3), random_images(4, seed=5)):
        f, params = functional_on_batch(MODEL.clone(), first, reference)
        expected = on_moments_of(first, reference, x)
        np.testing.assert_allclose(call(f, params, x), expected, rtol=1e-10)
    assert len(traces) == 2


def test_errors():
    variables = random_variables(0)
    with pytest.raises(ValueError, match=r"\['batch_stats'\]: expected a collection 'params'"):
        functional(MODEL, {'batch_stats': variables['batch_stats']}, train=False)
    with pytest.raises(ValueError, match=r'tuples, not lists'):
        functional(MODEL.clone(strides=[1, 2, 1]), variables, train=False)
    with pytest.raises(ValueError, match=r'tuples, not lists'):
        functional(MODEL, variables, train=False, mask=np.ones(2, bool))
    with pytest.raises(ValueError, match=r'1 reference images: expected at least 2'):
        functional_on_batch(MODEL, variables, random_images(1, seed=0))
