"""The numbers of one probe. Oracles: dense Jacobians of the network as Flax applies it, and NumPy
in float64. Of attacks and spectral bounds, which have tests of their own, what they are asked."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from configs import digits, ntk_run
from ntk.spectral.bound import LipschitzBound
from ntk.studies.dynamics import measure
from ntk.studies.dynamics.measure import (
    NetworkMeasures,
    attack_budget,
    centred,
    centred_labels_kernel,
)
from ntk.studies.dynamics.settings import Settings
from ntk.studies.dynamics.tabulate import KEYS
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


class Asked(NamedTuple):
    """Of what the parts are told that have tests of their own, and compile for long."""

    bounds: list[Any]  # (variables, shape) of each spectral bound
    attacks: list[Any]  # (threat, budget)
    validations: list[Any]  # (variables, data, plan)


@pytest.fixture(scope='module')
def asked():
    found = Asked([], [], [])

    def bound(model, variables, shape):
        found.bounds.append((variables, shape))
        return LipschitzBound(2.0 + len(found.bounds), {})

    def make_attacks(model, mesh, threat, budget):
        found.attacks.append((threat, budget))

    def validate(measures, variables, key, data, plan, on_batch):
        found.validations.append((variables, data, plan))
        names = ('natural_accuracy', 'robust_accuracy', 'local_lipschitz')
        return {**dict.fromkeys(names, len(data)), 'local_lipschitz_kl_gradient': 0.5}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, 'lipschitz_bound', bound)
        patch.setattr(measure, 'make_measures', make_attacks)
        patch.setattr(measure, 'validate', validate)
        yield found


@pytest.fixture(scope='module')
def measures(asked):
    return make_measures(batch_norm='batch')


@pytest.fixture(scope='module')
def measured(measures, networks):
    """(row of the first network, row of the second)."""
    start, later = networks
    begin = measures.start(start)
    return [measures.measure(network, begin, jax.random.key(3)) for network in (start, later)]


def dense_kernels(model, networks, images, statistics):
    """Of each network (n, n), and the features (n, k P) / sqrt(k) that it is made of, in float64.

    The running statistics, if those are asked for, are the first one's.
    """
    flat = jnp.stack([ravel_pytree(network['params'])[0] for network in networks])
    unravel = ravel_pytree(networks[0]['params'])[1]

    def outputs(weights):
        everything = {**networks[0], 'params': unravel(weights)}
        if statistics == 'inference':
            return model.apply(everything, images, train=False)
        # The reference is the training images themselves: an ordinary training pass.
        return model.apply(everything, images, train=True, mutable=['moments'])[0]

    found = jax.jit(lambda several: jax.lax.map(jax.jacrev(outputs), several))(flat)
    jacobians = np.asarray(found, np.float64)  # (networks, n, k, P)
    features = jacobians.reshape(*jacobians.shape[:2], -1) / np.sqrt(jacobians.shape[2])
    return [(each @ each.T, each) for each in features]


def test_the_kernel_and_its_changes(measured, model, networks, images):
    first, later = measured
    x, labels = images['train']
    (theta_0, _), (theta, features) = dense_kernels(model, networks, x, 'batch')
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


@pytest.mark.usefixtures('asked')
def test_with_running_statistics_the_network_stays_as_it_is(model, networks, images):
    """Everything but the kernel is measured of what `evaluated` gives."""
    measures = make_measures(batch_norm='inference')
    assert measures.evaluated(networks[1]) is networks[1]
    [(theta, _)] = dense_kernels(model, networks[1:], images['train'][0], 'inference')
    np.testing.assert_allclose(measures.kernel(networks[1]), theta, rtol=1e-3)


@pytest.fixture(scope='module')
def evaluated(model, networks, images):
    """The second network with the moments of the training images, set by hand."""
    x, _ = images['train']
    _, changed = model.apply(networks[1], x, train=True, mutable=['moments'])
    return {**networks[1], 'batch_stats': changed['moments']}


@pytest.fixture(scope='module', params=['train', 'test'])
def reference(request, model, evaluated, images):
    """(split, f: (n, h, w, c) -> (n, k), images, labels, Jacobians (n, k, h w c))."""

    @jax.jit
    def f(x):
        return model.apply(evaluated, x, train=False)

    x, labels = images[request.param]
    jacobians = jax.jit(jax.vmap(jax.jacrev(lambda z: f(z[None])[0])))(x)
    return request.param, f, x, labels, np.asarray(jacobians, np.float64).reshape(len(x), 10, -1)


def test_input_gradients_and_risks(measured, reference):
    split, f, x, labels, jacobians = reference
    _, later = measured
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


def test_attacks_and_bounds_are_of_the_evaluated_network(measured, asked, evaluated):
    [(threat, budget)] = asked.attacks[:1]
    config = resolve(digits.get_config('smoke'))
    assert (threat.norm, threat.epsilon) == (config.threat.norm, config.threat.epsilon)
    assert budget == attack_budget(config.evaluation, 2)
    assert [row['spectral_product'] for row in measured] == [3.0, 4.0]
    variables, shape = asked.bounds[1]
    assert shape == (8, 8, 1)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6),
        jax.device_get(variables), jax.device_get(evaluated),
    )  # fmt: skip
    of_later = asked.validations[2:4]
    assert all(attacked is variables for attacked, _, _ in of_later)
    for split, count, (_, data, plan) in zip(
        ('train', 'test'), (NUM_TRAIN, NUM_TEST), of_later, strict=True
    ):
        assert plan.mask.sum() == len(data) == count
        assert measured[1][f'local_lipschitz_{split}'] == count
        assert measured[1][f'local_lipschitz_kl_gradient_{split}'] == 0.5


def test_each_quantity_has_a_number(measured):
    assert [set(row) for row in measured] == [set(KEYS)] * 2
    assert np.isfinite([list(row.values()) for row in measured]).all()


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
