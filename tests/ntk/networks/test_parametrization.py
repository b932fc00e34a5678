"""Parametrizations: against closed forms of the start, and one another's tangent kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntk.networks import Architecture, make_network, plain_weights
from ntk.networks.parametrization import PARAMETRIZATIONS, Parametrization

NAMES = sorted(PARAMETRIZATIONS)
SHAPE = (3, 3, 1)
D, M, OUTPUTS = 9, 64, 4


def scales_of(of: Parametrization, model, **variances: float):
    return of.scales(model, SHAPE, **{'weight_variance': 2.0, 'output_variance': 1.0, **variances})


@pytest.mark.parametrize(
    ('name', 'squared'),
    # E ||grad f||^2 of a ReLU network is output variance * (weight variance / 2)^(L - 1), times d
    # for a first layer without 1 / sqrt(d) and a factor sqrt(m), times m for W_L ~ N(0, 1).
    [('standard', 1.0), ('ntk', 1.0), ('sqrt_m', D), ('sqrt_m_unit', D * M), ('mup', 1 / M)],
)
def test_input_gradients_at_the_start_have_their_exact_mean_square(name: str, squared: float):
    model = make_network(Architecture('fcn', num_layers=3), M, OUTPUTS)
    scales = scales_of(PARAMETRIZATIONS[name], model)
    x = jax.random.uniform(jax.random.key(1), (1, *SHAPE))

    def mean_square(key):
        matrices = scales.effective(scales.draw(plain_weights(model, key, SHAPE)))
        jacobian = jax.jacrev(lambda z: model.apply({'params': matrices}, z)[0])(x)
        return jnp.sum(jnp.square(jacobian)) / OUTPUTS

    draws = np.asarray(jax.vmap(mean_square)(jax.random.split(jax.random.key(0), 400)))
    error = draws.std() / np.sqrt(len(draws))
    assert abs(draws.mean() - squared) < 4 * error
    assert error < 0.05 * squared


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('activation', ['relu', 'gelu'])
def test_a_parametrization_is_a_scaled_ntk_parametrization(name: str, activation: str):
    """The same N(0, 1) draw in both: outputs and each layer's tangent kernel differ by a factor."""
    model = make_network(Architecture('fcn', 3, activation=activation), 8, OUTPUTS)
    plain = plain_weights(model, jax.random.key(3), SHAPE)
    x = jax.random.uniform(jax.random.key(1), (5, *SHAPE))

    def outputs_and_kernels(of: Parametrization):
        scales = scales_of(of, model)
        weights = scales.draw(plain)

        def f(weights):
            return model.apply({'params': scales.effective(weights)}, x)

        jacobians = jax.tree.map(
            lambda leaf: np.asarray(leaf).reshape(5 * OUTPUTS, -1), jax.jacrev(f)(weights)
        )
        kernels = {layer: tree['kernel'] @ tree['kernel'].T for layer, tree in jacobians.items()}
        return scales, np.asarray(f(weights)), kernels

    _, plain_outputs, plain_kernels = outputs_and_kernels(PARAMETRIZATIONS['ntk'])
    scales, outputs, kernels = outputs_and_kernels(PARAMETRIZATIONS[name])
    np.testing.assert_allclose(outputs, scales.output_scale * plain_outputs, rtol=1e-4, atol=1e-6)
    for layer, kernel in kernels.items():
        scale = np.abs(kernel).max()
        np.testing.assert_allclose(
            kernel / scale, scales.rate(layer) * plain_kernels[layer] / scale, atol=1e-5
        )


def test_variances_are_those_of_the_gains():
    model = make_network(Architecture('fcn', num_layers=2), 16, OUTPUTS)
    variances = {'weight_variance': 3.0, 'output_variance': 5.0}
    scales = scales_of(PARAMETRIZATIONS['standard'], model, **variances)
    assert scales.stds['layer1']['kernel'] == pytest.approx(np.sqrt(3.0 / D))
    assert scales.stds['head']['kernel'] == pytest.approx(np.sqrt(5.0 / 16))


@pytest.mark.parametrize('name', NAMES)
def test_with_their_learning_rates_kernels_do_not_grow_except_in_practice(name: str):
    """lr(m) * Theta_m is bounded in m, but for 'standard', where it grows like m."""
    of = PARAMETRIZATIONS[name]
    speed = []
    for m in (64, 1024):
        model = make_network(Architecture('fcn', num_layers=3), m, OUTPUTS)
        scales = scales_of(of, model)
        rates = [scales.rate(layer) for layer in ('layer1', 'layer2', 'head')]
        speed.append(of.learning_rate_factor(m) * max(rates))
    growth = speed[1] / speed[0]
    assert growth == pytest.approx({'standard': 16.0}.get(name, 1.0), rel=1e-6)


def test_a_residual_network_is_scaled_at_its_first_and_last_layer():
    model = make_network(Architecture('wrn', depth=10), 0.25, OUTPUTS)
    scales = PARAMETRIZATIONS['mup'].scales(model, (8, 8, 1), 2.0, 1.0)
    m = 16  # 64 k
    assert scales.fan_ins['head']['kernel'] == m
    assert scales.multipliers['head']['kernel'] == pytest.approx(1 / np.sqrt(m))
    assert scales.multipliers['stem']['kernel'] == pytest.approx(np.sqrt(m))
    assert scales.multipliers['stage2_block0_conv1']['kernel'] == 1.0
    assert scales.stds['stage2_block0_conv1']['kernel'] == pytest.approx(np.sqrt(2 / (9 * 4)))
