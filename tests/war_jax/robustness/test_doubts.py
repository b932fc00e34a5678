"""Each doubt is raised by a network made for it, and none by an honest one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.war_jax.robustness import linear
from war_jax.attacks.square import Square
from war_jax.attacks.threat import ThreatModel
from war_jax.mesh import make_mesh
from war_jax.models.normalisation import IDENTITY, PER_IMAGE, Normalisation
from war_jax.robustness.curve import stability_curve
from war_jax.robustness.doubts import doubts
from war_jax.robustness.ensemble import Ensemble, make_attacks
from war_jax.robustness.page import contents

COUNT = 24
THREAT = ThreatModel('linf', 0.05)


def ensemble(classify, names: str = 'pgd5', attacks=None) -> Ensemble:
    x = linear.images(COUNT)
    attacks = attacks or make_attacks(names, THREAT, linear.SHAPE)
    labels = linear.predictions(5, x)
    one = Ensemble(classify, linear.params(), x, labels, attacks, 0.05, make_mesh(), 8)
    one.run()
    return one


def found(classify, *arguments) -> str:
    return ' | '.join(doubts(ensemble(classify, *arguments), None))


def quantised(params, x):
    return linear.classify(params, jnp.round(x * 20) / 20)


def test_an_honest_network_raises_none():
    one = ensemble(linear.classify)
    curve = stability_curve(one, THREAT, (0.5, 1, 2, 4), COUNT)
    assert doubts(one, curve) == []


def test_probabilities():
    assert 'probabilities' in found(lambda p, x: jax.nn.softmax(linear.classify(p, x)))
    assert 'probabilities' not in found(linear.classify)


def test_batches():
    def classify(params, x):
        return linear.classify(params, x) * (1 + x[0].sum())

    assert 'batch' in found(classify)


def test_chance():
    draws = np.random.default_rng(0)

    def classify(params, x):
        shape = jax.ShapeDtypeStruct((len(x), 5), jnp.float32)
        noise = jax.pure_callback(lambda: draws.normal(size=shape.shape).astype('f'), shape)
        return linear.classify(params, x) + jax.lax.stop_gradient(noise)

    assert 'not deterministic' in found(classify)


def test_gradients_of_zero():
    assert 'gradient of exactly 0' in found(quantised)


def test_infinite_logits():
    def classify(params, x):
        logits = linear.classify(params, x)
        return jnp.where(logits == logits.max(-1, keepdims=True), jnp.inf, logits)

    sentences = found(classify)
    assert f'logits of {COUNT} clean images are not finite' in sentences
    assert f'pgd5: {COUNT} of the {COUNT} examples that withstood it met logits' in sentences


def test_clean_images_without_numbers_are_neither_natural_nor_stable():
    """Also where the label is class 0, which is what the largest of NaNs is said to be."""
    x = linear.images(COUNT)
    dark = x.mean((1, 2, 3)) < 0.5
    assert 3 < dark.sum() < COUNT - 3

    def classify(params, x):
        logits = linear.classify(params, x)
        return jnp.where(x.mean((1, 2, 3))[:, None] < 0.5, jnp.nan, logits)

    attacks = make_attacks('pgd5', THREAT, linear.SHAPE)
    labels = np.where(dark, 0, linear.predictions(5, x))
    one = Ensemble(classify, linear.params(), x, labels, attacks, 1e-6, make_mesh(), 8)
    one.run()
    curve = stability_curve(one, THREAT, (1e-6,), COUNT)
    found = contents(one, THREAT, curve, doubts(one, curve))
    light = 1 - dark.mean()
    assert found['natural_accuracy'] == pytest.approx(light)
    assert found['robust_accuracy'] == found['perturbation_stability'] == pytest.approx(light)
    assert found['attacks'][0]['perturbation_stability'] == pytest.approx(light)
    assert curve.robust[0] == curve.stable[0] == pytest.approx(light)
    assert found['doubts'][0].startswith(f'logits of {dark.sum()} clean images are not numbers')


def test_a_point_of_the_ball_without_numbers_does_not_withstand():
    """Where no number comes out, nothing was classified: clean pixels are below 0.6."""

    def classify(params, z):
        return linear.classify(params, z) + jnp.where(z.max((1, 2, 3)) > 0.61, jnp.nan, 0)[:, None]

    one = ensemble(classify)
    assert one.natural.all() and not one.robust.any()
    sentences = ' | '.join(doubts(one, None))
    assert f'pgd5: {COUNT} of the examples that it broke have logits there that' in sentences


def test_masked_classes_hide_no_other_doubt():
    """A class at -1e9, as one at -infinity, must not set the scale of what counts as different."""

    def classify(params, x, mask):
        logits = linear.classify(params, x) * (1 + x[0].sum())
        return jnp.concatenate([logits, jnp.full((len(x), 1), mask)], 1)

    for mask in (-jnp.inf, -1e9):
        assert 'batch' in found(lambda params, x, mask=mask: classify(params, x, mask))


def test_square_breaks_what_gradients_cannot():
    square = Square(THREAT, linear.SHAPE, num_queries=200)
    sentences = found(quantised, '', (*make_attacks('pgd5', THREAT, linear.SHAPE), square))
    assert 'square broke' in sentences and 'masked' in sentences


@pytest.mark.parametrize(('scales', 'doubted'), [((0.1, 0.2), True), ((0.1, 20.0), False)])
def test_a_curve_that_does_not_fall(scales, doubted):
    one = ensemble(linear.classify)
    curve = stability_curve(one, THREAT, scales, COUNT)
    assert curve.robust[0] == 1.0 and list(curve.robust) == sorted(curve.robust, reverse=True)
    assert any('should fall to 0' in sentence for sentence in doubts(one, curve)) == doubted


@pytest.mark.parametrize(
    ('really', 'assumed', 'flag'),
    [
        (PER_IMAGE, IDENTITY, '--normalize=per_image'),
        (IDENTITY, Normalisation((0.5,), (0.5,)), '--input_mean=0 --input_std=1'),
        (Normalisation((0.5,), (0.5,)), IDENTITY, '--input_mean=0.5 --input_std=0.5'),
        (IDENTITY, IDENTITY, None),
    ],
)
def test_a_normalisation_that_is_not_in_the_file(really, assumed, flag):
    """Labels are what the network says of images that are normalised as it was trained to."""
    x = linear.images(200) * 2 - 0.5  # of more contrast than the least that per_image divides by
    given = x.astype(np.float64)
    if really.per_image:
        mean, deviation = given.mean((1, 2, 3)), given.reshape(200, -1).std(1, ddof=1)
        given = (given - mean[:, None, None, None]) / deviation[:, None, None, None]
    else:
        given = (given - really.mean[0]) / really.std[0]
    logits = given.reshape(200, -1) @ linear.weights().T
    bias = -logits.mean(0)  # so that all classes are met, and a shift of the images matters
    labels = (logits + bias).argmax(-1)
    attacks = make_attacks('pgd1', THREAT, linear.SHAPE)

    def classify(params, images):
        return linear.classify(params, assumed(images)) + bias.astype('f')[None]

    one = Ensemble(classify, linear.params(), x, labels.astype('i'), attacks, 0.05, make_mesh(), 40)
    sentences = [sentence for sentence in doubts(one, None, assumed) if 'normalis' in sentence]
    if flag is None:
        assert one.natural.all() and sentences == []
    else:
        (sentence,) = sentences
        assert f'100.0% with {flag}:' in sentence
        assert f'is {one.natural.mean():.1%} as the network was read' in sentence
    assert not any('normalis' in sentence for sentence in doubts(one, None))
