"""Oracle: every formula written out in float64 NumPy, and finite differences of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax

from war_jax.training.objective import (
    OBJECTIVES,
    Madry,
    MadryPerExample,
    Mart,
    Natural,
    RiskTerms,
    Trades,
)

LABELS = np.array([0, 3, 4, 1, 1, 2])
MIXED = np.random.default_rng(7).dirichlet(np.full(5, 0.5), 6)  # shares of labels, (6, 5)
ROWS = np.arange(len(LABELS))
CLEAN = np.random.default_rng(3).normal(scale=2, size=(6, 5))
ADVERSARIAL = CLEAN + np.random.default_rng(103).normal(scale=2, size=(6, 5))
# The training step's mean leaves padding out: the objective has to use the mean that it is given.
WEIGHTS = np.array([1, 1, 1, 1, 0, 0]) / 4


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def mean(values: jax.Array) -> jax.Array:
    assert values.shape == (6,)
    return jnp.sum(jnp.asarray(WEIGHTS, values.dtype) * values)


def risk(objective, clean=CLEAN, adversarial=ADVERSARIAL) -> RiskTerms:
    return objective.risk(jnp.asarray(clean), jnp.asarray(adversarial), jnp.asarray(LABELS), mean)


def cross_entropy(logits: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    targets = (1 - smoothing) * np.eye(5)[LABELS] + smoothing / 5
    return -(targets * log_softmax(logits, axis=-1)).sum(-1)


def kl(logits: np.ndarray, other: np.ndarray) -> np.ndarray:
    return rel_entr(softmax(logits, axis=-1), softmax(other, axis=-1)).sum(-1)


def mart(clean: np.ndarray, adversarial: np.ndarray, smoothing: float = 0.0):
    """Wang et al. 2020: BCE(x_adv) and KL(p || p_adv) (1 - p_y); the 1.0001 is their code's."""
    p, p_adv = softmax(clean, axis=-1), softmax(adversarial, axis=-1)
    runner_up = [np.delete(row, label).max() for row, label in zip(p_adv, LABELS, strict=True)]
    boosted = cross_entropy(adversarial, smoothing) - np.log(1.0001 - np.array(runner_up))
    weighted = kl(clean, adversarial) * (1 - p[ROWS, LABELS])
    return WEIGHTS @ boosted, WEIGHTS @ weighted


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_natural_risk(smoothing):
    terms = risk(Natural(smoothing))
    np.testing.assert_allclose(terms.natural, WEIGHTS @ cross_entropy(CLEAN, smoothing), rtol=1e-12)
    np.testing.assert_array_equal(terms.robust, 0)


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_madry_risk(smoothing):
    natural = WEIGHTS @ cross_entropy(CLEAN, smoothing)
    adversarial = WEIGHTS @ cross_entropy(ADVERSARIAL, smoothing)
    assert adversarial > natural
    terms = risk(Madry(smoothing))
    np.testing.assert_allclose(terms, (natural, adversarial - natural), rtol=1e-12)


def test_madry_takes_the_positive_part_of_the_batch_means():
    """Examples of both signs cancel; a batch whose attack failed has no regularization."""
    gap = cross_entropy(ADVERSARIAL) - cross_entropy(CLEAN)
    real = gap[WEIGHTS > 0]
    assert real.min() < 0 < real.mean()
    np.testing.assert_allclose(risk(Madry()).robust, real.mean(), rtol=1e-12)
    np.testing.assert_array_equal(risk(Madry(), ADVERSARIAL, CLEAN).robust, 0)


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_madry_per_example_takes_the_positive_part_of_each(smoothing):
    """An example on which the attack failed adds nothing, in the place of something negative."""
    clean, adversarial = CLEAN.copy(), ADVERSARIAL.copy()
    clean[2], adversarial[2] = ADVERSARIAL[2], CLEAN[2]
    natural = cross_entropy(clean, smoothing)
    gap = cross_entropy(adversarial, smoothing) - natural
    assert gap[2] < -0.5 and WEIGHTS @ gap > 0
    terms = risk(MadryPerExample(smoothing), clean, adversarial)
    desired = WEIGHTS @ natural, WEIGHTS @ np.maximum(gap, 0)
    np.testing.assert_allclose(terms, desired, rtol=1e-12)


def test_only_the_form_of_each_example_is_the_sum_of_its_parts():
    """Hence it can be accumulated, and the other one is refused (war_jax/config.py)."""
    halves = [slice(0, 1), slice(1, 6)]

    def parts(objective) -> float:
        return sum(
            objective.risk(
                jnp.asarray(CLEAN[half]),
                jnp.asarray(ADVERSARIAL[half]),
                jnp.asarray(LABELS[half]),
                lambda values, half=half: values @ jnp.asarray(WEIGHTS[half]),
            ).robust
            for half in halves
        )

    np.testing.assert_allclose(parts(MadryPerExample()), risk(MadryPerExample()).robust)
    assert abs(parts(Madry()) - risk(Madry()).robust) > 1e-3


def test_madry_with_lambda_one_is_the_adversarial_cross_entropy():
    """Madry et al. 2018, of which this objective is the generalization."""
    natural, robust = risk(Madry())
    np.testing.assert_allclose(natural + robust, WEIGHTS @ cross_entropy(ADVERSARIAL))


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_trades_risk(smoothing):
    """The smoothing is the natural risk's alone."""
    terms = risk(Trades(smoothing))
    desired = WEIGHTS @ cross_entropy(CLEAN, smoothing), WEIGHTS @ kl(CLEAN, ADVERSARIAL)
    np.testing.assert_allclose(terms, desired, rtol=1e-12)


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_mart_risk(smoothing):
    right = ADVERSARIAL.argmax(-1) == LABELS
    assert right[:4].any() and not right[:4].all()  # the strongest other class is not always first
    terms = risk(Mart(smoothing))
    np.testing.assert_allclose(terms, mart(CLEAN, ADVERSARIAL, smoothing), rtol=1e-12)


NUMPY_TERMS = {
    'natural': lambda c, a: (WEIGHTS @ cross_entropy(c), 0.0),
    'adversarial': lambda c, a: (WEIGHTS @ cross_entropy(a), 0.0),
    'madry': lambda c, a: (
        WEIGHTS @ cross_entropy(c),
        max(WEIGHTS @ cross_entropy(a) - WEIGHTS @ cross_entropy(c), 0.0),
    ),
    'madry_per_example': lambda c, a: (
        WEIGHTS @ cross_entropy(c),
        WEIGHTS @ np.maximum(cross_entropy(a) - cross_entropy(c), 0.0),
    ),
    'trades': lambda c, a: (WEIGHTS @ cross_entropy(c), WEIGHTS @ kl(c, a)),
    'trades_ce': lambda c, a: (WEIGHTS @ cross_entropy(c), WEIGHTS @ kl(c, a)),
    'mart': mart,
}


@pytest.mark.parametrize('name', OBJECTIVES)
def test_gradients_with_respect_to_both_logits(name):
    """Through both sides of the divergence, as the papers' code. Oracle: central differences."""
    lam, step = 6.0, 1e-6

    def loss(clean, adversarial):
        terms = OBJECTIVES[name]().risk(clean, adversarial, jnp.asarray(LABELS), mean)
        return terms.natural + lam * terms.robust

    def numpy_loss(clean, adversarial):
        natural, robust = NUMPY_TERMS[name](clean, adversarial)
        return natural + lam * robust

    gradients = jax.jit(jax.grad(loss, (0, 1)))(CLEAN, ADVERSARIAL)
    for side, gradient in enumerate(gradients):
        for i in np.ndindex(CLEAN.shape):
            up, down = [CLEAN.copy(), ADVERSARIAL.copy()], [CLEAN.copy(), ADVERSARIAL.copy()]
            up[side][i] += step
            down[side][i] -= step
            desired = (numpy_loss(*up) - numpy_loss(*down)) / (2 * step)
            np.testing.assert_allclose(gradient[i], desired, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
@pytest.mark.parametrize('name', OBJECTIVES)
def test_attack_loss(name, smoothing):
    """TRADES climbs the divergence from the clean prediction and does not know the label; the
    others climb the cross-entropy, unsmoothed."""
    objective = OBJECTIVES[name](smoothing)
    actual = objective.attack_loss(
        jnp.asarray(ADVERSARIAL), jnp.asarray(CLEAN), jnp.asarray(LABELS)
    )
    desired = kl(CLEAN, ADVERSARIAL) if name == 'trades' else cross_entropy(ADVERSARIAL)
    np.testing.assert_allclose(actual, desired, rtol=1e-12)


def mixed_cross_entropy(logits: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    targets = (1 - smoothing) * MIXED + smoothing / 5
    return -(targets * log_softmax(logits, axis=-1)).sum(-1)


def mixed_mart(clean, adversarial, smoothing: float):
    """Example by example, label by label: each label's term by its share."""
    p, p_adv = softmax(clean, axis=-1), softmax(adversarial, axis=-1)
    boosted = mixed_cross_entropy(adversarial, smoothing)
    uncertain = np.zeros(6)
    for i, label in np.ndindex(6, 5):
        boosted[i] -= MIXED[i, label] * np.log(1.0001 - np.delete(p_adv[i], label).max())
        uncertain[i] += MIXED[i, label] * (1 - p[i, label])
    return WEIGHTS @ boosted, WEIGHTS @ (kl(clean, adversarial) * uncertain)


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_risks_and_attack_losses_of_mixed_labels(smoothing):
    clean, adversarial = CLEAN.copy(), ADVERSARIAL.copy()
    clean[2], adversarial[2] = ADVERSARIAL[2], CLEAN[2]
    natural = mixed_cross_entropy(clean, smoothing)
    gap = mixed_cross_entropy(adversarial, smoothing) - natural
    assert gap[2] < -0.5 and WEIGHTS @ gap > 0
    divergence = kl(clean, adversarial)
    desired = {
        'natural': (WEIGHTS @ natural, 0),
        'madry': (WEIGHTS @ natural, WEIGHTS @ gap),
        'madry_per_example': (WEIGHTS @ natural, WEIGHTS @ np.maximum(gap, 0)),
        'trades': (WEIGHTS @ natural, WEIGHTS @ divergence),
        'mart': mixed_mart(clean, adversarial, smoothing),
    }
    arrays = tuple(map(jnp.asarray, (clean, adversarial, MIXED)))
    for name, terms in desired.items():
        objective = OBJECTIVES[name](smoothing)
        np.testing.assert_allclose(objective.risk(*arrays, mean), terms, rtol=1e-12, err_msg=name)
        climbed = objective.attack_loss(arrays[1], arrays[0], arrays[2])
        expected = divergence if name == 'trades' else mixed_cross_entropy(adversarial)
        np.testing.assert_allclose(climbed, expected, rtol=1e-12, err_msg=name)


def test_a_mixture_of_one_label_is_that_label():
    one_hot = jnp.asarray(np.eye(5)[LABELS])
    for kind in OBJECTIVES.values():
        of_mixture = kind().risk(jnp.asarray(CLEAN), jnp.asarray(ADVERSARIAL), one_hot, mean)
        np.testing.assert_allclose(of_mixture, risk(kind()), rtol=1e-14)


def test_of_two_classes_the_boost_of_mart_is_the_cross_entropy_to_the_mixture():
    clean, adversarial = jnp.asarray(CLEAN[:, :2] / 4), jnp.asarray(ADVERSARIAL[:, :2] / 4)
    mixed = jnp.asarray(MIXED[:, :2] / MIXED[:, :2].sum(-1, keepdims=True))
    of_mart = Mart().risk(clean, adversarial, mixed, mean).natural
    of_trades = Trades().risk(adversarial, adversarial, mixed, mean).natural
    np.testing.assert_allclose(of_mart, 2 * of_trades, rtol=1e-3)


def test_only_the_natural_objective_does_without_attack():
    without = [name for name, objective in OBJECTIVES.items() if not objective().uses_attack]
    assert without == ['natural']


@pytest.mark.parametrize('name', OBJECTIVES)
def test_risks_and_gradients_stay_finite_at_huge_gaps(name):
    """float32, certain and wrong on one side or on both."""
    certain = 1e3 * jax.nn.one_hot(LABELS, 5, dtype=jnp.float32)
    wrong = 1e3 * jax.nn.one_hot((LABELS + 1) % 5, 5, dtype=jnp.float32)

    @jax.jit
    def loss_and_gradients(clean, adversarial):
        def loss(clean, adversarial):
            terms = OBJECTIVES[name]().risk(clean, adversarial, jnp.asarray(LABELS), mean)
            return terms.natural + 6 * terms.robust

        return jax.value_and_grad(loss, (0, 1))(clean, adversarial)

    for clean, adversarial in ((certain, wrong), (wrong, certain), (wrong, wrong)):
        for array in jax.tree.leaves(loss_and_gradients(clean, adversarial)):
            assert np.isfinite(array).all()
