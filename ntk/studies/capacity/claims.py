"""The rows of a study of capacity: smallest widths, their powers of n and d, verdicts.

    study = read_study(Path('runs/capacity'))
    study.samples('width', over='dimension', radius=0.9)        # {4: [12, 10, 14], 8: ...}
    for claim in evaluate(study): print(claim.verdict, claim.statement, claim.effect)

The predictions are counts of numbers: a network of width m in dimension d has m (d + 1) weights;
plain interpolation fixes one number per point, hence m* ~ n/d; as rho -> 1 robust interpolation of
a pair fixes the normal of the boundary between its points, d numbers, hence m* ~ n.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntk.studies.capacity.settings import Cell, Settings, resolve_capacity
from ntk.studies.claims import decide_range, power_law
from war_jax.records.files import ReportError, read_file, read_json, require
from war_jax.studies.width.claims import Claim

Row = dict[str, Any]
TOLERANCE = 0.25  # of a power: widths are found within a factor, and n and d span two octaves


@dataclass(frozen=True)
class Study:
    settings: Settings
    provenance: Mapping[str, Any]
    widths: dict[Cell, Row]
    norms: dict[Cell, Row]
    missing: list[str]

    def samples(self, key: str, over: str, **fixed: Any) -> dict[Any, list[float]]:
        """Value of `over` ('num_pairs', 'dimension', 'radius') -> the seeds' values.

        key: 'width', the smallest that interpolates; 'norm', the smallest RKHS norm; and their
        ratios to those of plain interpolation of the same points, 'width_ratio', 'norm_ratio'. All
        else is the base or `fixed`. Empty if a width was not found, as those that were would speak
        for it.
        """
        where = {**vars(self.settings.base), **fixed}
        where.pop(over, None)
        found: dict[Any, list[float]] = {}
        for cell in self.settings.cells:
            if all(getattr(cell, name) == value for name, value in where.items()):
                rows = self.widths if key.startswith('width') else self.norms
                if cell in rows:
                    value = self.value(cell, key)
                    if value is None:
                        return {}
                    found.setdefault(getattr(cell, over), []).append(value)
        return dict(sorted(found.items()))

    def value(self, cell: Cell, key: str) -> float | None:
        name, _, ratio = key.partition('_')
        rows, column = (
            (self.widths, 'smallest_width') if name == 'width' else (self.norms, 'norm_lower')
        )
        value = rows[cell][column]
        if not ratio or value is None:
            return value
        plain = Cell(cell.num_pairs, cell.dimension, 0.0, cell.seed)
        base = rows[plain][column] if plain in rows else None
        return None if base is None else value / base


def read_study(workdir: Path) -> Study:
    """Raises ReportError, one line, for files that cannot be read."""
    if not (workdir / 'study.json').is_file():
        raise ReportError(f'{workdir}: missing study.json; ntk.main writes it first')
    about = read_file(workdir / 'study.json', read_json)
    require(workdir / 'study.json', about, ('config', 'grid', 'provenance'))
    settings = resolve_capacity({**about['config'], 'grid': about['grid']})
    found: dict[str, dict[Cell, Row]] = {'widths': {}, 'kernels': {}}
    missing = []
    for folder, rows in found.items():
        for cell in settings.cells:
            path = workdir / folder / f'{cell.name}.json'
            if path.exists():
                rows[cell] = read_file(path, read_json)
            else:
                missing.append(f'{folder}/{cell.name}')
    return Study(settings, about['provenance'], found['widths'], found['kernels'], missing)


def evaluate(study: Study) -> list[Claim]:
    """The claim of the theory first, then the predicted powers, then the kernel."""
    return [*_growth(study), *_powers(study)]


def _growth(study: Study) -> Iterator[Claim]:
    rho = study.settings.base.radius
    for key, over, statement in (
        ('width_ratio', 'dimension', 'Robust m* / plain m* grows with the dimension'),
        ('width', 'radius', 'm* grows with the robustness radius, as a power of 1 / (1 − ρ)'),
        ('norm_ratio', 'dimension', 'Robust / plain RKHS norm grows with the dimension'),
        ('norm', 'radius', 'The RKHS norm grows as a power of 1 / (1 − ρ)'),
    ):
        samples = study.samples(key, over)
        if over == 'radius':
            samples = {1.0 / (1.0 - radius): values for radius, values in samples.items()}
        at = f'ρ = {rho:g}' if over == 'dimension' else f'd = {study.settings.base.dimension}'
        yield decide_range(
            f'{key}-grows-with-{over}',
            statement,
            power_law(samples),
            (0.0, math.inf),
            'power of d' if over == 'dimension' else 'power of 1/(1 − ρ)',
            f'n = {study.settings.base.num_pairs} pairs, {at}; supported if the interval is above '
            '0.',
        )


def _powers(study: Study) -> Iterator[Claim]:
    rho = study.settings.base.radius
    for key, over, radius, power in (
        ('width', 'num_pairs', 0.0, 1.0),
        ('width', 'dimension', 0.0, -1.0),
        ('width', 'num_pairs', rho, 1.0),
        ('width', 'dimension', rho, 0.0),
        ('width_ratio', 'dimension', rho, 1.0),
    ):
        letter = 'n' if over == 'num_pairs' else 'd'
        kind = 'Plain m*' if not radius else 'Robust m*'
        kind = 'Robust m* / plain m*' if key == 'width_ratio' else kind
        yield decide_range(
            f'{key}-{over}-rho{radius:g}',
            f'{kind} goes as {letter}^{power:g}'.replace('-', '−'),
            power_law(study.samples(key, over, radius=radius)),
            (power - TOLERANCE, power + TOLERANCE),
            f'power of {letter}',
            f'Supported if the whole interval is within {TOLERANCE:g}.',
        )
