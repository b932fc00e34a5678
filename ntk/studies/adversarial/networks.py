"""Finite networks of the same kind, trained on the squared loss, naturally or adversarially.

    programs = make_programs(model, multipliers, True, threat, training_budget, measuring_budget)
    weights, velocity = programs.step(weights, velocity, start, keys, images, rate, momentum)
    natural, robust = programs.correct(weights, start, keys, validation)

The network is f - f_0, which starts at 0 as the kernel's predictor does, and moves by full-batch
gradient descent with momentum; in adversarial training on PGD images of its own (Madry et al.
2018). Of the networks met, the one with the highest (robust) accuracy on validation images is kept:
that is the use which Adv-NTK makes of them, too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ntk.networks.parametrization import outputs
from ntk.studies.adversarial.attack import Images, accuracies, attack
from ntk.studies.images import centred_targets
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel


class Programs(NamedTuple):
    """Compiled once for a width and method."""

    step: Callable[..., tuple[Any, Any]]  # weights, velocity, start, keys, images, rate, momentum
    correct: Callable[..., Array]  # weights, start, keys, images -> (2, n): as they are, attacked


def make_programs(
    model: nn.Module,
    multipliers: Any,
    adversarial: bool,
    threat: ThreatModel,
    training: Budget,
    measuring: Budget,
) -> Programs:
    def predict(weights: Any, start: Any, x: Array) -> Array:
        return outputs(model, multipliers, weights, x) - outputs(model, multipliers, start, x)

    def step(
        weights: Any, velocity: Any, start: Any, keys: Array, images: Images, rate: Array,
        momentum: Array,
    ) -> tuple[Any, Any]:  # fmt: skip
        x, labels = images
        if adversarial:
            x = attack(lambda z: predict(weights, start, z), keys, images, threat, training)

        def loss(weights: Any) -> Array:
            found = predict(weights, start, x)
            gap = found - centred_targets(labels, found.shape[-1])
            return jnp.square(gap).sum(-1).mean() / 2

        velocity = jax.tree.map(
            lambda old, grad: momentum * old + grad, velocity, jax.grad(loss)(weights)
        )
        return jax.tree.map(lambda w, v: w - rate * v, weights, velocity), velocity

    def correct(weights: Any, start: Any, keys: Array, images: Images) -> Array:
        return accuracies(lambda z: predict(weights, start, z), keys, images, threat, measuring)

    return Programs(jax.jit(step), jax.jit(correct))
