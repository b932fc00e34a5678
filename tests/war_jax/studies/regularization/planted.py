"""Measured networks whose quantities are known functions of epsilon and the seed."""

from pathlib import Path
from typing import Any

from war_jax.records.files import write_json
from war_jax.studies.regularization.measure import OF_LAYERS, SCALARS
from war_jax.studies.regularization.results import Cell, Network

LAYERS = ('stem', 'stage1/block0/conv1', 'head')
STUDY = {
    'experiment': 'war_jax.studies.regularization.findings',
    'config': {
        'data': {'name': 'digits'}, 'model': {'depth': 10}, 'objective': {'name': 'madry'},
        'optimizer': {'epochs': 3}, 'threat': {'norm': 'linf', 'epsilon': 0.1},
    },
    'measure': {
        'num_train': 9, 'num_test': 3, 'num_distance': 3, 'epsilon': 0.1, 'attack_steps': 2,
        'search_steps': 4, 'directions': 5,
    },
    'provenance': {
        'data': 'Three images.', 'commit': 'abc', 'num_devices': 1, 'device': 'cpu',
        'versions': {'jax': '0.10.2'}, 'python': '3.11', 'platform': 'cpu',
        'command': 'python -m war_jax.studies.regularization',
    },
}  # fmt: skip


def workdir(folder: Path) -> Path:
    write_json(folder / 'study.json', STUDY)
    return folder


def row(epsilon: float, seed: int, direction: float = -1.0) -> dict[str, Any]:
    """Every scalar goes `direction` times epsilon; in the head every quantity of layers the other
    way, in the others the same way. Confidence does not change; loss_gap goes with the seed."""
    scalars: dict[str, Any] = dict.fromkeys(SCALARS, 0.5 + direction * epsilon + 0.01 * seed)
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
    epsilons=(0.0, 0.1, 0.2), seeds=(0, 1, 2), lams=(1.0,), widths=(0.5,), broken: bool = False
) -> list[Network]:
    """At the same training loss everything goes the other way."""
    return [
        Network(
            Cell(epsilon, width, lam, seed, f'eps{epsilon:g}-k{width:g}-lam{lam:g}-seed{seed}'),
            {**row(epsilon, seed), **images(epsilon, broken)},
            row(epsilon, seed, 1.0),
            0.7,
        )
        for epsilon in epsilons
        for width in widths
        for lam in lams
        for seed in seeds
    ]
