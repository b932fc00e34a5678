"""Measured networks whose quantities are known functions of epsilon and the seed."""

from typing import Any

from war_jax.studies.regularization.measure import OF_LAYERS, SCALARS
from war_jax.studies.regularization.networks import Conditions
from war_jax.studies.regularization.work import Network

LAYERS = ('stem', 'stage1/block0/conv1', 'head')


def row(epsilon: float, seed: int, direction: float = -1.0) -> dict[str, Any]:
    """Every scalar goes `direction` times epsilon; in the head every quantity of layers the other
    way, in the others the same way. Confidence does not change; loss_gap goes with the seed."""
    scalars: dict[str, Any] = dict.fromkeys(SCALARS, 2.0 + direction * epsilon + 0.01 * seed)
    scalars |= {'confidence': 0.5, 'loss_gap': (-1) ** seed * epsilon}
    layers = {
        name: dict.fromkeys(OF_LAYERS, 2.0 + (1 if name == 'head' else -1) * epsilon)
        for name in LAYERS
    }
    return {**scalars, 'layers': layers}


def images(epsilon: float, broken: bool = False) -> dict[str, list[float | None]]:
    return {
        'margins': [0.5, 1.0, 2.0 - epsilon],
        'confidences': [0.4, 0.6, 0.9],
        'distances': [0.3, 0.5, None],
        'lower_bounds': [0.01, 0.6 if broken else 0.02, 0.03],
    }


def networks(
    epsilons=(0.0, 0.1, 0.2), seeds=(0, 1, 2), lams=(1.0,), broken: bool = False
) -> list[Network]:
    """At the same training loss everything goes the other way."""
    return [
        Network(
            Conditions(epsilon, 0.5, lam, seed),
            {**row(epsilon, seed), **images(epsilon, broken)},
            row(epsilon, seed, 1.0),
            0.7,
        )
        for epsilon in epsilons
        for lam in lams
        for seed in seeds
    ]
