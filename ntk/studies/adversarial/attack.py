"""The attack of all predictors here, kernels and networks, in training and in measuring.

moved = attack(predict, keys, (x, labels), threat, budget)
natural, robust = accuracies(predict, keys, (x, labels), threat, budget)
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from war_jax.attacks.losses import margin_loss
from war_jax.attacks.pgd import Budget, pgd
from war_jax.attacks.threat import ThreatModel

Images = tuple[Array, Array]  # (n, h, w, c), labels (n,)
Predict = Callable[[Array], Array]  # (n, h, w, c) -> (n, k)


def attack(
    predict: Predict,
    keys: Array,
    images: Images,
    threat: ThreatModel,
    budget: Budget,
) -> Array:
    """PGD on the margin of the best other class, which the scale of the outputs does not change."""
    x, labels = images
    return pgd(keys, lambda z: margin_loss(predict(z), labels), x, threat, budget)


def accuracies(
    predict: Predict,
    keys: Array,
    images: Images,
    threat: ThreatModel,
    budget: Budget,
) -> Array:
    """(2, n) bool: right as it is, and right as it is and attacked."""
    x, labels = images
    natural = predict(x).argmax(-1) == labels
    moved = attack(predict, keys, images, threat, budget)
    return jnp.stack([natural, natural & (predict(moved).argmax(-1) == labels)])
