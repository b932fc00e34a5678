"""The tables of what is measured of probes: along a run, by width and lambda, and with width."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ntk.studies.dynamics.effects import FROM_START, initial, trained
from war_jax.lab import tables
from war_jax.lab.estimates import Estimate
from war_jax.lab.experiment import Row
from war_jax.lab.quantities import centre, quantity
from war_jax.lab.tables import Column, estimated, factor_mean

Table = tuple[list[Column], list[dict[str, Any]]]
Effects = Mapping[str, Mapping[str, Estimate | None]]  # quantity -> place -> of the width there
START, END = 'at initialisation', 'after training'
EXPONENT = 'exponent of the width'
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
        (
            'natural_risk_train', 'natural_risk_test', 'natural_accuracy_train',
            'natural_accuracy_test', 'robust_accuracy_train', 'robust_accuracy_test',
        ),
    ),
}  # fmt: skip
KEYS = tuple(key for _, keys in TABLES.values() for key in keys)


def by_step(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    """Of one run: a row per probe."""
    columns = [Column('step', 'Step'), Column('epoch', 'Epoch', '{:g}'.format)]
    return [*columns, *(Column(key, quantity(key).title, number) for key in keys)], list(rows)


def by_cell(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    """Of a study: a row per width before training, and per width and lambda after it."""
    columns = [
        Column('when', 'When', align='l'),
        Column('widen_factor', 'Width k', '{:g}'.format),
        Column('lambda', 'λ', '{:g}'.format),
        Column('seeds', 'Seeds'),
        *(Column(key, quantity(key).title, factor_mean) for key in keys),
    ]
    groups: dict[tuple[str, float, float | None], list[Row]] = {}
    for row in initial(rows):
        groups.setdefault((START, row['widen_factor'], None), []).append(row)
    for row in trained(rows):
        groups.setdefault((END, row['widen_factor'], row['lambda']), []).append(row)
    found = []
    for (when, width, lam), group in groups.items():
        about = {'when': when, 'widen_factor': width, 'lambda': lam, 'seeds': len(group)}
        known = [key for key in keys if when == END or key not in FROM_START]
        values = {
            key: centre([row[key] for row in group if row[key] is not None], quantity(key))
            for key in known
        }
        found.append({**dict.fromkeys(keys), **about, **values})
    return columns, found


def exponents(by_key: Effects) -> Table:
    """A row per quantity; a column for the start, for each lambda, and for the mean over them."""
    all_places = next(iter(by_key.values()))
    places = [p for p in all_places if any(found[p] for found in by_key.values())]
    if len(lambdas(places)) == 1:
        places.remove('mean')
    columns = [Column(place, shown(place), estimated) for place in places]
    rows = []
    for key, found in by_key.items():
        title = quantity(key).title + ('' if quantity(key).by_factors else ' (+)')
        row = {place: _mean(found[place]) for place in places}
        if any(row.values()):
            rows.append({'title': title, **row})
    return [Column('title', 'Quantity', align='l'), *columns], rows


def changes_table(by_key: Effects) -> Table:
    """The same with a row per number, for programs."""
    columns = [
        Column('quantity', 'Quantity', align='l'),
        Column('when', 'When', align='l'),
        Column('lambda', 'λ', align='l'),
        Column('effect', 'Change', estimated),
        Column('unit', 'Unit', align='l'),
        Column('num_seeds', 'Seeds'),
    ]
    rows = [
        {
            'quantity': key,
            'when': START if place == 'start' else END,
            'lambda': {'start': None, 'mean': f'mean over {listed(found)}'}.get(
                place, place.removeprefix('lambda_')
            ),
            'effect': _mean(effect),
            'unit': EXPONENT if quantity(key).by_factors else 'per doubling of the width',
            'num_seeds': effect.num_seeds,
        }
        for key, found in by_key.items()
        for place, effect in found.items()
        if effect and (place != 'mean' or ',' in listed(found))
    ]
    return columns, rows


def number(value: float) -> str:
    return tables.number(value, 3)


def lambdas(places: Iterable[str]) -> list[str]:
    return [place for place in places if place.startswith('lambda_')]


def shown(place: str) -> str:
    titles = {'start': START.capitalize(), 'mean': 'Mean over λ'}
    return titles.get(place, place.replace('lambda_', 'λ = '))


def listed(found: Mapping[str, Estimate | None]) -> str:
    """'1, 9': the lambdas that have an estimate."""
    return ', '.join(p.removeprefix('lambda_') for p in lambdas(found) if found[p])


def _mean(effect: Estimate | None) -> tuple[float, float, float] | None:
    return None if effect is None else (effect.value, *effect.interval)
