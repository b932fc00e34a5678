"""The tables of a study's report, as rows and columns for war_jax/lab/tables.py.

    for name, (heading, note, table) in all_tables(study, ['robust_accuracy']).items():
        text = write_table(folder, name, *table)

A mean over seeds comes with its 95 % interval; that of what differs by factors is geometric.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from war_jax.lab import tables
from war_jax.lab.estimates import Estimate, over_seeds
from war_jax.lab.probes import FIXED
from war_jax.lab.quantities import centre, quantity
from war_jax.lab.tables import (
    Column,
    decimal,
    decimal_interval,
    factor_mean,
    percent,
    points_mean,
    rate_mean,
)
from war_jax.studies.width import tuning
from war_jax.studies.width.claims import listed
from war_jax.studies.width.costs import run_times, tuning_cost
from war_jax.studies.width.results import Row, fixed, lambdas, of_method, slopes, slopes_unit
from war_jax.studies.width.study import Study
from war_jax.studies.width.tasks import FROM_TWO, TITLES, waits_for
from war_jax.studies.width.war_claims import difference

Table = tuple[list[Column], list[dict[str, Any]]]

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
    Column('margin', 'Margin', factor_mean),
    Column('lipschitz_by_margin', 'Lipschitzness ÷ margin', factor_mean),
    Column('local_lipschitz_kl_gradient', 'Lipschitzness, KL gradient', factor_mean),
    Column('natural_risk', 'Natural risk', factor_mean),
    Column('robust_regularization', 'Robust regularization', factor_mean),
    Column('risk_ratio', 'Risk ratio', factor_mean),
]
_OF_WAYS = [
    Column('final_lambda', 'λ at the end', factor_mean),
    *_RATES[:4],
    Column('risk_ratio', 'Risk ratio', factor_mean),
]
_MATCHED = [
    Column('matched_loss', 'Training loss', factor_mean),
    *(Column(f'{rate.key}_matched', rate.title, rate_mean) for rate in _RATES[:3]),
]
_CHECKPOINTS = [
    Column('robust_accuracy', 'Robust, best (%)', rate_mean),
    Column('robust_accuracy_last', 'Robust, last (%)', rate_mean),
    Column('robust_overfitting', 'Best − last (points)', rate_mean),
    Column('natural_accuracy_train', 'Natural, training images (%)', rate_mean),
    Column('robust_accuracy_train', 'Robust, training images (%)', rate_mean),
    Column('perturbation_stability_train', 'Stability, training images (%)', rate_mean),
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
        'checkpoints': (
            'Best and last network, training and test images',
            'Under the headline’s attack alone; mean, 95 % interval over seeds. Best and last on '
            'test images, the best chosen on validation images; training images are those of '
            'the best network, without augmentation.',
            _by_lambda(rows, _CHECKPOINTS),
        ),
        'matched': (
            'At the same training loss',
            'Where the training loss first comes down to the smallest that all widths reach at '
            'this λ and seed; validation images, mean and 95 % interval over seeds.',
            _by_lambda(rows, _MATCHED),
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
            'peak within the grid, the best λ may lie beyond it. The risk ratio at the peak is '
            'between the λ of the grid linear in logarithms.',
            optima(rows),
        ),
        'attacked': (
            'Under AutoAttack, each width at its best λ',
            'Mean over seeds and its 95 % interval, in percent: the headline attack and all of the '
            'study’s attacks on the test images, AutoAttack (standard version) on '
            f'{study.plan.get("autoattack_examples", 0)} of them.',
            attacked(rows),
        ),
        'lambdas': ('λ for the widest network', '', lambdas_at_the_widest(study)),
        'war': (
            'Which way to λ is best where',
            'At each width the most robust first: test images, mean and 95 % interval over seeds. '
            'The differences are in points of robust accuracy, paired by seed. What the variants '
            'are: war_jax/studies/width/tasks.py.',
            ways(rows),
        ),
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


def ways(rows: Sequence[Row]) -> Table:
    """At each width that has any: the sweep's best lambda, the thin network's, and the variants."""
    best, runs, found = tuning.best_lambdas(rows), fixed(rows), []
    for width, swept in best.items():
        thin = next(iter(best.values()))
        methods = [method for method in TITLES if of_method(rows, method, width)]
        if not methods:
            continue
        of_width = []
        for name, lam in (('Best λ of the sweep', swept), ('λ of the thin network', thin)):
            constant = [row for (k, at, _), row in runs.items() if (k, at) == (width, lam)]
            of_width.append(_way(width, name, constant, None, None))
        for method in methods:
            varied = list(of_method(rows, method, width).values())
            minus = (difference(rows, method, width, lam) for lam in (swept, thin))
            of_width.append(_way(width, TITLES[method], varied, *minus))
        shown = [row for row in of_width if row['seeds']]
        found += sorted(shown, key=lambda row: -row['robust_accuracy'][0])
    way = Column('way', 'Way', align='l')
    differences = [
        Column('minus_best', 'Minus best λ', points_mean),
        Column('minus_thin', 'Minus thin λ', points_mean),
    ]
    return [_WIDTH, way, _SEEDS, *_OF_WAYS, *differences], found


def _way(
    width: float,
    name: str,
    rows: Sequence[Row],
    minus_best: Estimate | None,
    minus_thin: Estimate | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {'widen_factor': width, 'way': name, 'seeds': len(rows)}
    for key, estimate in (('minus_best', minus_best), ('minus_thin', minus_thin)):
        found[key] = estimate and (estimate.value, *estimate.interval)
    return found | {column.key: _mean(rows, column.key) for column in _OF_WAYS}


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
        Column('ratio', 'Risk ratio at the peak', factor_mean),
    ]
    premise = tuning.fit_premise(rows)
    ratios = dict(zip(premise.widths, premise.ratios, strict=True)) if premise else {}
    found = tuning.peaks(rows)
    return columns, [{**vars(peak), 'ratio': ratios.get(peak.widen_factor)} for peak in found]


def attacked(rows: Sequence[Row]) -> Table:
    """The networks at their width's best lambda; none where AutoAttack has not been run."""
    column = Column('autoattack_accuracy', 'Robust, AutoAttack (%)', rate_mean)
    columns = [*_RATES[:2], _RATES[3], column]
    some = [row for row in tuning.at_best(rows) if row[column.key] is not None]
    found = _grouped(some, ('widen_factor', 'lambda'), columns)
    return [_WIDTH, _LAMBDA, _SEEDS, *columns], found


def lambdas_at_the_widest(study: Study) -> Table:
    """Ways to a lambda for the widest network."""
    growth = tuning.fit_growth(study.rows)
    found = {
        'sweep of the widest network itself': growth and growth.swept,
        'power law λ ~ k^p through the thinner networks': growth and growth.predicted,
    }
    for method in study.methods:
        if method != 'power_law':
            runs = of_method(study.rows, method, study.plan['widths'][-1])
            final = (row['final_lambda'] for row in runs.values())
            found[f'{TITLES[method]}, at the end of training'] = centre(
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
    rows, number = study.rows, len(lambdas(study.rows))
    times = run_times(rows, study.num_devices)
    found: list[dict[str, Any]] = [
        {
            **vars(time),
            'way': f'sweep at width {time.widen_factor:g}',
            'num_lambdas': number,
            'total': number * time.median,
        }
        for time in times
    ]
    cost = tuning_cost(rows, study.num_devices)
    if cost is not None:
        thin, wide = cost.thinnest.widen_factor, cost.widest.widen_factor
        way = f'WAR: sweep at width {thin:g}, then one run at width {wide:g}'
        found.append({**dict.fromkeys(column.key for column in columns), 'way': way})
        found[-1]['total'] = cost.thin_sweep + cost.war
        for method in (m for m in study.methods if m in FROM_TWO):
            needed = waits_for(method, wide, study.plan)
            way = f'{TITLES[method]}: sweeps at {listed(needed)}, then one run at width {wide:g}'
            found.append({**dict.fromkeys(column.key for column in columns), 'way': way})
            sweeps = [number * time.median for time in times if time.widen_factor in needed]
            found[-1]['total'] = sum(sweeps) + cost.war
    return columns, found


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
    return centre(values, quantity(key))
