"""The rows of a study of convergence: gaps, exponents with intervals, verdicts.

    study = read_study(Path('runs/convergence'))
    study.samples('softplus', 'gap', over='width', radius=8.0)     # {64: [0.001, ...], ...}
    for claim in evaluate(study): print(claim.verdict, claim.statement, claim.effect)

`gap` is min over the steps of L_A, minus the best robust loss of the linearised network in the
same ball (its certified lower bound). Training without projection is compared with the best in the
largest ball of the grid.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntk.studies.claims import decide_range, mean_fit, power_law
from ntk.studies.convergence.settings import (
    Cell,
    DesignName,
    Optimum,
    Settings,
    resolve_convergence,
)
from ntk.studies.width.claims import Fit
from war_jax.records.files import ReportError, read_file, read_json, require
from war_jax.studies.width.claims import Claim

Row = dict[str, Any]
TOLERANCE = 0.02  # of a loss, log 2 = 0.69 being that of no movement
FLAT = 0.1  # of an exponent
LINEARISATION = (-1.0, -0.4)  # powers of m
NAMES = {
    'softplus': 'two-layer softplus',
    'relu': 'two-layer ReLU',
    'deep': 'deep ReLU',
}


@dataclass(frozen=True)
class Study:
    settings: Settings
    provenance: Mapping[str, Any]
    rows: dict[Cell, Row]
    best: dict[Optimum, Row]
    missing: list[str]

    def samples(
        self, design: DesignName, key: str, over: str = 'width', **fixed: Any
    ) -> dict[Any, list[float]]:
        """Value of `over` -> the seeds' values of `key`, all else being the base or `fixed`.

        Leaves out what is not finite.
        """
        base = self.settings.base
        where = {'radius': base.radius, 'epsilon': base.epsilon, 'attack': base.attack, **fixed}
        where.pop(over, None)
        found: dict[Any, list[float]] = {}
        for cell in self.settings.cells:
            same = all(getattr(cell, name) == value for name, value in where.items())
            if cell.design == design and same and cell in self.rows:
                value = self.value(cell, key)
                if value is not None:
                    found.setdefault(getattr(cell, over), []).append(value)
        return found

    def value(self, cell: Cell, key: str) -> float | None:
        row = self.rows[cell]
        if key in ('movement', 'row_movement'):
            per_layer = row[key]
            whole = math.hypot if key == 'movement' else max
            return None if None in per_layer else whole(*per_layer, 0.0)
        if key == 'least':
            return row['least_attacked_loss'][-1]
        best = self.best.get(self.optimum_of(cell))
        if key == 'gap':
            least = row['least_attacked_loss'][-1]
            return None if best is None or least is None else least - best['lower']
        if key == 'best':
            return None if best is None else best['lower']
        return row[key]

    def optimum_of(self, cell: Cell) -> Optimum:
        radius = cell.radius or self.settings.grid.radii[-1]
        return Optimum(cell.design, cell.width, radius, cell.epsilon, cell.seed)

    def gaps_over_time(self, design: DesignName, radius: float) -> dict[float, list[float]]:
        """Steps -> the seeds' gaps by then, at the widest; as long as they exceed the tolerance.

        The best loss itself is known within that tolerance only.
        """
        found: dict[float, list[float]] = {}
        base = self.settings.base
        for cell, row in self.rows.items():
            same = (cell.design, cell.radius) == (design, radius)
            same &= (cell.epsilon, cell.attack) == (base.epsilon, base.attack)
            best = self.best.get(self.optimum_of(cell))
            if same and best and cell.width == self.settings.widths(design)[-1]:
                for steps, loss in zip(row['steps'], row['least_attacked_loss'], strict=True):
                    found.setdefault(steps, []).append(loss - best['lower'])
        tolerance = self.settings.strong.tolerance
        return {steps: gaps for steps, gaps in found.items() if min(gaps) > tolerance}


def titled(design: DesignName) -> str:
    return NAMES[design][0].upper() + NAMES[design][1:]


def read_study(workdir: Path) -> Study:
    """Raises ReportError, one line, for files that cannot be read."""
    if not (workdir / 'study.json').is_file():
        raise ReportError(f'{workdir}: missing study.json; ntk.main writes it first')
    about = read_file(workdir / 'study.json', read_json)
    require(workdir / 'study.json', about, ('config', 'grid', 'provenance'))
    settings = resolve_convergence({**about['config'], 'grid': about['grid']})
    rows: dict[Cell, Row] = {}
    best: dict[Optimum, Row] = {}
    missing = []
    folders: Any = (('cells', settings.cells, rows), ('optima', settings.optima, best))
    for folder, cases, found in folders:
        for case in cases:
            path = workdir / folder / f'{case.name}.json'
            if path.exists():
                found[case] = read_file(path, read_json)
            else:
                missing.append(f'{folder}/{case.name}')
    return Study(settings, about['provenance'], rows, best, missing)


def widest(study: Study, design: DesignName, key: str, **fixed: Any) -> Fit | None:
    """Mean over seeds at the widest network."""
    samples = study.samples(design, key, **fixed)
    return mean_fit(samples.get(study.settings.widths(design)[-1], []))


def evaluate(study: Study) -> list[Claim]:
    """In the order of the paper: convergence in the ball, without it, movement, linearisation."""
    return [*_converges(study), *_any_attack(study), *_moves(study), *_linear(study)]


def _converges(study: Study) -> Iterator[Claim]:
    steps = study.settings.training.num_steps
    largest = study.settings.grid.radii[-1]
    for design in study.settings.grid.designs:
        m = study.settings.widths(design)[-1]
        for radius in study.settings.grid.radii:
            ball = f'projected on B({radius:g})' if radius else 'without projection'
            against = f'B({radius or largest:g})'
            yield decide_range(
                f'converges-{design}-R{radius:g}',
                f'{titled(design)}, {ball}: min_t L_A is at most {TOLERANCE:g} above '
                f'the best robust loss in {against}',
                widest(study, design, 'gap', radius=radius),
                (-math.inf, TOLERANCE),
                'loss',
                f'm = {m}, {steps} steps; Student’s interval over seeds.',
            )


def _any_attack(study: Study) -> Iterator[Claim]:
    base = study.settings.base
    samples = study.samples(base.design, 'gap', over='attack', width=base.width)
    for attack in study.settings.grid.attacks:
        yield decide_range(
            f'attack-{attack}',
            f'{titled(base.design)}, B({base.radius:g}), attack A = {attack}: min_t '
            f'L_A is at most {TOLERANCE:g} above the best robust loss',
            mean_fit(samples.get(attack, [])),
            (-math.inf, TOLERANCE),
            'loss',
            f'm = {base.width}.',
        )


def _moves(study: Study) -> Iterator[Claim]:
    for design in study.settings.grid.designs:
        if 0.0 not in study.settings.grid.radii:
            return
        for key, power, text in (
            ('movement', 0.0, '‖U‖ does not depend on width'),
            ('row_movement', -0.5, 'the largest movement of a row goes as m^−0.5'),
        ):
            if design == 'deep' and key == 'row_movement':
                continue  # 1/sqrt(m) is in its units
            yield decide_range(
                f'{key}-{design}',
                f'{titled(design)}, without projection: {text}',
                power_law(study.samples(design, key, radius=0.0)),
                (power - FLAT, power + FLAT),
                'power of m',
                f'Supported if the whole interval is within {FLAT:g}.',
            )


def _linear(study: Study) -> Iterator[Claim]:
    low, high = LINEARISATION
    for design in study.settings.grid.designs:
        for radius in study.settings.grid.radii:
            ball = f'in B({radius:g})' if radius else 'without projection'
            yield decide_range(
                f'linearisation-{design}-R{radius:g}',
                f'{titled(design)}, {ball}: the linearisation error falls as a power of m between '
                f'−{-low:g} and −{-high:g}',
                power_law(study.samples(design, 'linearisation_error', radius=radius)),
                LINEARISATION,
                'power of m',
                '‖f − f_lin‖ / ‖f_lin‖ on adversarial points.',
            )
