"""The tables of a study's report, as rows and columns for war_jax/lab/tables.py.

    text = write_table(folder, 'accuracy', *accuracy(rows))

Every function takes the rows of results.collect and returns columns and the rows of one table. A
mean over seeds comes with its 95 % interval; see series.over_seeds.
"""

from collections.abc import Sequence
from typing import Any

from war_jax.lab import tables
from war_jax.lab.tables import (
    Column,
    decimal,
    decimal_interval,
    factor_mean,
    percent_mean,
)
from war_jax.measures.statistics import mean_interval
from war_jax.studies.width import claims, tuning
from war_jax.studies.width.claims import Claim
from war_jax.studies.width.figures import PANELS
from war_jax.studies.width.results import FIXED, Row, war
from war_jax.studies.width.series import over_seeds

Table = tuple[list[Column], list[dict[str, Any]]]
METHODS = {FIXED: 'constant λ', **claims.TARGETS}

_WIDTH = Column('widen_factor', 'Width k', '{:g}'.format)
_LAMBDA = Column('lambda', 'λ', '{:g}'.format)
_SEED = Column('seed', 'Seed')
_SEEDS = Column('seeds', 'Seeds')
_RATES = [
    Column('natural_accuracy', 'Natural (%)', percent_mean),
    Column('robust_accuracy', 'Robust (%)', percent_mean),
    Column('perturbation_stability', 'Stability (%)', percent_mean),
    Column('robust_accuracy_all', 'Robust, all attacks (%)', percent_mean),
    Column('perturbation_stability_all', 'Stability, all attacks (%)', percent_mean),
]
_FACTORS = [
    Column('local_lipschitz', 'Lipschitzness, output ratio', factor_mean),
    Column('local_lipschitz_kl_gradient', 'Lipschitzness, KL gradient', factor_mean),
    Column('natural_risk', 'Natural risk', factor_mean),
    Column('robust_regularization', 'Robust regularization', factor_mean),
    Column('risk_ratio', 'Risk ratio', factor_mean),
]


def accuracy(rows: Sequence[Row]) -> Table:
    """By width and lambda, constant lambda only."""
    return [_WIDTH, _LAMBDA, _SEEDS, *_RATES], _by_cell(rows, _RATES)


def lipschitz(rows: Sequence[Row]) -> Table:
    """Local Lipschitzness and risks, by width and lambda, constant lambda only."""
    return [_WIDTH, _LAMBDA, _SEEDS, *_FACTORS], _by_cell(rows, _FACTORS)


def adjusted(rows: Sequence[Row]) -> Table:
    """The WAR runs, by width and target."""
    columns = [
        Column('lambda', 'λ at the start', factor_mean),
        Column('final_lambda', 'λ at the end', factor_mean),
        *_RATES[:4],
        _FACTORS[-1],
    ]
    groups: dict[tuple[float, str], list[Row]] = {}
    for row in rows:
        if row['method'] != FIXED:
            groups.setdefault((row['widen_factor'], row['method']), []).append(row)
    found = [
        {
            'widen_factor': width,
            'method': method,
            'seeds': len(group),
            **{column.key: over_seeds(group, column.key) for column in columns},
        }
        for (width, method), group in groups.items()
    ]
    return [_WIDTH, Column('method', 'Method', METHODS.__getitem__, 'l'), _SEEDS, *columns], found


def verdicts(found: Sequence[Claim]) -> Table:
    columns = [
        Column('statement', 'Claim', align='l'),
        Column('verdict', 'Verdict', align='l'),
        Column('effect', 'Effect', decimal),
        Column('interval', '95 % interval', decimal_interval),
        Column('unit', 'Unit', align='l'),
        Column('num_seeds', 'Seeds', lambda number: str(number or '—')),
        Column('name', 'Name', align='l'),
        Column('how', 'How', align='l'),
    ]
    return columns, [vars(claim) for claim in found]


def slopes(rows: Sequence[Row]) -> Table:
    """How much each quantity changes with width at each single lambda, and the verdict there."""
    found = []
    for key, (_, sign, logarithmic) in claims.WITH_WIDTH.items():
        for lam, by_seed in claims.slopes(rows, key).items():
            mean, lower, upper = mean_interval(list(by_seed.values()))
            found.append(
                {
                    'quantity': key,
                    'lambda': lam,
                    'effect': mean,
                    'interval': (lower, upper),
                    'unit': claims.EXPONENT if logarithmic else claims.PER_DOUBLING,
                    'seeds': len(by_seed),
                    'verdict': claims.decide((lower, upper), sign),
                }
            )
    columns = [
        Column('quantity', 'Quantity', lambda key: PANELS[key][0], 'l'),
        _LAMBDA,
        Column('effect', 'Change', decimal),
        Column('interval', '95 % interval', decimal_interval),
        Column('unit', 'Unit', align='l'),
        _SEEDS,
        Column('verdict', 'Verdict at this λ', align='l'),
    ]
    return columns, found


def optima(rows: Sequence[Row]) -> Table:
    """The best lambda of each width and seed."""
    columns = [
        _WIDTH,
        _SEED,
        Column('grid_lambda', 'Best λ of the grid', '{:g}'.format),
        Column('peak_lambda', 'λ at the peak', '{:.3g}'.format),
        Column('place', 'In the grid', align='l'),
    ]
    return columns, [vars(optimum) for optimum in tuning.optima(rows)]


def lambdas_at_the_widest(rows: Sequence[Row], targets: Sequence[str]) -> Table:
    """Four ways to a lambda for the widest network; geometric means over seeds."""
    law = tuning.power_law(rows)
    found = {
        'sweep of the widest network itself': tuning.interval(law.swept.values()),
        'power law λ ~ k^p through the thinner networks': tuning.interval(law.predicted.values()),
    }
    for target in targets:
        runs = war(rows, target, law.widths[-1]) if law.widths else {}
        final = [row['final_lambda'] for row in runs.values()]
        found[f'{claims.TARGETS[target]}, at the end of training'] = tuning.interval(final)
    columns = [Column('way', 'By', align='l'), Column('lambda', 'λ at the widest', factor_mean)]
    return columns, [{'way': way, 'lambda': mean} for way, mean in found.items()]


def costs(rows: Sequence[Row]) -> Table:
    """Device-seconds of a run, and for one seed's tuned lambda, by width; and the latter by WAR."""
    columns = [
        Column('way', 'For one seed', align='l'),
        Column('num_runs', 'Finished runs'),
        Column('median', 'Median run', tables.duration),
        Column('num_lambdas', 'λ'),
        Column('total', 'In all', tables.duration),
    ]
    number = len(tuning.lambdas(rows))
    found: list[dict[str, Any]] = [
        {
            **vars(time),
            'way': f'sweep at width {time.widen_factor:g}',
            'num_lambdas': number,
            'total': number * time.median,
        }
        for time in tuning.run_times(rows)
    ]
    cost = tuning.cost(rows)
    if cost is not None:
        thin, wide = cost.thinnest.widen_factor, cost.widest.widen_factor
        way = f'WAR: sweep at width {thin:g}, then one run at width {wide:g}'
        found.append({**dict.fromkeys(column.key for column in columns), 'way': way})
        found[-1]['total'] = cost.thin_sweep + cost.war
    return columns, found


def _by_cell(rows: Sequence[Row], columns: Sequence[Column]) -> list[dict[str, Any]]:
    groups: dict[tuple[float, float], list[Row]] = {}
    for row in rows:
        if row['method'] == FIXED:
            groups.setdefault((row['widen_factor'], row['lambda']), []).append(row)
    return [
        {
            'widen_factor': width,
            'lambda': lam,
            'seeds': len(group),
            **{column.key: over_seeds(group, column.key) for column in columns},
        }
        for (width, lam), group in sorted(groups.items())
    ]
