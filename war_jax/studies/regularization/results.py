"""What was measured of networks, as claims, tables and figures take it.

    networks = read_networks(Path('docs/studies/epsilon'))            # of its rows.csv
    axes(networks)                                                    # ['epsilon']
    samples(networks, 'epsilon', 'final', 'margin')                   # epsilon -> seed -> margin
    samples(networks, 'epsilon', 'matched', 'std', layer='stem')

rows.csv has two rows for each network, at the end of training and where all had the same training
loss: its conditions, the scalars, and the layers as JSON. Lists with a number per image are left
out; no claim needs them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from war_jax.lab.estimates import Samples
from war_jax.lab.experiment import read_rows, rows_text
from war_jax.records.files import ReportError, read_file, require, write_text
from war_jax.studies.regularization.measure import SCALARS, Row

Axis = Literal['epsilon', 'lam', 'width']
When = Literal['final', 'matched']
AXES: dict[Axis, str] = {'epsilon': 'ε', 'lam': 'λ', 'width': 'width'}
WHEN: dict[When, str] = {'final': 'at the end', 'matched': 'at the same training loss'}
CONDITIONS = ('epsilon', 'width', 'lam', 'seed')


@dataclass(frozen=True, order=True)
class Cell:
    """A finished run; what is measured of it stands in folder/name/."""

    epsilon: float
    width: float
    lam: float
    seed: int
    name: str
    folder = 'measured'

    @property
    def conditions(self) -> Row:
        return {key: getattr(self, key) for key in CONDITIONS}


@dataclass(frozen=True)
class Network:
    """What was measured of one run."""

    cell: Cell
    final: Row
    matched: Row  # scalars and layers only, interpolated
    matched_loss: float


def axes(networks: Sequence[Network]) -> list[Axis]:
    """What differs between the networks, besides their seeds."""
    return [axis for axis in AXES if len({getattr(n.cell, axis) for n in networks}) > 1]


def common_layers(networks: Sequence[Network]) -> list[str]:
    """Those that every network has: of some widths, the first block needs no projection."""
    first, *others = (network.final['layers'] for network in networks)
    return [name for name in first if all(name in layers for layers in others)]


def samples(
    networks: Sequence[Network], axis: Axis, when: When, key: str, layer: str = ''
) -> Samples:
    """x -> seed -> value, the mean over what else differs; a seed counts at an x if it has all of
    this there, with a value."""
    found: dict[float, dict[int, list[float]]] = {}
    others = set()
    for network in networks:
        conditions = network.cell.conditions
        by_seed = found.setdefault(conditions.pop(axis), {})
        seed = conditions.pop('seed')
        others.add(tuple(conditions.values()))
        row = getattr(network, when)
        value = (row['layers'][layer] if layer else row)[key]
        if value is not None:
            by_seed.setdefault(seed, []).append(value)
    return {
        x: {
            seed: math.fsum(values) / len(values)
            for seed, values in sorted(by_seed.items())
            if len(values) == len(others)
        }
        for x, by_seed in sorted(found.items())
    }


def bounds_and_distances(networks: Sequence[Network]) -> list[tuple[float, float]]:
    """(lower bound, distance) of each test image for which another prediction was found."""
    return [
        (low, distance)
        for network in networks
        for low, distance in zip(
            network.final['lower_bounds'], network.final['distances'], strict=True
        )
        if distance is not None
    ]


def write_networks(folder: Path, networks: Sequence[Network]) -> None:
    """folder/rows.csv."""
    rows = {
        network.cell: [
            {
                **network.cell.conditions, 'when': when, 'matched_loss': network.matched_loss,
                **{key: getattr(network, when)[key] for key in (*SCALARS, 'layers')},
            }
            for when in WHEN
        ]
        for network in networks
    }  # fmt: skip
    write_text(folder / 'rows.csv', rows_text(rows))


def read_networks(folder: Path) -> list[Network]:
    """Of folder/rows.csv. Raises ReportError, one line, for another file."""
    path = folder / 'rows.csv'
    if not path.is_file():
        raise ReportError(f'{folder}: missing rows.csv, which comes with the report')
    networks = []
    for (_, name), rows in read_file(path, read_rows).items():
        by_when = {row.get('when'): row for row in rows} if isinstance(rows, list) else {}
        require(path, by_when, tuple(WHEN))
        final, matched = (by_when[when] for when in WHEN)
        for row in (final, matched):
            require(path, row, (*CONDITIONS, *SCALARS, 'layers', 'matched_loss'))
        cell = Cell(**{key: final[key] for key in CONDITIONS}, name=name)
        networks.append(Network(cell, final, matched, final['matched_loss']))
    return networks
