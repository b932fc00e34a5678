"""What infinite width says, against finite networks, closed forms and trained ensembles."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ntk_width
from ntk.networks import plain_weights
from ntk.networks.parametrization import PARAMETRIZATIONS, Scales
from ntk.studies.width.settings import Settings
from ntk.studies.width.theory import (
    Shape,
    TrainingData,
    expected_power,
    gradient_limits,
    limit_kernel,
    scales_of,
)
from ntk.studies.width.training import make_model, outputs
from war_jax.lab.settings import read

IMAGE, OUTPUTS, WIDTH = (3, 3, 1), 2, 256
SHAPE = Shape(IMAGE, OUTPUTS)


def settings(**changes: Any) -> Settings:
    config = ntk_width.get_config('relu').unlock()
    config.update_from_flattened_dict(changes)
    return read(Settings, config)


def scales_for(name: str, chosen: Settings) -> Scales:
    return scales_of(chosen, name, WIDTH, SHAPE)


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(count, *IMAGE)).astype(np.float32)


@pytest.fixture(scope='module')
def draw() -> Any:
    """A jitted (key, scales, x (n, h, w, c)) -> the NTK and f f of one draw; for all scales."""
    model = make_model(settings().network, WIDTH, OUTPUTS)

    def draw(key: Any, scales: Any, x: Any) -> tuple[Any, Any]:
        weights = scales.draw(plain_weights(model, key, IMAGE))
        logits = outputs(model, scales.multipliers, weights, x)
        jacobian = jax.jacrev(lambda w: outputs(model, scales.multipliers, w, x)[:, 0])(weights)
        leaves = jax.tree.leaves(jacobian)
        flat = jnp.concatenate([leaf.reshape(len(x), -1) for leaf in leaves], 1)
        return flat @ flat.T, logits @ logits.T / OUTPUTS

    return jax.jit(draw)


@pytest.mark.parametrize('name', sorted(PARAMETRIZATIONS))
def test_kernels_of_finite_networks_fluctuate_around_the_limit(draw: Any, name: str):
    """Mean over draws of J J^T and of f f, within 5 standard errors and 5 %."""
    chosen, x = settings(), jnp.asarray(images(3, 0))
    scales = scales_for(name, chosen)
    limit = limit_kernel(chosen, scales)
    assert limit is not None
    draws = [draw(key, scales, x) for key in jax.random.split(jax.random.key(0), 60)]
    for found, get in zip(zip(*draws, strict=True), ('ntk', 'nngp'), strict=True):
        values, expected = np.stack(found), np.asarray(limit(x, None, get))
        error = values.std(0) / np.sqrt(len(values))
        assert (np.abs(values.mean(0) - expected) < 5 * error + 0.01 * expected).all()
        if get == 'ntk':
            np.testing.assert_allclose(values.mean(0), expected, rtol=0.05)


def test_the_learning_rate_is_in_the_kernel_and_rounding_is_not():
    chosen = settings()
    scales = scales_for('sqrt_m', chosen)
    x = jnp.asarray(images(2, 0))
    once, twice = (limit_kernel(chosen, scales, rate) for rate in (1.0, 2.0))
    assert once is not None and twice is not None
    np.testing.assert_allclose(2 * once(x), twice(x), rtol=1e-5)
    assert limit_kernel(chosen, scales, 0.1 + 0.2) == limit_kernel(chosen, scales, 0.3)


@pytest.mark.parametrize(('name', 'squared'), [('sqrt_m', 9.0), ('mup', 1 / WIDTH)])
def test_gradients_at_the_start_are_those_of_the_closed_form(name: str, squared: float):
    chosen = settings()
    kernel = limit_kernel(chosen, scales_for(name, chosen), 1e-4)
    assert kernel is not None
    data = TrainingData(images(4, 0), np.ones((4, OUTPUTS)), images(3, 1), False)
    assert gradient_limits(kernel, data, 0).initial == pytest.approx(np.sqrt(squared), rel=1e-3)
    # Without a step, nothing is learned.
    assert gradient_limits(kernel, data, 0).trained == pytest.approx(np.sqrt(squared), rel=1e-3)


def test_training_that_diverges_has_no_limit():
    chosen = settings()
    kernel = limit_kernel(chosen, scales_for('ntk', chosen), 1e3)
    assert kernel is not None
    data = TrainingData(images(4, 0), np.ones((4, OUTPUTS)), images(3, 1), False)
    limits = gradient_limits(kernel, data, 5)
    assert limits.trained is None and limits.initial == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    ('key', 'phase', 'name', 'power'),
    [
        ('gradient_rms_test', 'initialisation', 'sqrt_m_unit', 0.5),
        ('gradient_rms_train', 'initialisation', 'mup', -0.5),
        ('kernel_error', 'initialisation', 'standard', -0.5),
        ('local_lipschitz_test', 'trades-lam3', 'ntk', 0.0),
        ('local_lipschitz_test', 'trades_lazy-lam3', 'mup', None),
        ('local_lipschitz_test', 'natural', 'standard', None),
        ('linearisation_error', 'natural', 'mup', 0.0),
        ('kernel_drift', 'trades_lazy-lam3', 'ntk', None),
        ('natural_accuracy_test', 'natural', 'ntk', None),
    ],
)
def test_powers(key: str, phase: str, name: str, power: float | None):
    found = expected_power(key, phase, name, settings(), SHAPE)
    assert (found and found[0]) == power


def test_powers_of_smooth_networks_are_larger():
    chosen = settings(**{'network.activation': 'gelu'})
    found = expected_power('kernel_drift', 'natural', 'ntk', chosen, SHAPE)
    assert found is not None and found[0] == -1.0
    assert expected_power('kernel_drift', 'natural', 'ntk', settings(), SHAPE) is None


@pytest.mark.parametrize(('num_layers', 'power'), [(3, -1.0), (2, -0.5)])
def test_movement_is_relative_to_the_length_of_the_weights(num_layers: int, power: float):
    """||w_0|| is about m with a matrix m x m, and sqrt(m) without one."""
    wide = {'grid.widths': (1e4, 1e5), 'network.num_layers': num_layers}
    found = expected_power('movement', 'natural', 'ntk', settings(**wide), SHAPE)
    assert found is not None and found[0] == pytest.approx(power, abs=0.01)


def test_spectral_products_follow_the_norms_of_gaussian_matrices():
    """Measured on single draws, whose norms hardly fluctuate."""
    widths = (32.0, 512.0)
    chosen = settings(**{'grid.widths': widths})
    products = []
    for width in widths:
        model = make_model(chosen.network, width, OUTPUTS)
        scales = scales_of(chosen, 'ntk', width, SHAPE)
        plain = plain_weights(model, jax.random.key(0), IMAGE)
        matrices = jax.tree.leaves(scales.effective(scales.draw(plain)))
        products.append(np.prod([np.linalg.norm(np.asarray(matrix), 2) for matrix in matrices]))
    measured = np.polyfit(np.log2(widths), np.log2(products), 1)[0]
    found = expected_power('spectral_product', 'initialisation', 'ntk', chosen, SHAPE)
    assert found is not None and found[0] == pytest.approx(measured, abs=0.05)
