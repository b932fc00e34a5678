"""The figures of a study's report, drawn from its rows and curves.

    for picture in draw(study, folder=Path('runs/study/figures')):
        print(picture.file, picture.caption)

Over widths and lambdas, bars are 95 % intervals for the mean over seeds; over epochs, bands go from
the lowest to the highest seed. How they are drawn: war_jax/studies/width/panels.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from war_jax.lab.page import Picture
from war_jax.lab.quantities import DIFFERENCE, RATES, Band, band, centre, envelope, quantity
from war_jax.lab.verdicts import MARGIN
from war_jax.measures.statistics import geometric_interval
from war_jax.studies.width import panels, tuning
from war_jax.studies.width.costs import tuning_cost
from war_jax.studies.width.panels import Lines, Marker
from war_jax.studies.width.results import Row, fixed, lambdas, of_method, samples, widths
from war_jax.studies.width.study import Study
from war_jax.studies.width.tasks import TITLES

FACTORS = (
    'local_lipschitz', 'local_lipschitz_kl_gradient', 'lipschitz_by_margin', 'risk_ratio',
)  # fmt: skip
OVERFITTING = ('robust_overfitting', 'natural_accuracy_train', 'perturbation_stability_train')

_LESS = quantity('robust_accuracy')._replace(unit=DIFFERENCE)
_INTERVALS = 'Bars: 95 % intervals for the mean over seeds (Student’s t).'
_RANGE = 'Bands reach from the lowest to the highest seed.'


def draw(study: Study, folder: Path) -> list[Picture]:
    """Writes what the runs allow, in the order of the report; at least one lambda must have run."""
    rows = study.rows
    lam = reference_lambda(rows)
    panels.against_width(folder / 'width.png', {key: by_width(rows, key) for key in RATES})
    panels.against_lambda(
        folder / 'lambda.png',
        {key: by_lambda(rows, key) for key in RATES},
        tuning.best_lambdas(rows),
        war_markers(rows),
    )
    panels.against_width(folder / 'lipschitz.png', {key: by_width(rows, key) for key in FACTORS})
    of_training = {key: by_width(rows, key) for key in OVERFITTING}
    panels.against_width(folder / 'overfitting.png', of_training)
    epochs = {
        at: {key: by_epoch(rows, study.curves, at, key) for key in RATES}
        for at in lambdas(rows)
    }
    panels.against_epoch(folder / 'epochs.png', {lam: epochs[lam]})
    panels.against_epoch(folder / 'epochs_all.png', epochs)
    pictures = [
        Picture(
            'width.png',
            'Test accuracies against width at equal λ',
            f'Test images, constant λ. {_INTERVALS}',
        ),
        Picture(
            'lambda.png',
            'Test accuracies against λ for each width, and WAR',
            'Test images. A ring marks the λ that is best on validation images; WAR stands at the '
            'λ that it ended with, with the interval of that as well. Where bars overlap, those '
            f'of thinner networks are broader. {_INTERVALS}',
        ),
        Picture(
            'lipschitz.png',
            'Local Lipschitzness and risk ratio against width at equal λ',
            'Local Lipschitzness on test images, by two measures, and the first one divided by the '
            'margin of the same logits; natural risk / robust regularization as averaged '
            f'at the end of training. {_INTERVALS}',
        ),
        Picture(
            'overfitting.png',
            'Robust overfitting and training images against width at equal λ',
            'Robust accuracy on test images, of the best network on validation images minus '
            'that of the last one; accuracy and stability of the best one on training images. '
            f'{_INTERVALS}',
        ),
        Picture(
            'epochs.png',
            'Validation accuracies over training at the thin network’s λ',
            f'Constant λ = {lam:g}. {_RANGE}',
        ),
        Picture('epochs_all.png', 'The same at every λ', _RANGE),
    ]
    return pictures + _of_war(study, folder) + _of_costs(study, folder)


def reference_lambda(rows: Sequence[Row]) -> float:
    """The thin network's best; before that is known, one in the middle of the grid."""
    lams = lambdas(rows)
    return tuning.best_lambdas(rows).get(widths(rows)[0], lams[len(lams) // 2])


def _of_war(study: Study, folder: Path) -> list[Picture]:
    rows, curves = study.rows, study.curves
    pictures = []
    premise = tuning.fit_premise(rows)
    if premise is not None:
        found = tuning.peaks(rows)
        best = Band(premise.widths, *zip(*(peak.peak_lambda for peak in found), strict=True))
        ratio = Band(premise.widths, *zip(*premise.ratios, strict=True))
        panels.premise(folder / 'premise.png', best, ratio)
        pictures.append(
            Picture(
                'premise.png',
                'The best λ of each width, and the risk ratio there',
                'WAR takes the ratio for the same at all widths (dotted: that of the thinnest). '
                'Bars: 95 % intervals from seeds and validation images drawn anew.',
            )
        )
    run = [method for method in study.methods if any(row['method'] == method for row in rows)]
    moved = [method for method in run if method != 'power_law']
    if ways := by_way(rows, run):
        panels.ways_against_width(folder / 'ways.png', ways, MARGIN / 100)
        title = 'Robust accuracy by the way to λ, less that at the best λ of the sweep'
        about = (
            f'Test images, seed by seed. A bar that lies above −{MARGIN:g} points is as good as '
            'the sweep; those of one width stand side by side.'
        )
        pictures.append(Picture('ways.png', title, f'{about} {_INTERVALS}'))
    if moved:
        panels.lambda_under_war(
            folder / 'war.png',
            {method: under_war(rows, curves, method, 'lambda') for method in moved},
            {method: under_war(rows, curves, method, 'averaged_risk_ratio') for method in moved},
            {method: target_ratios(rows, curves, method) for method in moved},
            reference_lambda(rows),
            widths(rows),
        )
        title = 'λ and the risk ratio over training under WAR'
        about = (
            'Geometric means over seeds; a gap where one of them has λ = 0. A dashed target is '
            'black where all widths have the same.'
        )
        pictures.append(Picture('war.png', title, f'{about} {_RANGE}'))
    return pictures


def by_way(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, Band]:
    """The thin network's lambda and each variant -> robust accuracy less that at the best lambda of
    the same width's sweep, seed by seed, over the widths but the thinnest."""
    best, runs = tuning.best_lambdas(rows), fixed(rows)
    thin = best.get(widths(rows)[0])

    def at_lambda(width: float, lam: float | None) -> dict[int, Row]:
        return {seed: row for (k, at, seed), row in runs.items() if (k, at) == (width, lam)}

    def less_the_best(width: float, found: Mapping[int, Row]) -> dict[int, float]:
        swept = at_lambda(width, best.get(width))
        return {
            seed: row['robust_accuracy'] - swept[seed]['robust_accuracy']
            for seed, row in found.items()
            if seed in swept
        }

    by_width = {width: {'thin': at_lambda(width, thin)} for width in widths(rows)[1:]}
    for width, ways in by_width.items():
        ways |= {method: of_method(rows, method, width) for method in methods}
    lines = {
        way: band(
            {
                width: differences
                for width, ways in by_width.items()
                if (differences := less_the_best(width, ways[way]))
            },
            _LESS,
        )
        for way in ('thin', *methods)
    }
    return {way: line for way, line in lines.items() if line is not None}


def _of_costs(study: Study, folder: Path) -> list[Picture]:
    cost = tuning_cost(study.rows, study.num_devices)
    if cost is None:
        return []
    bars = {
        'sweep': {'sweep': cost.sweep},
        'WAR': {'thin_sweep': cost.thin_sweep, 'war': cost.war},
    }
    panels.tuning_costs(folder / 'costs.png', bars)
    caption = (
        f'Device time for one seed with {cost.num_lambdas} λ. Each run counts as the median of the '
        'finished runs of its width: wall time times devices, for training, validation and test. '
        'Runs that compiled, the first of each width and device, are left out.'
    )
    return [Picture('costs.png', 'What a tuned λ for the widest network costs', caption)]


def by_width(rows: Sequence[Row], key: str) -> Lines:
    """lambda -> its line over the widths."""
    lams = lambdas(rows)
    found = {lam: samples(rows, key, 'widen_factor', 'lambda', lam) for lam in lams}
    return _lines(found, key)


def by_lambda(rows: Sequence[Row], key: str) -> Lines:
    """width -> its line over the lambdas."""
    found = {k: samples(rows, key, 'lambda', 'widen_factor', k) for k in widths(rows)}
    return _lines(found, key)


def _lines(found: Mapping[float, Mapping[float, Mapping[int, float]]], key: str) -> Lines:
    """What has no value has no line."""
    lines = {member: band(of_member, quantity(key)) for member, of_member in found.items()}
    return {member: line for member, line in lines.items() if line is not None}


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
    rows: Sequence[Row], curves: Mapping[str, Mapping[str, Any]], method: str, key: str
) -> Lines:
    """width -> a line over the epochs of a variant's runs; that of lambda begins at its start."""
    groups: dict[float, list[Any]] = {}
    for row in rows:
        if row['method'] == method:
            of_run = curves[row['run']]
            start = [{'epoch': 0.0, key: of_run['start']}] if key == 'lambda' else []
            groups.setdefault(row['widen_factor'], []).append([*start, *of_run['train']])
    return {width: envelope(runs, key, geometric=True) for width, runs in groups.items()}


def target_ratios(
    rows: Sequence[Row], curves: Mapping[str, Mapping[str, Any]], method: str
) -> dict[float, tuple[list[float], list[float]]]:
    """width -> epochs, and the risk ratio that WAR held to at their ends: geometric mean over the
    runs."""
    groups: dict[float, list[tuple[list[float], int]]] = {}
    for row in rows:
        if row['method'] == method and (target := curves[row['run']]['target']):
            groups.setdefault(row['widen_factor'], []).append((target, row['epochs']))
    found = {}
    for width, held_to in groups.items():
        if len({(len(values), epochs) for values, epochs in held_to}) > 1:
            continue
        values = np.exp(np.mean(np.log([values for values, _ in held_to]), axis=0)).tolist()
        epochs, count = held_to[0][1], len(values)
        if count == 1:
            found[width] = [0.0, float(epochs)], values * 2
        else:
            found[width] = [epochs * (index + 1) / count for index in range(count)], values
    return found


def war_markers(rows: Sequence[Row]) -> list[Marker]:
    """Of the variants' runs, by width, at the mean lambda above 0 that they ended with."""
    found = []
    for width in sorted({row['widen_factor'] for row in rows}):
        for method in TITLES:
            group = list(of_method(rows, method, width).values())
            ends = [row['final_lambda'] for row in group if row['final_lambda'] > 0]
            if ends:
                rates = {
                    key: mean
                    for key in RATES
                    if (mean := centre([row[key] for row in group], quantity(key)))
                }
                found.append(Marker(method, width, geometric_interval(ends), rates))
    return found
