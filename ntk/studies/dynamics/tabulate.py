"""The tables of the report, as columns and rows for war_jax/lab/tables.py.

    text = write_table(folder, 'exponents', *exponents(changes(rows)))
    text = write_table(folder, 'kernel', *by_cell(rows, TABLES['kernel'][1]))      # of a study
    text = write_table(folder, 'kernel', *by_step(rows, TABLES['kernel'][1]))      # of one run
    text = conditions_table(found, settings, rows)
"""

import math
from collections.abc import Sequence
from typing import Any

from ntk.studies.dynamics import findings
from ntk.studies.dynamics.findings import END, QUANTITIES, START, Change, Interval, Row
from ntk.studies.dynamics.runs import Found
from ntk.studies.dynamics.settings import Settings
from war_jax.config import to_dict
from war_jax.lab import tables
from war_jax.lab.tables import Column, decimal, factor_mean
from war_jax.report import conditions
from war_jax.studies.width.results import FIXED

Table = tuple[list[Column], list[dict[str, Any]]]

# name -> (heading, quantities)
TABLES = {
    'kernel': (
        'The kernel and the weights',
        ('kernel_drift', 'kernel_alignment', 'label_alignment', 'kernel_trace', 'weight_movement'),
    ),
    'gradients': (
        'Input gradients',
        (
            'output_gradient_train', 'output_gradient_test',
            'loss_gradient_train', 'loss_gradient_test', 'spectral_product',
        ),
    ),
    'lipschitz': (
        'Local Lipschitzness',
        (
            'local_lipschitz_train', 'local_lipschitz_test',
            'local_lipschitz_kl_gradient_train', 'local_lipschitz_kl_gradient_test',
        ),
    ),
    'accuracy': (
        'Accuracy and risk on the same images',
        tuple(key for key in QUANTITIES if key.startswith(('natural_', 'robust_'))),
    ),
}  # fmt: skip
_STATISTICS = {
    'batch': 'the moments of the training images measured on, at each probe; the derivatives in '
    'the kernel go through them',
    'inference': 'the running ones; at the first step these are 0 and 1, so that the kernel also '
    'moves because they do',
}


def by_step(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    """Of one run: a row per probe."""
    columns = [Column('step', 'Step'), Column('epoch', 'Epoch', '{:g}'.format)]
    return [*columns, *(Column(key, QUANTITIES[key].title, _number) for key in keys)], list(rows)


def by_cell(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    """Of a study: a row per width before training, and per width and lambda after it."""
    columns = [
        Column('when', 'When', align='l'),
        Column('widen_factor', 'Width k', '{:g}'.format),
        Column('lambda', 'λ', '{:g}'.format),
        Column('seeds', 'Seeds'),
    ]
    for key in keys:
        shown = factor_mean if QUANTITIES[key].by_factors else plus_minus
        columns.append(Column(key, QUANTITIES[key].title, shown))
    groups: dict[tuple[str, float, float | None], list[Row]] = {}
    for row in findings.initial(rows):
        groups.setdefault((START, row['widen_factor'], None), []).append(row)
    for row in findings.trained(rows):
        if row['method'] == FIXED:
            groups.setdefault((END, row['widen_factor'], row['lambda']), []).append(row)
    found = []
    for (when, width, lam), group in groups.items():
        about = {'when': when, 'widen_factor': width, 'lambda': lam, 'seeds': len(group)}
        known = [key for key in keys if when == END or not QUANTITIES[key].from_start]
        values = {key: findings.over_seeds(group, key) for key in known}
        found.append({**dict.fromkeys(keys), **about, **values})
    return columns, found


def exponents(changes: Sequence[Change]) -> Table:
    """A row per quantity; a column for the start, for each lambda, and for the mean over them."""
    lams = sorted({change.lam for change in changes if change.lam is not None})
    columns = [
        Column('title', 'Quantity', align='l'),
        Column('start', START.capitalize(), decimal_mean),
        *(Column(f'lambda_{lam:g}', f'λ = {lam:g}', decimal_mean) for lam in lams),
    ]
    if len(lams) > 1:
        columns.append(Column('mean', 'Mean over λ', decimal_mean))
    found: dict[str, dict[str, Any]] = {}
    for change in changes:
        quantity = QUANTITIES[change.quantity]
        row = found.setdefault(change.quantity, dict.fromkeys(column.key for column in columns))
        row['title'] = quantity.title + ('' if quantity.by_factors else ' (+)')
        cell = 'start' if change.when == START else 'mean'
        row[cell if change.lam is None else f'lambda_{change.lam:g}'] = change.effect
    return columns, list(found.values())


def changes_table(changes: Sequence[Change]) -> Table:
    """The same with a row per number, for programs."""
    columns = [
        Column('quantity', 'Quantity', align='l'),
        Column('when', 'When', align='l'),
        Column('lambda', 'λ', align='l'),
        Column('effect', 'Change', decimal_mean),
        Column('unit', 'Unit', align='l'),
        Column('num_seeds', 'Seeds'),
    ]
    return columns, [{**vars(change), 'lambda': _lambdas(change)} for change in changes]


def conditions_table(found: Found, settings: Settings, rows: Sequence[Row]) -> str:
    """What the numbers of the page depend on, as a Markdown table."""
    run = found.runs[0]
    config, threat = to_dict(run.config), to_dict(run.config)['threat']
    num_steps = settings.attack_steps or run.config.evaluation.num_steps
    steps = [str(row['step']) for row in rows if row['run'] == run.name]
    lam = 'λ as the tables say' if found.is_study else f'λ = {run.lam:g}'
    seconds = tables.duration(sum(row['seconds'] for row in rows))
    cells = [
        ('Runs', f'{len(found.runs)} in {run.workdir.parent}' if found.is_study else run.name),
        ('Data', run.data),
        (
            'Images measured on',
            f'{rows[0]["num_train"]} training and {rows[0]["num_test"]} test images, balanced over '
            'the classes, the same for all probes',
        ),
        (
            'Kernel',
            'empirical NTK on the training images: inner products of the derivatives of the logits '
            'by all trained parameters, mean over the logits',
        ),
        ('BatchNorm’s statistics', _STATISTICS[settings.batch_norm]),
        (
            'Robust accuracy, KL gradient',
            f'one attack each, of {num_steps} PGD steps that together are as long as those of the '
            f'run’s evaluation; {conditions.ball(threat)}',
        ),
        ('Output ratio', '10 steps of ε/4 from a start close to the image; same ball'),
        (
            'Product of spectral norms',
            'each convolution as the linear map of images that it is (Lanczos iteration), '
            'BatchNorm’s gains with the statistics above',
        ),
        ('Training', conditions.training(config, lam)),
        ('Optimizer', conditions.optimizer(config)),
        ('Probes', f'steps {", ".join(steps)} of {rows[0]["last_step"]}'),
        ('Commit', ', '.join(sorted({str(row['commit']) for row in rows}))),
        ('Devices', ', '.join(sorted({row['device'] for row in rows}))),
        ('Time', f'{seconds} for {len(rows)} probes, with compilation'),
    ]
    if found.is_study:
        note = (
            '95 %, Student’s t over seeds: they cover the draw of the seed, not that of the '
            'images. What differs by factors is averaged in logarithms.'
        )
        cells.insert(-3, ('Intervals', note))
    return tables.markdown(('What', 'How'), cells, 'll')


def decimal_mean(value: Interval) -> str:
    """(0.31, 0.27, 0.35) -> '0.31 (0.27 to 0.35)'; of one seed without the interval."""
    mean, lower, upper = value
    interval = f' ({decimal(lower)} to {decimal(upper)})' if math.isfinite(upper) else ''
    return decimal(mean) + interval


def plus_minus(value: Interval) -> str:
    """(0.47, 0.45, 0.49) -> '0.470 ± 0.020'; of one seed without the half interval."""
    mean, _, upper = value
    return f'{mean:.3f}' + (f' ± {upper - mean:.3f}' if math.isfinite(upper) else '')


def _number(value: float) -> str:
    return tables.number(value, 3)


def _lambdas(change: Change) -> str | None:
    if change.when == START:
        return None
    listed = ', '.join(f'{lam:g}' for lam in change.lams)
    return listed if change.lam is not None else f'mean over {listed}'
