"""What was measured at each width, lambda and seed, and how it changes with width.

    found = effects(rows, 'kernel_drift')              # rows: of rows.csv
    found['start'], found['lambda_3'], found['mean']   # Estimates of the power of the width
    by_width(rows, 'kernel_drift')                     # lambda -> its line, for a figure

Runs of constant lambda are compared. Those with WAR count before training alone, where lambda has
not mattered yet.
"""

import math
from collections.abc import Iterable, Sequence

from war_jax.lab.estimates import Estimate, Samples, changes, over_seeds, pooled, powers
from war_jax.lab.experiment import Row
from war_jax.lab.probes import FIXED
from war_jax.lab.quantities import Band, band, envelope, quantity

# Compared with the first step, where they are 0 or 1 by definition.
FROM_START = ('kernel_drift', 'kernel_alignment', 'weight_movement')


def trained(rows: Iterable[Row]) -> list[Row]:
    """The last probe of each run of constant lambda that was trained to its end."""
    return [
        row for row in rows if row['method'] == FIXED and row['step'] == row['last_step']
    ]


def initial(rows: Iterable[Row]) -> list[Row]:
    """One row per width and seed: lambda has not mattered yet, and all its runs begin alike."""
    found: dict[tuple[float, int], Row] = {}
    for row in rows:
        if row['step'] == 0:
            found.setdefault((row['widen_factor'], row['seed']), row)
    return list(found.values())


def samples(rows: Sequence[Row], key: str, widths: Iterable[float]) -> Samples:
    """width -> seed -> value; a logarithm that there is not is NaN, another value is left out."""
    found: dict[float, dict[int, float]] = {width: {} for width in widths}
    for row in rows:
        if row[key] is not None or quantity(key).by_factors:
            value = math.nan if row[key] is None else row[key]
            found[row['widen_factor']][row['seed']] = value
    return found


def by_lambda(rows: Iterable[Row], key: str) -> dict[float, Samples]:
    """lambda -> width -> seed -> value after training, with every width at each lambda."""
    ends = trained(rows)
    widths, lams = (sorted({row[name] for row in ends}) for name in ('widen_factor', 'lambda'))
    return {
        lam: samples([row for row in ends if row['lambda'] == lam], key, widths) for lam in lams
    }


def at_start(rows: Iterable[Row], key: str) -> Samples:
    """width -> seed -> value before training; empty for what is 0 or 1 by definition there."""
    first = [] if key in FROM_START else initial(rows)
    return samples(first, key, sorted({row['widen_factor'] for row in first}))


def by_width(rows: Iterable[Row], key: str) -> dict[float, Band]:
    """lambda -> its line over the widths after training, where there is something to draw."""
    found = {lam: band(at, quantity(key)) for lam, at in by_lambda(rows, key).items()}
    return {lam: line for lam, line in found.items() if line}


def by_epoch(rows: Iterable[Row], width: float, key: str) -> dict[float, Band]:
    """lambda -> its line over the epochs at one width: mean, lowest and highest seed."""
    groups: dict[float, dict[int, list[Row]]] = {}
    for row in rows:
        if row['method'] == FIXED and row['widen_factor'] == width:
            groups.setdefault(row['lambda'], {}).setdefault(row['seed'], []).append(row)
    return {
        lam: envelope(list(runs.values()), key, geometric=quantity(key).by_factors)
        for lam, runs in sorted(groups.items())
    }


def effects(rows: Sequence[Row], key: str) -> dict[str, Estimate | None]:
    """Of the width: powers of what differs by factors, of the others changes per doubling.

    'start': before training; 'lambda_3' and so on: after it; 'mean': over the lambdas that have an
    estimate. A seed counts at a lambda if it has a value at every width that was trained at any.
    """
    with_width = powers if quantity(key).by_factors else changes
    found = {lam: with_width(at) for lam, at in by_lambda(rows, key).items()}
    by_place = {
        'start': with_width(at_start(rows, key)),
        **{f'lambda_{lam:g}': by_seed for lam, by_seed in found.items()},
    }
    estimates = {place: over_seeds(list(by_seed.values())) for place, by_seed in by_place.items()}
    return {**estimates, 'mean': pooled(found.values())}
