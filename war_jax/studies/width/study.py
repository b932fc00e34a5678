"""What is there of a study: its plan, the finished runs that belong to it, and those missing.

    study = read_study(Path('runs/study'))     # study.json and runs/, or study.json and rows.csv
    study.rows, study.missing                  # ['width 4, constant λ: λ = 1 seed 0']
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from war_jax.records.files import ReportError, read_file, read_json, require
from war_jax.studies.width.autoattack import with_autoattack
from war_jax.studies.width.matched import with_matched
from war_jax.studies.width.results import Row, collect, of_method, read_rows
from war_jax.studies.width.tasks import TITLES, Plan, grid, variants
from war_jax.studies.width.variants import all_tasks


@dataclass(frozen=True)
class Study:
    config: Mapping[str, Any]  # of every run, but for width, lambda, seed and reference
    plan: Plan
    provenance: Mapping[str, Any]
    rows: Sequence[Row]
    curves: Mapping[str, Mapping[str, Any]]  # name of a run -> curves; empty without runs/

    @property
    def methods(self) -> list[str]:
        """The variants that are planned at the widest network."""
        return [method for method, width in variants(self.plan) if width == self.plan['widths'][-1]]

    @property
    def num_devices(self) -> int:
        """At which runs went on at the same time, together."""
        return self.provenance['num_devices']

    @property
    def missing(self) -> list[str]:
        """The planned runs that are not finished, one phrase per width and method."""
        return missing(self.plan, self.rows)


def read_study(folder: Path) -> Study:
    """From the workdir of a study, or from a folder that holds study.json and rows.csv alone.

    Raises ReportError, one line, for files that cannot be read.
    """
    path = folder / 'study.json'
    if not path.is_file():
        raise ReportError(f'{folder}: missing study.json; war_jax.studies.width writes it first')
    about = read_file(path, read_json)
    require(path, about, ('config', 'study', 'provenance'))
    kept = folder / 'rows.csv'
    if kept.is_file() and not (folder / 'runs').is_dir():
        rows, curves = read_file(kept, read_rows), {}
    else:
        rows, curves = collect(folder / 'runs')
    rows = planned(rows, about['study'])
    if curves:
        rows = with_matched(rows, curves)
        if count := about['study'].get('autoattack_examples', 0):
            rows = with_autoattack(rows, folder / 'runs', count)
    return Study(about['config'], about['study'], about['provenance'], rows, curves)


def planned(rows: Sequence[Row], plan: Plan) -> list[Row]:
    """The rows that belong to the study as it is planned now.

    A study may have been larger before; and what its variants hold to are the best lambdas of
    thinner networks, which further widths, seeds or lambdas can change.
    """
    names = {task.name for task in grid(plan)}
    swept = [row for row in rows if row['run'] in names]
    names |= {task.name for task in all_tasks(plan, swept)}
    return [row for row in rows if row['run'] in names]


def missing(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """The planned runs without a row, one phrase per width and method."""
    finished = {row['run'] for row in rows}
    absent: dict[str, list[str]] = {f'width {k:g}, constant λ': [] for k in plan['widths']}
    for task in grid(plan):
        if task.name not in finished:
            cell = f'λ = {task.lam:g} seed {task.seed}'
            absent[f'width {task.width:g}, constant λ'].append(cell)
    for method, width in sorted(variants(plan), key=itemgetter(1)):
        # At whatever lambda the sweeps end with, if they are not finished.
        started = of_method(rows, method, width)
        absent[f'width {width:g}, {TITLES[method]}'] = [
            f'seed {seed}' for seed in plan['seeds'] if seed not in started
        ]
    return [f'{what}: {", ".join(cells)}' for what, cells in absent.items() if cells]
