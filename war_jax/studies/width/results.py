"""The finished runs of a study as rows of one table, and their curves.

    rows, curves = collect(Path('runs/study/runs'))
    write_text(Path('runs/study/rows.csv'), csv_text(COLUMNS, rows))
    rows == read_rows(Path('runs/study/rows.csv'))
    rows[0]['robust_accuracy'], curves[rows[0]['run']]['validation'][-1]['epoch']

A row is a dictionary with the keys of COLUMNS; what a run could not measure is None.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from war_jax.lab.estimates import BySeed, Samples, changes, powers
from war_jax.lab.probes import FIXED
from war_jax.lab.quantities import quantity
from war_jax.lab.runs import FinishedRun, read_run
from war_jax.studies.width.tasks import method_of

COLUMNS = (
    'run',
    'method',  # 'fixed' lambda of the grid, or a variant of war_jax/studies/width/tasks.py
    'depth',
    'widen_factor',
    'seed',
    'lambda',  # constant, or with WAR that of the thin network
    'final_lambda',
    'reference_width',  # of the thin network to which WAR holds
    'zeta',  # the risk ratio to which WAR holds at the end of training
    'natural_accuracy',  # of test images, under the headline attack, as the next two
    'robust_accuracy',
    'perturbation_stability',
    'robust_accuracy_all',  # under all attacks together, as the next one
    'perturbation_stability_all',
    'autoattack_accuracy',  # of the networks at their width's best lambda; see autoattack.py
    'autoattack_commit',  # of the program that attacked them
    'local_lipschitz',
    'local_lipschitz_kl_gradient',
    'margin',
    'lipschitz_by_margin',
    'natural_accuracy_train',  # of the same network on training images, as the next two
    'robust_accuracy_train',
    'perturbation_stability_train',
    'robust_accuracy_last',  # of the network that training ended with, on test images
    'robust_overfitting',  # robust_accuracy - robust_accuracy_last
    'matched_loss',  # the smallest training loss that all widths reach; see matched.py
    'natural_accuracy_matched',  # on validation images at that loss, as the next two
    'robust_accuracy_matched',
    'perturbation_stability_matched',
    'natural_risk',  # moving averages at the end of training, as the next two
    'robust_regularization',
    'risk_ratio',
    'validation_robust_accuracy',  # of the checkpoint that the other columns are about
    'num_validation',  # images behind it
    'best_epoch',
    'epochs',
    'num_examples',
    'epsilon',
    'norm',
    'device_seconds',  # wall time x devices, for training, validation, test and compilation
    'device',  # with how many of them, e.g. '1 × cpu'
    'commit',
)
_TEXTS = ('run', 'method', 'norm', 'device', 'commit', 'autoattack_commit')
_COUNTS = ('depth', 'seed', 'num_validation', 'epochs', 'num_examples')
Row = dict[str, Any]
Cell = tuple[float, float, int]  # widen factor, lambda, seed


def collect(runs_dir: Path) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """Rows in the order of width, method, lambda and seed; and, by the name of the run, its curves.

    A folder without summary.json holds no finished run and is left out. The curves of a run are the
    rows of its metrics.jsonl of kind 'train' and 'validation', lambda at its 'start' and, for WAR,
    the 'target' of its risk ratio: values at equal steps of training, the last one at its end;
    empty otherwise.

    Raises ReportError, one line, for a finished run whose files cannot be read.
    """
    rows, curves = [], {}
    for workdir in sorted(path.parent for path in runs_dir.glob('*/summary.json')):
        run = read_run(workdir)
        rows.append(_row(run))
        curves[workdir.name] = {
            **run.curves,
            'start': run.summary['lambda_start'],
            'target': _target(rows[-1]['method'], run.about),
        }
    rows.sort(
        key=lambda row: tuple(row[key] for key in ('widen_factor', 'method', 'lambda', 'seed'))
    )
    return rows, curves


def read_rows(path: Path) -> list[Row]:
    """From a file of the columns above; what it has not is None.

    Raises ValueError for a file of something else.
    """
    with path.open(newline='', encoding='utf-8') as file:
        lines = csv.DictReader(file)
        if 'widen_factor' not in (lines.fieldnames or ()):
            raise ValueError('no rows of runs')
        return [{key: _value(key, line.get(key) or '') for key in COLUMNS} for line in lines]


def _value(key: str, text: str) -> Any:
    if not text:
        return None
    if key in _TEXTS:
        return text
    return int(text) if key in _COUNTS else float(text)


def fixed(rows: Iterable[Row]) -> dict[Cell, Row]:
    """The runs of constant lambda: (widen factor, lambda, seed) -> row."""
    return {
        (row['widen_factor'], row['lambda'], row['seed']): row
        for row in rows
        if row['method'] == FIXED
    }


def of_method(rows: Iterable[Row], method: str, widen_factor: float) -> dict[int, Row]:
    """The runs of one variant at one width: seed -> row."""
    return {
        row['seed']: row
        for row in rows
        if row['method'] == method and row['widen_factor'] == widen_factor
    }


def samples(rows: Iterable[Row], key: str, x: str, line: str, at: float) -> Samples:
    """x -> seed -> value of a column, of the runs of constant lambda whose column `line` is `at`.

    x, line: 'widen_factor' and 'lambda', or the other way round. What was not measured is left out.
    """
    found: dict[float, dict[int, float]] = {}
    for row in rows:
        if row['method'] == FIXED and row[line] == at and row[key] is not None:
            found.setdefault(row[x], {})[row['seed']] = row[key]
    return found


def slopes(rows: Sequence[Row], key: str, lam: float) -> BySeed:
    """seed -> change of a column with width at one lambda, of seeds that have it at every width.

    Of a rate: points per doubling of the width. Of what differs by factors: the exponent of the
    width. Empty where a width has none of this lambda.
    """
    found = samples(rows, key, 'widen_factor', 'lambda', lam)
    if sorted(found) != widths(rows):
        return {}
    return powers(found) if quantity(key).by_factors else changes(found, 100.0)


def slopes_unit(key: str) -> str:
    by_factors = quantity(key).by_factors
    return 'exponent of the width' if by_factors else 'points per doubling of the width'


def widths(rows: Iterable[Row]) -> list[float]:
    """The widths at which lambda was swept, the thinnest first."""
    return sorted({width for width, _, _ in fixed(rows)})


def lambdas(rows: Sequence[Row]) -> list[float]:
    """Those tried at any width, in order."""
    return sorted({lam for _, lam, _ in fixed(rows)})


def _row(run: FinishedRun) -> Row:
    config = run.about['config']
    reference = run.about.get('reference')  # None of a constant lambda
    row = {
        'run': run.workdir.name,
        'method': method_of(run.workdir.name),
        'depth': config['model']['depth'],
        'widen_factor': config['model']['widen_factor'],
        'seed': config['seed'],
        # Of WAR the reference's, not the summary's: that has been through float32.
        'lambda': reference['lam'] if reference else config['objective']['lam'],
        'reference_width': reference and reference['widen_factor'],
        'zeta': reference and reference['zeta'],
        'epochs': config['optimizer']['epochs'],
        **run.measured,
    }
    return {key: row.get(key) for key in COLUMNS}  # what is matched is a matter of all rows


def _target(method: str, about: Mapping[str, Any]) -> list[float]:
    """The thin network's risk ratios, to which config.json says that a WAR run was held."""
    reference = about.get('reference')
    if not reference:
        return []
    return reference['trajectory'] if method == 'trajectory' else [reference['zeta']]
