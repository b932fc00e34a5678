"""Every attack, through the pool, on a network whose margins are known in closed form."""

from typing import Any

import numpy as np
import pytest

from tests.war_jax.robustness import linear
from war_jax.attacks.square import Square
from war_jax.attacks.threat import ThreatModel
from war_jax.mesh import make_mesh
from war_jax.robustness.doubts import doubts
from war_jax.robustness.ensemble import Ensemble, make_attacks

# Name and number of classes. Of several classes the cross-entropy need not lead to the nearest.
WHITE_BOX = (
    ('apgd-ce', 2), ('pgd50', 2), ('apgd-dlr', 5), ('cw50', 5), ('apgd-t', 5), ('fab-t', 5),
    ('multitargeted', 5),
)  # fmt: skip
NUM_EXAMPLES = 37  # a remainder of any batch


def attacked(names: str, norm: Any, epsilon: float, num_classes: int = 5, **options) -> Ensemble:
    x = linear.images(NUM_EXAMPLES)
    labels = linear.predictions(num_classes, x)
    attacks = make_attacks(names, ThreatModel(norm, epsilon), linear.SHAPE)
    ensemble = Ensemble(
        linear.classify, linear.params(num_classes), x, labels, attacks, epsilon, make_mesh(),
        batch_size=16, **options,
    )  # fmt: skip
    ensemble.run()
    return ensemble


def median_distance(norm: str, num_classes: int = 5) -> float:
    return linear.median_distance(norm, NUM_EXAMPLES, num_classes)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
@pytest.mark.parametrize(('name', 'num_classes'), WHITE_BOX)
def test_breaks_exactly_what_can_be_broken(name, num_classes, norm):
    epsilon = median_distance(norm, num_classes)
    ensemble = attacked(name, norm, epsilon, num_classes)
    nearest = linear.nearest(num_classes, ensemble.images, norm)
    broken = ~ensemble.stable
    assert not broken[nearest > epsilon].any()
    # Steps of 2 epsilon / N together cannot turn a random direction of L2 quite round.
    reach = 0.9 if norm == 'l2' and name in ('pgd50', 'cw50') else 1.0
    assert broken[nearest < reach * epsilon].all() and 0 < broken.sum() < NUM_EXAMPLES


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_square_breaks_what_is_easily_broken_and_nothing_else(norm):
    epsilon = 2 * median_distance(norm)
    x = linear.images(NUM_EXAMPLES)
    square = Square(ThreatModel(norm, epsilon), linear.SHAPE, num_queries=300)
    arguments = (linear.classify, linear.params(), x, linear.predictions(5, x))
    ensemble = Ensemble(*arguments, (square,), epsilon, make_mesh(), 32)
    ensemble.run()
    nearest, broken = linear.nearest(5, x, norm), ~ensemble.stable
    assert not broken[nearest > epsilon].any()
    easy = nearest < (0.7 if norm == 'linf' else 0.4) * epsilon
    assert broken[easy].all() and easy.any()


@pytest.mark.parametrize('num_classes', [2, 3])
def test_few_classes(num_classes):
    epsilon = median_distance('linf', num_classes)
    ensemble = attacked('apgd-ce,apgd-dlr,apgd-t,fab-t', 'linf', epsilon, num_classes)
    nearest = linear.nearest(num_classes, ensemble.images, 'linf')
    np.testing.assert_array_equal(~ensemble.stable, nearest < epsilon)
    assert any('margin' in sentence for sentence in doubts(ensemble, None))


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_what_is_found_is_in_the_ball_and_the_box_and_misclassified(norm):
    epsilon = median_distance(norm)
    ensemble = attacked('apgd-ce', norm, epsilon)
    search = ensemble.results[0].search
    assert sorted(search.adversarial) == sorted(np.flatnonzero(search.broken))
    for example, image in search.adversarial.items():
        delta = (image.astype(np.float64) - ensemble.images[example]).ravel()
        length = np.abs(delta).max() if norm == 'linf' else np.linalg.norm(delta)
        assert length <= epsilon + 2e-6
        assert image.min() >= 0 and image.max() <= 1
        assert linear.predictions(5, image[None])[0] != ensemble.labels[example]


def test_each_attack_sees_what_the_ones_before_it_left():
    epsilon = median_distance('linf')
    ensemble = attacked('pgd3,apgd-ce,fab-t', 'linf', epsilon)
    first, second, third = ensemble.results
    np.testing.assert_array_equal(second.seen, ~first.search.broken)
    np.testing.assert_array_equal(third.seen, second.seen & ~second.search.broken)
    alone = attacked('pgd3', 'linf', epsilon)
    np.testing.assert_array_equal(alone.results[0].search.broken, first.search.broken)
    assert ensemble.stable.sum() <= alone.stable.sum()


def test_stability_is_of_misclassified_examples_too():
    epsilon = median_distance('linf')
    x = linear.images(NUM_EXAMPLES)
    labels = linear.predictions(5, x)
    wrong = labels.copy()
    wrong[::3] = (wrong[::3] + 1) % 5
    attacks = make_attacks('apgd-t', ThreatModel('linf', epsilon), linear.SHAPE)
    arguments = (linear.classify, linear.params(), x, wrong, attacks, epsilon, make_mesh(), 16)
    can = linear.nearest(5, x, 'linf') < epsilon
    both = Ensemble(*arguments)
    both.run()
    np.testing.assert_array_equal(both.stable, ~can)
    np.testing.assert_array_equal(both.robust, ~can & (wrong == labels))
    natural = Ensemble(*arguments, stability=False)
    natural.run()
    np.testing.assert_array_equal(natural.robust, both.robust)
    assert natural.results[0].seen.sum() == (wrong == labels).sum()
