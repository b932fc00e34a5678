"""Oracles: scipy.special in float64, finite differences of it, and closed forms at huge gaps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax

from war_jax.attacks.losses import (
    cross_entropy,
    dlr_loss,
    finite_where_masked,
    kl_divergence,
    margin_loss,
    targeted_dlr_loss,
    targeted_margin,
)

LABELS = np.array([0, 3, 4, 1])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=3, size=(4, 5))


def numpy_cross_entropy(z: np.ndarray, labels: np.ndarray, smoothing: float) -> np.ndarray:
    log_p = log_softmax(z, axis=-1)
    of_label = -log_p[np.arange(len(labels)), labels]
    return (1 - smoothing) * of_label - smoothing * log_p.mean(-1)


def numpy_kl(z: np.ndarray, other: np.ndarray) -> np.ndarray:
    return rel_entr(softmax(z, axis=-1), softmax(other, axis=-1)).sum(-1)


def differences(function, z: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences of sum(function(z)), entry by entry."""
    result = np.zeros_like(z)
    for i in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[i] += step
        down[i] -= step
        result[i] = (function(up).sum() - function(down).sum()) / (2 * step)
    return result


@pytest.mark.parametrize('smoothing', [0.0, 0.3])
def test_cross_entropy_and_its_gradient(smoothing):
    z = logits(0)
    actual = cross_entropy(jnp.asarray(z), jnp.asarray(LABELS), smoothing)
    np.testing.assert_allclose(actual, numpy_cross_entropy(z, LABELS, smoothing), rtol=1e-12)
    gradient = jax.grad(lambda z: cross_entropy(z, jnp.asarray(LABELS), smoothing).sum())(z)
    desired = differences(lambda z: numpy_cross_entropy(z, LABELS, smoothing), z)
    np.testing.assert_allclose(gradient, desired, rtol=0, atol=1e-9)


def test_cross_entropy_does_not_smooth_unless_asked():
    actual = cross_entropy(jnp.asarray(logits(1)), jnp.asarray(LABELS))
    np.testing.assert_allclose(actual, numpy_cross_entropy(logits(1), LABELS, 0.0), rtol=1e-12)


def test_kl_divergence_and_both_gradients():
    z, other = logits(2), logits(3)
    actual = kl_divergence(jnp.asarray(z), jnp.asarray(other))
    np.testing.assert_allclose(actual, numpy_kl(z, other), rtol=1e-12)
    of_z, of_other = jax.grad(lambda *a: kl_divergence(*a).sum(), (0, 1))(z, other)
    np.testing.assert_allclose(of_z, differences(lambda z: numpy_kl(z, other), z), atol=1e-9)
    np.testing.assert_allclose(of_other, differences(lambda o: numpy_kl(z, o), other), atol=1e-9)


def test_kl_divergence_vanishes_between_equal_distributions():
    """Logits that differ by a constant are the same distribution."""
    z = jnp.asarray(logits(4))
    np.testing.assert_allclose(kl_divergence(z, z + 7.0), 0, atol=1e-14)


@pytest.mark.parametrize('gap', [1e2, 1e3, 1e4])
def test_kl_divergence_at_huge_gaps(gap):
    """float32, p underflows to one-hot. Closed forms: the value is the gap between the two logits
    of q, grad_other = q - p, grad_logits = p * (log p - log q - KL) = 0."""
    certain = jnp.asarray([[gap, 0, 0]], jnp.float32)
    opposite = jnp.asarray([[0, gap, 0]], jnp.float32)
    value = kl_divergence(certain, opposite)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, [gap], rtol=1e-6)
    of_z, of_other = jax.grad(lambda *a: kl_divergence(*a).sum(), (0, 1))(certain, opposite)
    np.testing.assert_allclose(of_z, [[0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(of_other, [[-1, 1, 0]], atol=1e-6)
    unsure = jnp.zeros((1, 3), jnp.float32)
    of_z, of_other = jax.grad(lambda *a: kl_divergence(*a).sum(), (0, 1))(unsure, opposite)
    # p = 1/3 each, KL = 2/3 gap - log 3, log p - log q = -log 3 + (gap, 0, gap).
    np.testing.assert_allclose(of_z, [[gap / 9, -2 * gap / 9, gap / 9]], rtol=1e-6)
    np.testing.assert_allclose(of_other, [[-1 / 3, 2 / 3, -1 / 3]], rtol=1e-6)


@pytest.mark.parametrize('label, value, gradient', [(0, 0, [0, 0, 0]), (1, 1e3, [1, -1, 0])])
def test_cross_entropy_at_a_huge_gap(label, value, gradient):
    z, labels = jnp.asarray([[1e3, 0, -1e3]], jnp.float32), jnp.asarray([label])
    np.testing.assert_allclose(cross_entropy(z, labels), [value], rtol=1e-6)
    of_z = jax.grad(lambda z: cross_entropy(z, labels).sum())(z)
    np.testing.assert_allclose(of_z, [gradient], atol=1e-6)


def numpy_margin(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    others = [np.delete(row, label).max() for row, label in zip(z, labels, strict=True)]
    return np.array(others) - z[np.arange(len(labels)), labels]


def test_margin_is_the_best_other_logit_minus_the_labels():
    z = logits(5)
    actual = margin_loss(jnp.asarray(z), jnp.asarray(LABELS))
    np.testing.assert_allclose(actual, numpy_margin(z, LABELS), rtol=1e-12)
    gradient = jax.grad(lambda z: margin_loss(z, jnp.asarray(LABELS)).sum())(z)
    desired = differences(lambda z: numpy_margin(z, LABELS), z)
    np.testing.assert_allclose(gradient, desired, atol=1e-9)


def test_margin_is_positive_exactly_where_the_prediction_is_wrong():
    """Also where every logit is negative, or the label's is 0."""
    rng = np.random.default_rng(6)
    z = rng.normal(size=(200, 5)) - 10.0
    z[:20, 0] = 0.0
    labels = rng.integers(0, 5, 200)
    labels[:10] = 0
    positive = np.asarray(margin_loss(jnp.asarray(z), jnp.asarray(labels))) > 0
    np.testing.assert_array_equal(positive, z.argmax(-1) != labels)
    assert 0 < positive.sum() < 200


@pytest.mark.parametrize(
    'loss',
    [
        lambda z: cross_entropy(z, jnp.asarray(LABELS)),
        lambda z: margin_loss(z, jnp.asarray(LABELS)),
        lambda z: kl_divergence(z, z[::-1]),
        lambda z: dlr_loss(z, jnp.asarray(LABELS)),
        lambda z: targeted_margin(z, jnp.asarray(LABELS), jnp.asarray(LABELS[::-1])),
        lambda z: targeted_dlr_loss(z, jnp.asarray(LABELS), jnp.asarray(LABELS[::-1])),
    ],
)
def test_a_class_masked_with_minus_infinity_changes_neither_loss_nor_gradient(loss):
    """Oracle: the same loss without that class; at a hidden sixth logit, the gradient is 0."""
    z = jnp.asarray(logits(5))

    def masked(z):
        return jnp.concatenate([z, jnp.full((4, 1), -jnp.inf)], 1)

    np.testing.assert_allclose(loss(masked(z)), loss(z), rtol=1e-12, atol=1e-12)
    gradient = jax.grad(lambda z: loss(masked(z)).sum())(z)
    np.testing.assert_allclose(gradient, jax.grad(lambda z: loss(z).sum())(z), atol=1e-12)
    of_mask = jax.grad(lambda y: loss(y).sum())(masked(z))[:, 5]
    np.testing.assert_array_equal(of_mask, 0)


def test_a_masked_target_is_as_at_minus_one_billion():
    z = jnp.asarray(logits(6)).at[:, 2].set(-jnp.inf)
    labels, targets = jnp.asarray(LABELS), jnp.full(4, 2)
    margin = targeted_margin(z, labels, targets)
    np.testing.assert_allclose(margin, -1e9 - np.asarray(z)[np.arange(4), LABELS], rtol=1e-15)


def test_nothing_but_minus_infinity_stays_and_small_types_get_their_least():
    z = jnp.asarray([[-jnp.inf, -jnp.inf], [-jnp.inf, 1.0], [jnp.nan, -jnp.inf]], jnp.float16)
    expected = [[-np.inf, -np.inf], [-65504.0, 1.0], [np.nan, -65504.0]]
    np.testing.assert_array_equal(finite_where_masked(z), np.asarray(expected, np.float16))


def test_losses_have_the_precision_of_the_logits():
    """Also where float64 is enabled; those of bfloat16 logits are summed in float32."""
    labels = jnp.asarray(LABELS)
    targets = (labels + 1) % 5
    for dtype in ('float32', 'float64'):
        z, other = jnp.asarray(logits(0), dtype), jnp.asarray(logits(1), dtype)
        losses = (
            cross_entropy(z, labels), cross_entropy(z, labels, 0.1), margin_loss(z, labels),
            kl_divergence(z, other), dlr_loss(z, labels), targeted_dlr_loss(z, labels, targets),
        )  # fmt: skip
        assert {loss.dtype.name for loss in losses} == {dtype}
    assert cross_entropy(jnp.asarray(logits(0), 'bfloat16'), labels).dtype == jnp.float32
