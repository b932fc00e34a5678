"""What is there of a study: its plan, the finished runs that belong to it, and those missing.

    study = read_study(Path('runs/study'))     # study.json and runs/, or study.json and rows.csv
    study.rows, study.missing                  # ['width 4, constant λ: λ = 1 seed 0']
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from war_jax.lab.probes import FIXED
from war_jax.records.files import ReportError, read_file, read_json, require
from war_jax.studies.width.results import Row, collect, read_rows
from war_jax.studies.width.tuning import best_lambdas

TARGETS = {
    'trajectory': 'WAR (target: trajectory)',
    'constant': 'WAR (target: constant)',
}


@dataclass(frozen=True)
class Study:
    config: Mapping[str, Any]  # of every run, but for width, lambda, seed and reference
    plan: Mapping[str, Any]  # widths, lams, seeds, war
    provenance: Mapping[str, Any]
    rows: Sequence[Row]
    curves: Mapping[str, Mapping[str, Any]]  # name of a run -> curves; empty without runs/

    @property
    def targets(self) -> Sequence[str]:
        """Of the WAR runs that are planned."""
        return self.plan['war']

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
    return Study(about['config'], about['study'], about['provenance'], rows, curves)


def planned(rows: Sequence[Row], plan: Mapping[str, Any]) -> list[Row]:
    """The rows that belong to the study as it is planned now.

    A study may have been larger before; and its WAR runs hold to its thinnest network at the best
    lambda of that, which further widths, seeds or lambdas can change.
    """

    def kept(row: Row) -> bool:
        return row['widen_factor'] in plan['widths'] and row['seed'] in plan['seeds']

    swept = [r for r in rows if kept(r) and r['method'] == FIXED and r['lambda'] in plan['lams']]
    thin = plan['widths'][0]
    reference = (thin, best_lambdas(swept).get(thin))
    adjusted = [
        row
        for row in rows
        if kept(row)
        and row['method'] in plan['war']
        and (row['reference_width'], row['lambda']) == reference
    ]
    return [row for row in rows if row in swept or row in adjusted]


def missing(plan: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """The planned runs without a row, one phrase per width and method."""
    finished = {(row['method'], row['widen_factor'], row['seed'], row['lambda']) for row in rows}
    # A WAR run starts at whatever lambda the thin network's sweep ends with.
    started = {key[:3] for key in finished}
    absent = []
    for width in plan['widths']:
        cells = [
            f'λ = {lam:g} seed {seed}'
            for seed in plan['seeds']
            for lam in plan['lams']
            if (FIXED, width, seed, lam) not in finished
        ]
        if cells:
            absent.append(f'width {width:g}, constant λ: {", ".join(cells)}')
    for width in plan['widths'][1:]:
        for target in plan['war']:
            seeds = [seed for seed in plan['seeds'] if (target, width, seed) not in started]
            if seeds:
                which = ', '.join(f'seed {seed}' for seed in seeds)
                absent.append(f'width {width:g}, {TARGETS[target]}: {which}')
    return absent
