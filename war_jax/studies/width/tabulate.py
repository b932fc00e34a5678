"""The tables of a study's report, as rows and columns for war_jax/lab/tables.py.

    for name, (heading, note, table) in all_tables(study, ['robust_accuracy']).items():
        text = write_table(folder, name, *table)

A mean over seeds comes with its 95 % interval; that of what differs by factors is geometric.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from war_jax.lab import tables
from war_jax.lab.estimates import over_seeds
from war_jax.lab.probes import FIXED
from war_jax.lab.quantities import centre, quantity
from war_jax.lab.tables import Column, decimal, decimal_interval, factor_mean, percent, rate_mean
from war_jax.report import conditions as of_runs
from war_jax.studies.width import tuning
from war_jax.studies.width.results import Row, slopes, slopes_unit, war
from war_jax.studies.width.study import TARGETS, Study

Table = tuple[list[Column], list[dict[str, Any]]]
METHODS = {FIXED: 'constant λ', **TARGETS}

_WIDTH = Column('widen_factor', 'Width k', '{:g}'.format)
_LAMBDA = Column('lambda', 'λ', '{:g}'.format)
_SEEDS = Column('seeds', 'Seeds')
_RATES = [
    Column('natural_accuracy', 'Natural (%)', rate_mean),
    Column('robust_accuracy', 'Robust (%)', rate_mean),
    Column('perturbation_stability', 'Stability (%)', rate_mean),
    Column('robust_accuracy_all', 'Robust, all attacks (%)', rate_mean),
    Column('perturbation_stability_all', 'Stability, all attacks (%)', rate_mean),
]
_FACTORS = [
    Column('local_lipschitz', 'Lipschitzness, output ratio', factor_mean),
    Column('local_lipschitz_kl_gradient', 'Lipschitzness, KL gradient', factor_mean),
    Column('natural_risk', 'Natural risk', factor_mean),
    Column('robust_regularization', 'Robust regularization', factor_mean),
    Column('risk_ratio', 'Risk ratio', factor_mean),
]


def all_tables(study: Study, with_width: Iterable[str]) -> dict[str, tuple[str, str, Table]]:
    """name of the files -> heading, note and table; with_width: the quantities of the slopes."""
    rows = study.rows
    return {
        'accuracy': (
            'Accuracies by width and λ',
            'Mean and its 95 % interval over seeds, in percent of the test images.',
            accuracy(rows),
        ),
        'lipschitz': (
            'Local Lipschitzness and risks by width and λ',
            'Geometric mean over seeds and its 95 % interval.',
            lipschitz(rows),
        ),
        'slopes': (
            'Change with width at each λ',
            'Each interval stands alone. At which λ a claim above is decided, after the correction '
            'for their number, stands beside its verdict.',
            change_with_width(study, with_width),
        ),
        'optima': (
            'The best λ on validation images',
            'The peak is that of one parabola in log λ for all seeds of the width, its interval '
            'that of seeds and validation images drawn anew. Where so many of these fits have no '
            'peak within the grid, the best λ may lie beyond it.',
            optima(rows),
        ),
        'lambdas': ('λ for the widest network', '', lambdas_at_the_widest(study)),
        'war': ('Width adjusted regularization', '', adjusted(rows)),
        'costs': (
            'What tuning costs',
            'Device time of a run: wall time times devices, for training, validation and test. The '
            'median is over the finished runs of the width, of constant λ and with WAR alike, '
            'without the first on each device, which compile.',
            costs(study),
        ),
    }


def accuracy(rows: Sequence[Row]) -> Table:
    """By width and lambda, constant lambda only."""
    return _by_lambda(rows, _RATES)


def lipschitz(rows: Sequence[Row]) -> Table:
    """Local Lipschitzness and risks, by width and lambda, constant lambda only."""
    return _by_lambda(rows, _FACTORS)


def adjusted(rows: Sequence[Row]) -> Table:
    """The WAR runs, by width and target."""
    columns = [
        Column('lambda', 'λ at the start', factor_mean),
        Column('final_lambda', 'λ at the end', factor_mean),
        *_RATES[:4],
        _FACTORS[-1],
    ]
    moved = [row for row in rows if row['method'] != FIXED]
    method = Column('method', 'Method', METHODS.__getitem__, 'l')
    return [_WIDTH, method, _SEEDS, *columns], _grouped(moved, ('widen_factor', 'method'), columns)


def change_with_width(study: Study, keys: Iterable[str]) -> Table:
    """How much each quantity changes with width at each single lambda."""
    found = []
    for key in keys:
        for lam in study.plan['lams']:
            change = over_seeds(list(slopes(study.rows, key, lam).values()))
            if change is not None:
                found.append(
                    {
                        'quantity': key,
                        'lambda': lam,
                        'effect': change.value,
                        'interval': change.interval,
                        'unit': slopes_unit(key),
                        'seeds': change.num_seeds,
                    }
                )
    columns = [
        Column('quantity', 'Quantity', lambda key: quantity(key).title, 'l'),
        _LAMBDA,
        Column('effect', 'Change', decimal),
        Column('interval', '95 % interval', decimal_interval),
        Column('unit', 'Unit', align='l'),
        _SEEDS,
    ]
    return columns, found


def optima(rows: Sequence[Row]) -> Table:
    """The best lambda of each width."""
    columns = [
        _WIDTH,
        Column('num_seeds', 'Seeds'),
        Column('grid_lambda', 'Best λ of the grid', '{:g}'.format),
        Column('peak_lambda', 'λ at the peak', factor_mean),
        Column('at_edge', 'Fits without a peak in the grid', lambda share: percent(share, 0)),
    ]
    return columns, [vars(peak) for peak in tuning.peaks(rows)]


def lambdas_at_the_widest(study: Study) -> Table:
    """Ways to a lambda for the widest network."""
    growth = tuning.fit_growth(study.rows)
    found = {
        'sweep of the widest network itself': growth and growth.swept,
        'power law λ ~ k^p through the thinner networks': growth and growth.predicted,
    }
    for target in study.targets:
        runs = war(study.rows, target, study.plan['widths'][-1])
        final = (row['final_lambda'] for row in runs.values())
        found[f'{TARGETS[target]}, at the end of training'] = centre(
            final, quantity('final_lambda')
        )
    columns = [Column('way', 'By', align='l'), Column('lambda', 'λ at the widest', factor_mean)]
    return columns, [{'way': way, 'lambda': mean} for way, mean in found.items()]


def costs(study: Study) -> Table:
    """Device-seconds of a run, and for one seed's tuned lambda, by width; and the latter by WAR."""
    columns = [
        Column('way', 'For one seed', align='l'),
        Column('num_runs', 'Runs counted'),
        Column('median', 'Median run', tables.duration),
        Column('num_lambdas', 'λ'),
        Column('total', 'In all', tables.duration),
    ]
    rows, number = study.rows, len(tuning.lambdas(study.rows))
    found: list[dict[str, Any]] = [
        {
            **vars(time),
            'way': f'sweep at width {time.widen_factor:g}',
            'num_lambdas': number,
            'total': number * time.median,
        }
        for time in tuning.run_times(rows, study.num_devices)
    ]
    cost = tuning.tuning_cost(rows, study.num_devices)
    if cost is not None:
        thin, wide = cost.thinnest.widen_factor, cost.widest.widen_factor
        way = f'WAR: sweep at width {thin:g}, then one run at width {wide:g}'
        found.append({**dict.fromkeys(column.key for column in columns), 'way': way})
        found[-1]['total'] = cost.thin_sweep + cost.war
    return columns, found


def networks(study: Study) -> str:
    """'WRN-10-k, k = 0.125 … 1'."""
    planned = study.plan['widths']
    span = f'{planned[0]:g}' + (f' … {planned[-1]:g}' if len(planned) > 1 else '')
    return f'WRN-{study.config["model"]["depth"]}-k, k = {span}'


def conditions(study: Study) -> list[tuple[str, object]]:
    """What the numbers of the page depend on: (what, how)."""
    config, about, plan, rows = study.config, study.provenance, study.plan, study.rows

    def several(values: Sequence[Any]) -> str:
        return ', '.join(f'{value:g}' for value in values)

    images = {row['num_examples'] for row in rows}
    seconds = sum(row['device_seconds'] for row in rows)
    war_cells = [('WAR', of_runs.controller(config['war']))] if plan['war'] else []
    return [
        ('Data', about['data']),
        ('SHA-256 of the data', about['checksum']),
        ('Test images', ' or '.join(f'{number:,}' for number in sorted(images))),
        ('Networks', f'{networks(study)}; k = {several(plan["widths"])}'),
        ('λ', several(plan['lams'])),
        ('Seeds', several(plan['seeds'])),
        ('Training', of_runs.training(config, 'λ as the tables say')),
        *war_cells,
        ('Optimizer', of_runs.optimizer(config)),
        (
            'Attack of validation and headline',
            of_runs.headline_attack(config['evaluation'], config['threat']),
        ),
        (
            'Checkpoint',
            f'the best robust accuracy on {config["evaluation"]["select_on"]} images over the '
            'epochs; test images are measured once, with it',
        ),
        (
            'Best λ of the grid',
            'the highest robust accuracy of those checkpoints on validation images, as a mean '
            'over seeds; of equals, the smallest. WAR starts from that of the thinnest network',
        ),
        (
            'Intervals',
            '95 %, Student’s t over seeds: they cover the draw of the seed (initial weights, '
            'order, augmentation and attack starts), not that of the images. What differs by '
            'factors is averaged in logarithms.',
        ),
        ('Commit', ', '.join(sorted({str(row['commit']) for row in rows}))),
        ('Devices of a run', ', '.join(sorted({row['device'] for row in rows}))),
        ('Versions, of the first process', of_runs.versions(about)),
        ('Device time', f'{tables.duration(seconds)} in {len(rows)} runs'),
    ]


def _by_lambda(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    swept = [row for row in rows if row['method'] == FIXED]
    found = _grouped(swept, ('widen_factor', 'lambda'), columns)
    return [_WIDTH, _LAMBDA, _SEEDS, *columns], found


def _grouped(
    rows: Sequence[Row], keys: tuple[str, str], columns: Sequence[Column]
) -> list[dict[str, Any]]:
    """Means over the seeds that have the same values of two keys, in the order of the rows."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [
        {**dict(zip(keys, values, strict=True)), 'seeds': len(group)}
        | {column.key: _mean(group, column.key) for column in columns}
        for values, group in groups.items()
    ]


def _mean(rows: Sequence[Row], key: str) -> tuple[float, float, float] | None:
    values = (row[key] for row in rows if row[key] is not None)
    return centre(values, quantity(key.removesuffix('_all')))
