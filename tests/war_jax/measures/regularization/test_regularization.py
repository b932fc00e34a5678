"""Margins, distances, gains, matched losses. Oracles: closed forms of linear networks, planted
curves, and the sandwich inequality on every sample of a trained network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.war_jax.robustness import linear
from war_jax.measures.operators import certified_bound, fold, wide_resnet_layers
from war_jax.measures.operators.layers import places
from war_jax.measures.operators.spectra import padded_norm_bound
from war_jax.measures.regularization.distance import make_search, nearest_boundary
from war_jax.measures.regularization.gains import (
    coefficient_of_variation,
    layer_gains,
    wide_resnet_hidden,
)
from war_jax.measures.regularization.margins import confidences, lower_bound, margins
from war_jax.measures.regularization.matched import bracket, common_loss
from war_jax.models import forward
from war_jax.models.wide_resnet import WideResNet

COUNT = 10


def test_margins_and_confidences():
    logits = jnp.log(jnp.array([[0.7, 0.1, 0.2], [0.25, 0.5, 0.25]]))
    np.testing.assert_allclose(margins(logits), [np.log(3.5), np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(confidences(logits), [0.7, 0.5], rtol=1e-6)


def test_distance_is_exact_for_a_linear_classifier():
    """And its own lower bound, from the norm of its matrix, is below it at every image."""
    x = linear.images(COUNT)
    search = make_search(linear.classify, num_steps=10)
    distances, points = nearest_boundary(search, linear.params(), jnp.asarray(x))
    np.testing.assert_allclose(distances, linear.nearest(5, x, 'l2'), rtol=1e-3)
    reached = np.linalg.norm((points - x).reshape(COUNT, -1), axis=-1)
    np.testing.assert_allclose(reached, distances, rtol=1e-4)
    norm = np.linalg.svd(linear.weights(), compute_uv=False)[0]
    logits = linear.classify(linear.params(), jnp.asarray(x))
    assert (lower_bound(margins(logits), norm) <= distances).all()


@pytest.fixture(scope='module')
def trained():
    """A tiny WideResNet after a few steps on bright and dark images, in inference mode."""
    model = WideResNet(10, 0.125, 2, stem_channels=2, strides=(2, 2, 1))
    numbers = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = numbers.uniform(0, 0.7, (24, 8, 8, 1)) + 0.3 * labels.reshape(-1, 1, 1, 1)
    x = jnp.asarray(images, jnp.float32)
    variables = model.init(jax.random.key(0), x, train=False)
    tx = optax.adam(0.02)
    state = tx.init(variables['params'])

    @jax.jit
    def step(variables, state):
        def loss(params):
            logits, moments = forward.train(
                model, {**variables, 'params': params}, x, jnp.ones(24, bool)
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), moments

        grads, moments = jax.grad(loss, has_aux=True)(variables['params'])
        updates, state = tx.update(grads, state)
        stats = forward.update_statistics(variables['batch_stats'], [moments], 0.3)
        return {
            'params': optax.apply_updates(variables['params'], updates), 'batch_stats': stats
        }, state  # fmt: skip

    for _ in range(25):
        variables, state = step(variables, state)
    return model, variables, x, labels


def test_the_sandwich_on_every_sample_of_a_trained_network(trained):
    model, variables, x, labels = trained

    def classify(params, images):
        return forward.evaluate(model, params, images)

    logits = classify(variables, x)
    assert (logits.argmax(-1) == labels).mean() > 0.8
    layers = fold(wide_resnet_layers(model, variables))
    bound = certified_bound(layers, (8, 8, 1)).bound
    distances, points = nearest_boundary(make_search(classify, 10), variables, x)
    assert np.isfinite(distances).sum() > 12
    assert (np.asarray(lower_bound(margins(logits), bound)) <= distances * (1 + 1e-4)).all()
    assert points.min() >= 0 and points.max() <= 1
    found = np.isfinite(distances)
    # Points lie on the very boundary: in another batch, rounding may put one on its other side.
    there, own = classify(variables, jnp.asarray(points)), np.asarray(logits.argmax(-1))
    ahead = there[np.arange(24), own] - there[np.arange(24), 1 - own]
    assert (np.asarray(ahead)[found] <= 1e-5).all()


def test_gains_are_below_the_layers_norms_and_compose(trained):
    """||conv with its BatchNorm's scale||, zero padding and stride included, at every image."""
    model, variables, x, _ = trained
    moved = x + 0.1 * jax.random.normal(jax.random.key(1), x.shape)
    hidden = wide_resnet_hidden(model, variables)
    gains = jax.jit(lambda x, moved: layer_gains(hidden, x, moved))(x, moved)
    layers = fold(wide_resnet_layers(model, variables))
    for place in places(layers, (8, 8, 1)):
        assert (gains[place.name] <= padded_norm_bound(place) * (1 + 1e-4)).all(), place.name
    change = (hidden(moved)['stem'][1] - hidden(x)['stem'][1]).reshape(24, -1)
    ratio = jnp.linalg.norm(change, axis=1) / jnp.linalg.norm((moved - x).reshape(24, -1), axis=1)
    np.testing.assert_allclose(gains['stem'], ratio, rtol=1e-4)
    np.testing.assert_allclose(
        hidden(x)['head'][1], forward.evaluate(model, variables, x), rtol=1e-5
    )
    assert gains.keys() == {'head', *(place.name for place in places(layers, (8, 8, 1)))}


def test_gains_of_a_linear_network_in_closed_form():
    """diag(3, 1) then a rotation: along the axes 3 and 1, then 1; on the diagonal sqrt(5)."""
    stretch, turn = jnp.diag(jnp.array([3.0, 1.0])), jnp.array([[0.0, -1.0], [1.0, 0.0]])

    def hidden(x):
        return {'stretch': (x, x @ stretch), 'turn': (x @ stretch, x @ stretch @ turn)}

    x = jnp.ones((4, 2))
    moved = x + jnp.array([[0.5, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 0.0]])
    gains = layer_gains(hidden, x, moved)
    np.testing.assert_allclose(gains['stretch'], [3, 1, np.sqrt(5), 0], rtol=1e-6)
    np.testing.assert_allclose(gains['turn'], [1, 1, 1, 0], rtol=1e-6)
    assert coefficient_of_variation(gains['stretch'][:2]) == pytest.approx(0.5)
    assert coefficient_of_variation(jnp.zeros(3)) == 0


def test_matched_loss_on_planted_curves():
    """Losses exp(-t / 3) at t = 0, 1, ... and values that are linear in t, hence in log loss."""
    slow, fast = (np.exp(-np.arange(8) / scale).tolist() for scale in (3, 1))
    assert common_loss([slow, fast]) == min(slow)
    target = np.exp(-1.9 / 3)
    for scale, curve in ((3, slow), (1, fast)):
        crossing = bracket(curve, target)
        before, after = crossing.before, crossing.after
        time = 1.9 * scale / 3
        assert before == int(time) and after == int(time) + 1
        assert crossing.between(2.0 * before, 2.0 * after) == pytest.approx(2 * time)
    assert bracket([0.5, 0.4], 0.5) == (0, 0, 0.0)
    assert bracket([0.9, 0.5, 0.4], 0.5) == (1, 1, 0.0)
    assert bracket([0.9, 0.4, 0.8, 0.3], 0.4) == (1, 1, 0.0)  # the first time
    for bad in ([0.9, 0.5], [0.9, 0.0]):
        with pytest.raises(ValueError, match='expected positive ones that reach'):
            bracket(bad, 0.4)
