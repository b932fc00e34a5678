"""The rows and curves of a study as the lines of its figures: means over seeds, and their bands.

    rows, curves = collect(Path('runs/study/runs'))
    against_width(path, {'robust_accuracy': by_width(rows, 'robust_accuracy')})
    against_epoch(path, {3.0: {'robust_accuracy': by_epoch(rows, curves, 3.0, 'robust_accuracy')}})

Over widths and lambdas the band is the 95 % interval for the mean over seeds; over epochs it goes
from the lowest to the highest seed. Where a quantity differs by factors (local Lipschitzness, the
risks and their ratio, lambda), mean and interval are those of its logarithm.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from war_jax.measures.statistics import geometric_interval, mean_interval
from war_jax.studies.width.figures import PANELS, Band, Marker
from war_jax.studies.width.results import FIXED, Row, fixed
from war_jax.studies.width.tuning import Interval

RATES = tuple(key for key, (_, logarithmic) in PANELS.items() if not logarithmic)
FACTORS = tuple(key for key, (_, logarithmic) in PANELS.items() if logarithmic)
# Drawn or not, what differs by factors.
_GEOMETRIC = (*FACTORS, 'natural_risk', 'robust_regularization', 'lambda', 'final_lambda')
Lines = dict[float, Band]


def over_seeds(rows: Iterable[Row], key: str) -> Interval | None:
    """(mean, lower, upper) of a column; None if no run has a value."""
    values = [row[key] for row in rows if row[key] is not None]
    if key in _GEOMETRIC:
        values = [value for value in values if value > 0]
        return geometric_interval(values) if values else None
    return mean_interval(values) if values else None


def by_width(rows: Sequence[Row], key: str) -> Lines:
    """lambda -> its line over the widths."""
    return _lines(rows, key, line='lambda', x='widen_factor')


def by_lambda(rows: Sequence[Row], key: str) -> Lines:
    """width -> its line over the lambdas."""
    return _lines(rows, key, line='widen_factor', x='lambda')


def by_epoch(
    rows: Sequence[Row], curves: Mapping[str, Mapping[str, Any]], lam: float, key: str
) -> Lines:
    """width -> its line over the epochs, on validation images, at one constant lambda."""
    groups: dict[float, list[Any]] = {}
    for (width, at, _), row in sorted(fixed(rows).items()):
        if at == lam:
            groups.setdefault(width, []).append(curves[row['run']]['validation'])
    return {width: envelope(runs, key) for width, runs in groups.items()}


def under_war(
    rows: Sequence[Row], curves: Mapping[str, Mapping[str, Any]], target: str, key: str
) -> Lines:
    """width -> a line over the epochs of the WAR runs; that of lambda begins at its start."""
    groups: dict[float, list[Any]] = {}
    for row in rows:
        if row['method'] == target:
            start = [{'epoch': 0.0, key: row['lambda']}] if key == 'lambda' else []
            groups.setdefault(row['widen_factor'], []).append(
                [*start, *curves[row['run']]['train']]
            )
    return {width: envelope(runs, key, geometric=True) for width, runs in groups.items()}


def target_ratios(
    rows: Sequence[Row], curves: Mapping[str, Mapping[str, Any]], target: str
) -> tuple[list[float], list[float]]:
    """Epochs, and the risk ratio that WAR held to at their ends: geometric mean over the runs."""
    chosen = [(curves[row['run']]['target'], row['epochs']) for row in rows]
    chosen = [pair for pair, row in zip(chosen, rows, strict=True) if row['method'] == target]
    chosen = [(values, epochs) for values, epochs in chosen if values]
    if not chosen or len({(len(values), epochs) for values, epochs in chosen}) > 1:
        return [], []
    values = np.exp(np.mean(np.log([values for values, _ in chosen]), axis=0)).tolist()
    epochs, count = chosen[0][1], len(values)
    if count == 1:
        return [0.0, float(epochs)], values * 2
    return [epochs * (index + 1) / count for index in range(count)], values


def markers(rows: Sequence[Row]) -> list[Marker]:
    """Of the WAR runs, by width and target."""
    groups: dict[tuple[float, str], list[Row]] = {}
    for row in rows:
        if row['method'] != FIXED:
            groups.setdefault((row['widen_factor'], row['method']), []).append(row)
    return [
        Marker(
            target,
            width,
            geometric_interval([row['final_lambda'] for row in group])[0],
            {key: mean_interval([row[key] for row in group])[0] for key in RATES},
        )
        for (width, target), group in groups.items()
    ]


def envelope(
    runs: Sequence[Sequence[Mapping[str, Any]]], key: str, geometric: bool = False
) -> Band:
    """Mean, lowest and highest run over the epochs that all runs have; a null is a gap."""
    by_run = [{row['epoch']: row.get(key) for row in run} for run in runs]
    epochs = sorted(set.intersection(*map(set, by_run)))
    values = np.array(
        [[math.nan if run[e] is None else run[e] for e in epochs] for run in by_run], float
    ).reshape(len(by_run), len(epochs))
    if geometric:
        values = np.where(values > 0, values, math.nan)
        mean = np.exp(np.log(values).mean(axis=0))
    else:
        mean = values.mean(axis=0)
    bands = (epochs, mean.tolist(), values.min(axis=0).tolist(), values.max(axis=0).tolist())
    return Band(*bands)


def _lines(rows: Sequence[Row], key: str, line: str, x: str) -> Lines:
    groups: dict[float, dict[float, list[Row]]] = {}
    for row in fixed(rows).values():
        groups.setdefault(row[line], {}).setdefault(row[x], []).append(row)
    found = {}
    for member, points in sorted(groups.items()):
        means = {at: over_seeds(points[at], key) for at in sorted(points)}
        shown = {at: mean for at, mean in means.items() if mean is not None}
        if shown:
            found[member] = Band(list(shown), *map(list, zip(*shown.values(), strict=True)))
    return found
