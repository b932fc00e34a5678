"""The numbers of one probe. Oracles: dense Jacobians of the network as Flax applies it, and NumPy
in float64; for the attacks, a random perturbation that they have to beat."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from configs import digits, ntk_run
from ntk.studies.dynamics.findings import KEYS
from ntk.studies.dynamics.measure import (
    NetworkMeasures,
    attack_budget,
    centred,
    centred_labels_kernel,
)
from ntk.studies.dynamics.settings import Settings
from war_jax.config import resolve
from war_jax.data.sources import balanced_subset, load
from war_jax.lab.settings import read
from war_jax.mesh import make_mesh

NUM_TRAIN, NUM_TEST = 6, 9


def make_measures(**changes) -> NetworkMeasures:
    values = digits.get_config('smoke')
    values.update_from_flattened_dict(
        {'model.widen_factor': 0.125, 'model.strides': (2, 1, 1), 'evaluation.batch_size': 4}
    )
    config = resolve(values)
    settings = {'num_train': NUM_TRAIN, 'num_test': NUM_TEST, 'attack_steps': 2, **changes}
    return NetworkMeasures(
        config,
        load(config.data),
        read(Settings, {**ntk_run.get_config().to_dict(), **settings}),
        make_mesh(),
    )


@pytest.fixture(scope='module')
def images():
    """(images, labels) of both subsets, as balanced_subset documents them."""
    splits = load(resolve(digits.get_config('smoke')).data)
    found = {}
    for split, count in (('train', NUM_TRAIN), ('test', NUM_TEST)):
        data = getattr(splits, split)
        indices = balanced_subset(data.labels, count)
        found[split] = (data.images[indices] / np.float32(255), data.labels[indices])
    return found


@pytest.fixture(scope='module')
def model():
    return make_measures().model


@pytest.fixture(scope='module')
def networks(model):
    """Two probes: a fresh network, and one with other weights and statistics."""
    start = jax.device_get(model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False))
    rng = np.random.default_rng(0)

    def moved(leaf, positive):
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        return leaf * np.exp(0.3 * noise) if positive else leaf + 0.1 * noise

    params = jax.tree.map(lambda leaf: moved(leaf, False), start['params'])
    stats = jax.tree.map_with_path(
        lambda path, leaf: moved(leaf, path[-1].key == 'var'), start['batch_stats']
    )
    return start, {'params': params, 'batch_stats': stats}


@pytest.fixture(scope='module', params=['inference', 'batch'])
def measures(request):
    return make_measures(batch_norm=request.param)


@pytest.fixture(scope='module')
def measured(measures, networks):
    """(statistics, row of the first network, row of the second)."""
    start, later = networks
    begin = measures.start(start)
    rows = [measures.measure(network, begin, jax.random.key(3)) for network in (start, later)]
    return measures.settings.batch_norm, *rows


def dense_kernel(model, variables, images, statistics):
    """(n, n), and the features (n, k P) / sqrt(k) that it is made of, in float64."""
    flat, unravel = ravel_pytree(variables['params'])

    def outputs(weights):
        everything = {**variables, 'params': unravel(weights)}
        if statistics == 'inference':
            return model.apply(everything, images, train=False)
        # The reference is the training images themselves: an ordinary training pass.
        return model.apply(everything, images, train=True, mutable=['moments'])[0]

    jacobian = np.asarray(jax.jit(jax.jacrev(outputs))(flat), np.float64)  # (n, k, P)
    n, k, _ = jacobian.shape
    features = jacobian.reshape(n, -1) / np.sqrt(k)
    return features @ features.T, features


def test_the_kernel_and_its_changes(measured, model, networks, images):
    statistics, first, later = measured
    x, labels = images['train']
    (theta_0, _), (theta, features) = (
        dense_kernel(model, network, x, statistics) for network in networks
    )
    drift = np.linalg.norm(theta - theta_0) / np.linalg.norm(theta_0)
    assert later['kernel_drift'] == pytest.approx(drift, rel=1e-4)
    cosine = (theta * theta_0).sum() / np.linalg.norm(theta) / np.linalg.norm(theta_0)
    assert later['kernel_alignment'] == pytest.approx(cosine, rel=1e-5)
    assert later['kernel_trace'] == pytest.approx(np.square(features).sum() / NUM_TRAIN, rel=1e-4)
    # The same as a question about features: linear CKA (Kornblith et al. 2019, equation 4).
    one_hot = (labels[:, None] == np.arange(10)).astype(float)
    phi, y = features - features.mean(0), one_hot - one_hot.mean(0)
    cka = np.linalg.norm(y.T @ phi) ** 2 / np.linalg.norm(phi @ phi.T) / np.linalg.norm(y @ y.T)
    assert later['label_alignment'] == pytest.approx(cka, rel=1e-4)
    weights = [ravel_pytree(network['params'])[0] for network in networks]
    movement = np.linalg.norm(weights[1] - weights[0]) / np.linalg.norm(weights[0])
    assert later['weight_movement'] == pytest.approx(movement, rel=1e-5)
    assert (first['kernel_drift'], first['weight_movement']) == (0.0, 0.0)
    assert first['kernel_alignment'] == pytest.approx(1.0)
    assert first['kernel_trace'] == pytest.approx(np.trace(theta_0) / NUM_TRAIN, rel=1e-4)


def evaluated(model, variables, images, statistics):
    """The function of one network, (n, h, w, c) -> (n, k), whose statistics are set by hand."""
    if statistics == 'batch':
        x, _ = images['train']
        _, changed = model.apply(variables, x, train=True, mutable=['moments'])
        variables = {**variables, 'batch_stats': changed['moments']}
    return jax.jit(lambda x: model.apply(variables, x, train=False))


@pytest.mark.parametrize('split', ['train', 'test'])
def test_input_gradients_and_risks(measured, model, networks, images, split):
    statistics, _, later = measured
    f = evaluated(model, networks[1], images, statistics)
    x, labels = images[split]
    jacobians = np.stack(
        [np.asarray(jax.jacrev(lambda z: f(z[None])[0])(one), np.float64) for one in x]
    ).reshape(len(x), 10, -1)
    norms = np.linalg.norm(jacobians, axis=-1)
    assert later[f'output_gradient_{split}'] == pytest.approx(
        np.sqrt(np.mean(norms**2)), rel=1e-4
    )
    logits = np.asarray(f(x), np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    one_hot = (labels[:, None] == np.arange(10)).astype(float)
    gradients = np.einsum('nk,nkp->np', probabilities - one_hot, jacobians)
    l1 = np.abs(gradients).sum(-1)  # the dual of the run's L-infinity ball
    assert later[f'loss_gradient_{split}'] == pytest.approx(l1.mean(), rel=1e-3)
    risk = -np.log(probabilities[np.arange(len(x)), labels]).mean()
    assert later[f'natural_risk_{split}'] == pytest.approx(risk, rel=1e-4)
    accuracy = np.mean(logits.argmax(-1) == labels)
    assert later[f'natural_accuracy_{split}'] == pytest.approx(accuracy)
    assert 0.0 <= later[f'robust_accuracy_{split}'] <= accuracy


@pytest.mark.parametrize('split', ['train', 'test'])
def test_lipschitz_measures_beat_a_random_perturbation(
    measured, model, networks, images, split
):
    statistics, _, later = measured
    f = evaluated(model, networks[1], images, statistics)
    x, _ = images[split]
    sign = np.sign(np.random.default_rng(1).normal(size=x.shape)).astype(np.float32)
    ratio = np.abs(np.asarray(f(x + 0.001 * sign) - f(x))).sum(-1) / 0.001
    found = later[f'local_lipschitz_{split}']
    assert found > 1.2 * ratio.mean()
    # By Hoelder no ratio exceeds the largest L1 norm of an output's gradient in the ball, times the
    # number of outputs; at x it is of that order.
    jacobians = np.stack([np.asarray(jax.jacrev(lambda z: f(z[None])[0])(one)) for one in x])
    at_x = np.abs(jacobians.reshape(len(x), -1)).sum(-1)
    assert found < 3 * at_x.mean()

    def divergence(z, one):
        p, q = jax.nn.log_softmax(f(one[None])[0]), jax.nn.log_softmax(f(z[None])[0])
        return jnp.sum(jnp.exp(p) * (p - q))

    slopes = [
        np.abs(np.asarray(jax.grad(divergence)(one + 0.2 * direction, one))).sum()
        for one, direction in zip(x, sign, strict=True)
    ]
    assert later[f'local_lipschitz_kl_gradient_{split}'] > 0.5 * np.mean(slopes)


def test_the_product_of_spectral_norms_bounds_what_the_network_does(
    measured, model, networks, images
):
    statistics, _, later = measured
    f = evaluated(model, networks[1], images, statistics)
    x, _ = images['test']
    jacobians = np.stack([np.asarray(jax.jacrev(lambda z: f(z[None])[0])(one)) for one in x])
    norms = np.linalg.norm(jacobians.reshape(len(x), 10, -1), ord=2, axis=(1, 2))
    assert norms.max() < later['spectral_product'] < np.inf


def test_each_quantity_has_a_number(measured):
    _, *rows = measured
    assert [set(row) for row in rows] == [set(KEYS)] * 2
    assert np.isfinite([list(row.values()) for row in rows]).all()


@pytest.mark.usefixtures('measured')
def test_another_network_compiles_nothing(measures, networks):
    start, later = networks
    compiled = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if 'backend_compile' in event:
            compiled.append((event, duration_secs))

    jax.monitoring.register_event_duration_secs_listener(listen)
    measures.measure(start, measures.start(later), jax.random.key(1))
    assert compiled == []
    jax.jit(lambda x: x + len(networks))(0.0)
    assert len(compiled) == 1, 'the listener hears nothing'
    jax.monitoring.unregister_event_duration_listener(listen)


def test_centring():
    """Oracle: the matrix H = 1 - 1/n on both sides."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 5))
    h = np.eye(5) - 1 / 5
    np.testing.assert_allclose(centred(kernel), h @ kernel @ h, atol=1e-12)
    labels = np.array([0, 2, 2, 1, 0])
    one_hot = (labels[:, None] == np.arange(4)).astype(float)
    y = one_hot - one_hot.mean(0)
    np.testing.assert_allclose(centred_labels_kernel(labels, 4), y @ y.T, atol=1e-12)


def test_the_attack_is_as_long_as_the_run_s_own():
    evaluation = resolve(digits.get_config()).evaluation
    assert (evaluation.num_steps, evaluation.step_size) == (20, 0.02)
    budget = attack_budget(evaluation, 10)
    assert (budget.num_steps, budget.step_size) == (10, pytest.approx(0.04))
    assert (budget.init, budget.init_scale) == (evaluation.init, evaluation.init_scale)
    assert attack_budget(evaluation, 0).num_steps == 20
