"""The figures of a study's report, drawn from its rows and curves.

    for picture in draw(study, folder=Path('runs/study/figures')):
        print(picture.file, picture.caption)

Over widths and lambdas, bars are 95 % intervals for the mean over seeds; over epochs, bands go from
the lowest to the highest seed. Widths and lambdas are ordered, and so are their colours, from dark
to light. Markers differ as well, for print in grey.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from war_jax.lab import plots, tables
from war_jax.lab.page import Picture
from war_jax.lab.plots import BLUE, GREEN, INK, ORANGE, STYLE
from war_jax.lab.probes import FIXED
from war_jax.lab.quantities import RATES, Band, band, envelope, quantity
from war_jax.measures.statistics import geometric_interval, mean_interval
from war_jax.studies.width import tuning
from war_jax.studies.width.results import Row, fixed, samples, widths
from war_jax.studies.width.study import Study

FACTORS = ('local_lipschitz', 'local_lipschitz_kl_gradient', 'risk_ratio')
Lines = dict[float, Band]  # of a width or lambda
WIDTH, LAMBDA = 'width k = ', 'λ = '
WAR_MARKERS = {'trajectory': '*', 'constant': 'P'}
# The parts of what tuning costs -> (name, colour).
PARTS = {
    'sweep': ('sweep of λ at the widest', BLUE),
    'thin_sweep': ('sweep of λ at the thinnest', ORANGE),
    'war': ('WAR at the widest', GREEN),
}

_INTERVALS = 'Bars: 95 % intervals for the mean over seeds (Student’s t).'
_RANGE = 'Bands reach from the lowest to the highest seed.'
_LEAST_SPAN = 0.1  # of an axis of accuracies: noise stays small


class Marker(NamedTuple):
    """The WAR runs of one width and target."""

    target: str
    widen_factor: float
    lam: float  # at the end of training
    rates: Mapping[str, float]  # key -> mean


def draw(study: Study, folder: Path) -> list[Picture]:
    """Writes what the runs allow, in the order of the report; at least one lambda must have run."""
    rows = study.rows
    lam = reference_lambda(rows)
    against_width(folder / 'width.png', {key: by_width(rows, key) for key in RATES})
    against_lambda(
        folder / 'lambda.png',
        {key: by_lambda(rows, key) for key in RATES},
        tuning.best_lambdas(rows),
        war_markers(rows),
    )
    against_width(folder / 'lipschitz.png', {key: by_width(rows, key) for key in FACTORS})
    epochs = {
        at: {key: by_epoch(rows, study.curves, at, key) for key in RATES}
        for at in tuning.lambdas(rows)
    }
    against_epoch(folder / 'epochs.png', {lam: epochs[lam]})
    against_epoch(folder / 'epochs_all.png', epochs)
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
            f'λ that it ended with. {_INTERVALS}',
        ),
        Picture(
            'lipschitz.png',
            'Local Lipschitzness and risk ratio against width at equal λ',
            'Local Lipschitzness on test images; natural risk / robust regularization as averaged '
            f'at the end of training. {_INTERVALS}',
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
    lams = tuning.lambdas(rows)
    return tuning.best_lambdas(rows).get(widths(rows)[0], lams[len(lams) // 2])


def _of_war(study: Study, folder: Path) -> list[Picture]:
    rows, curves = study.rows, study.curves
    run = [name for name in study.targets if any(row['method'] == name for row in rows)]
    if not run:
        return []
    lambda_under_war(
        folder / 'war.png',
        {target: under_war(rows, curves, target, 'lambda') for target in run},
        {target: under_war(rows, curves, target, 'averaged_risk_ratio') for target in run},
        {target: target_ratios(rows, curves, target) for target in run},
    )
    title = 'λ and the risk ratio over training under WAR'
    return [Picture('war.png', title, f'Geometric means over seeds. {_RANGE}')]


def _of_costs(study: Study, folder: Path) -> list[Picture]:
    cost = tuning.tuning_cost(study.rows, study.num_devices)
    if cost is None:
        return []
    bars = {
        'sweep': {'sweep': cost.sweep},
        'WAR': {'thin_sweep': cost.thin_sweep, 'war': cost.war},
    }
    tuning_costs(folder / 'costs.png', bars)
    caption = (
        f'Device time for one seed with {cost.num_lambdas} λ. Each run counts as the median of the '
        'finished runs of its width: wall time times devices, for training, validation and test. '
        'Runs that compiled, the first of each width and device, are left out.'
    )
    return [Picture('costs.png', 'What a tuned λ for the widest network costs', caption)]


def by_width(rows: Sequence[Row], key: str) -> Lines:
    """lambda -> its line over the widths."""
    lams = tuning.lambdas(rows)
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
    held_to = [
        (curves[row['run']]['target'], row['epochs']) for row in rows if row['method'] == target
    ]
    held_to = [(values, epochs) for values, epochs in held_to if values]
    if not held_to or len({(len(values), epochs) for values, epochs in held_to}) > 1:
        return [], []
    values = np.exp(np.mean(np.log([values for values, _ in held_to]), axis=0)).tolist()
    epochs, count = held_to[0][1], len(values)
    if count == 1:
        return [0.0, float(epochs)], values * 2
    return [epochs * (index + 1) / count for index in range(count)], values


def war_markers(rows: Sequence[Row]) -> list[Marker]:
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


def against_epoch(path: Path, bands: Mapping[float, Mapping[str, Lines]]) -> None:
    """lambda -> key -> width -> band: a row of panels per lambda, a line per width."""
    with matplotlib.rc_context(STYLE):
        keys = list(next(iter(bands.values())))
        members = sorted({k for row in bands.values() for lines in row.values() for k in lines})
        styles = plots.ordered_styles(members, 'viridis')
        size = (11.0, 0.9 + 2.3 * len(bands))
        figure = Figure(figsize=size, layout='constrained')
        grid = figure.subplots(len(bands), len(keys), squeeze=False, sharex=True, sharey='col')
        for line, (lam, row) in zip(grid, bands.items(), strict=True):
            for axes, key in zip(line, keys, strict=True):
                for width, of_width in row[key].items():
                    plots.area(axes, of_width, styles[width])
                axes.set_title(f'{quantity(key).title}, λ = {lam:g}')
        for axes, key in zip(grid[-1], keys, strict=True):
            _scale(axes, key)
            axes.set_xlabel('epoch')
            axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        plots.legend_below(figure, styles, WIDTH)
        plots.save(figure, path)


def against_width(path: Path, bands: Mapping[str, Lines]) -> None:
    """key -> lambda -> band: a panel per key, a line per lambda."""
    with matplotlib.rc_context(STYLE):
        members = sorted({member for lines in bands.values() for member in lines})
        styles = plots.ordered_styles(members, 'plasma')
        figure, panels = _panels(bands, styles, 'width k')
        for key, axes in panels.items():
            _scale(axes, key)
        plots.legend_below(figure, styles, LAMBDA)
        plots.save(figure, path)


def against_lambda(
    path: Path,
    bands: Mapping[str, Lines],
    best: Mapping[float, float],
    markers: Sequence[Marker],
) -> None:
    """key -> width -> band: a panel per key, a line per width; the best lambda of each in a ring.

    WAR runs stand at the lambda that they ended with.
    """
    with matplotlib.rc_context(STYLE):
        # A width may have WAR runs and no finished line.
        marked = {mark.widen_factor for mark in markers}
        members = sorted({member for lines in bands.values() for member in lines} | marked)
        styles = plots.ordered_styles(members, 'viridis')
        figure, panels = _panels(bands, styles, 'λ')
        for key, axes in panels.items():
            for width, line in bands[key].items():
                if width in best:
                    at, colour = list(line.x).index(best[width]), styles[width]['color']
                    point = line.x[at] * _shift(width, members), line.mean[at]
                    axes.plot(*point, 'o', ms=11, mfc='none', mec=colour, mew=1.4)
            for mark in markers:
                colour, shape = styles[mark.widen_factor]['color'], WAR_MARKERS[mark.target]
                point = mark.lam, mark.rates[key]
                axes.plot(*point, shape, ms=11, mfc=colour, mec=INK, mew=0.8, zorder=5)
            _scale(axes, key)
        used = {mark.target for mark in markers}
        shapes = [('o', 'best on validation')] if best else []
        shapes += [(WAR_MARKERS[name], f'WAR ({name})') for name in WAR_MARKERS if name in used]
        more = [
            Line2D([], [], marker=shape, ls='', ms=9, mfc='white', mec=INK, label=name)
            for shape, name in shapes
        ]
        plots.legend_below(figure, styles, WIDTH, more)
        plots.save(figure, path)


def lambda_under_war(
    path: Path,
    lams: Mapping[str, Lines],
    ratios: Mapping[str, Lines],
    targets: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> None:
    """Both target -> width -> band, over epochs; targets: target -> epochs, risk ratio to hold."""
    with matplotlib.rc_context(STYLE):
        members = sorted({width for lines in lams.values() for width in lines})
        styles = plots.ordered_styles(members, 'viridis')
        figure = Figure(figsize=(1.0 + 4.6 * len(lams), 5.6), layout='constrained')
        grid = figure.subplots(2, len(lams), squeeze=False, sharex=True, sharey='row')
        for column, target in zip(grid.T, lams, strict=True):
            for axes, lines in zip(column, (lams[target], ratios[target]), strict=True):
                for width, line in lines.items():
                    plots.area(axes, line, styles[width])
            start = next(iter(lams[target].values())).mean[0]
            column[0].axhline(start, color=INK, linestyle=':', linewidth=1.2, zorder=0.5)
            column[0].set_title(f'λ, target: {target}')
            x, y = targets[target]
            plots.plot_positive(
                column[1], np.asarray(x, float), np.asarray(y, float), '--', color=INK,
                linewidth=1.2,
            )  # fmt: skip
            column[1].set(title='Risk ratio', xlabel='epoch')
            column[1].xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        for axes in grid[:, 0]:
            plots.log_axis(axes)
        more = [
            Line2D([], [], color=INK, linestyle=':', linewidth=1.2, label='λ of the thin network'),
            Line2D([], [], color=INK, linestyle='--', linewidth=1.2, label='target'),
        ]
        plots.legend_below(figure, styles, WIDTH, more)
        plots.save(figure, path)


def tuning_costs(path: Path, bars: Mapping[str, Mapping[str, float]]) -> None:
    """name of the bar -> part -> device-seconds."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.3 + 0.45 * len(bars)), layout='constrained')
        axes = figure.subplots()
        longest = max(sum(parts.values()) for parts in bars.values())
        unit, seconds = ('hours', 3600.0) if longest >= 3600.0 else ('minutes', 60.0)
        for place, parts in enumerate(bars.values()):
            left = 0.0
            for part, value in parts.items():
                name, colour = PARTS[part]
                axes.barh(place, value / seconds, 0.62, left, color=colour, label=name)
                left += value / seconds
            text = tables.duration(sum(parts.values()))
            axes.annotate(text, (left, place), (4, 0), textcoords='offset points', va='center')
        axes.set_yticks(range(len(bars)), list(bars))
        axes.invert_yaxis()
        axes.grid(False, axis='y')
        axes.set_axisbelow(True)
        axes.set(xlabel=f'device-{unit}', xlim=(0.0, 1.18 * longest / seconds))
        figure.legend(loc='outside lower center', ncols=len(PARTS))
        plots.save(figure, path)


def _panels(
    bands: Mapping[str, Lines], styles: Mapping[float, Mapping[str, Any]], xlabel: str
) -> tuple[Figure, dict[str, Axes]]:
    """A panel per key, with a line per member of the styles, over a logarithmic x axis."""
    figure = Figure(figsize=(11.0, 3.6), layout='constrained')
    grid = figure.subplots(1, len(bands), squeeze=False)[0]
    panels = dict(zip(bands, grid, strict=True))
    for key, axes in panels.items():
        axes.set_xscale('log', base=2)
        for member, line in bands[key].items():
            plots.bars(axes, line, styles[member], _shift(member, list(styles)))
        axes.set(title=quantity(key).title, xlabel=xlabel)
        plots.ticks(axes, sorted({x for line in bands[key].values() for x in line.x}))
    return figure, panels


def _shift(member: float, members: Sequence[float]) -> float:
    """Side by side, so that intervals do not cover one another."""
    return 2.0 ** (0.07 * (members.index(member) - (len(members) - 1) / 2))


def _scale(axes: Axes, key: str) -> None:
    if not quantity(key).is_rate:
        plots.log_axis(axes)
        return
    lower, upper = axes.get_ylim()
    missing = max(0.0, _LEAST_SPAN - (upper - lower)) / 2
    axes.set_ylim(max(-0.02, lower - missing), min(1.02, upper + missing))
    # Never at halves of a percent, which the labels would round.
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    plots.percent_axis(axes)
