"""The figures of a study of widths and lambdas, from plain numbers to one PNG each.

    band = Band(x=[1, 2, 4], mean=[0.60, 0.66, 0.70], lower=[0.58, 0.65, 0.69], upper=[...])
    against_width(Path('width.png'), {'natural_accuracy': {3.0: band}})            # key, lambda
    against_lambda(Path('lambda.png'), {'robust_accuracy': {2.0: band}}, {2.0: 3.0}, markers)
    against_epoch(Path('epoch.png'), {3.0: {'robust_accuracy': {2.0: band}}})      # lambda, key

Widths and lambdas are ordered, and so are their colours, from dark to light. Markers differ as
well, for print in grey. An infinite bound, of a single seed, is not drawn.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from war_jax.lab import plots, tables
from war_jax.lab.plots import BLUE, GREEN, INK, ORANGE, STYLE

# key in the rows -> (title, logarithmic?)
PANELS = {
    'natural_accuracy': ('Natural accuracy', False),
    'robust_accuracy': ('Robust accuracy', False),
    'perturbation_stability': ('Perturbation stability', False),
    'local_lipschitz': ('Local Lipschitzness, output ratio', True),
    'local_lipschitz_kl_gradient': ('Local Lipschitzness, KL gradient', True),
    'risk_ratio': ('Risk ratio', True),
}
WIDTH, LAMBDA = 'width k = ', 'λ = '
WAR_MARKERS = {'trajectory': '*', 'constant': 'P'}
# The parts of what tuning costs -> (name, colour).
PARTS = {
    'sweep': ('sweep of λ at the widest', BLUE),
    'thin_sweep': ('sweep of λ at the thinnest', ORANGE),
    'war': ('WAR at the widest', GREEN),
}

_MARKERS = 'os^Dv<>ph'
_COLOURS = {WIDTH: 'viridis', LAMBDA: 'plasma'}
_LEAST_SPAN = 0.1  # of an axis of accuracies: noise stays small


class Band(NamedTuple):
    """A line and what lies around it; NaN is a gap."""

    x: Sequence[float]
    mean: Sequence[float]
    lower: Sequence[float]
    upper: Sequence[float]


class Marker(NamedTuple):
    """The WAR runs of one width and target."""

    target: str
    widen_factor: float
    lam: float  # at the end of training
    rates: Mapping[str, float]  # key -> mean


def against_epoch(path: Path, bands: Mapping[float, Mapping[str, Mapping[float, Band]]]) -> None:
    """lambda -> key -> width -> band: a row of panels per lambda, a line per width."""
    with matplotlib.rc_context(STYLE):
        keys = list(next(iter(bands.values())))
        widths = sorted({k for row in bands.values() for lines in row.values() for k in lines})
        styles = _styles(WIDTH, widths)
        size = (11.0, 0.9 + 2.3 * len(bands))
        figure = Figure(figsize=size, layout='constrained')
        grid = figure.subplots(len(bands), len(keys), squeeze=False, sharex=True, sharey='col')
        for line, (lam, row) in zip(grid, bands.items(), strict=True):
            for axes, key in zip(line, keys, strict=True):
                for width, band in row[key].items():
                    _area(axes, band, styles[width])
                axes.set_title(f'{PANELS[key][0]}, λ = {lam:g}')
        for axes, key in zip(grid[-1], keys, strict=True):
            _scale(axes, key)
            axes.set_xlabel('epoch')
            axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        _legend(figure, WIDTH, styles)
        plots.save(figure, path)


def against_width(path: Path, bands: Mapping[str, Mapping[float, Band]]) -> None:
    """key -> lambda -> band: a panel per key, a line per lambda."""
    _panels(path, bands, LAMBDA, 'width k')


def against_lambda(
    path: Path,
    bands: Mapping[str, Mapping[float, Band]],
    best: Mapping[float, float],
    markers: Sequence[Marker],
) -> None:
    """key -> width -> band: a panel per key, a line per width; the best lambda of each in a ring.

    WAR runs stand at the lambda that they ended with.
    """
    _panels(path, bands, WIDTH, 'λ', best, markers)


def lambda_under_war(
    path: Path,
    lams: Mapping[str, Mapping[float, Band]],
    ratios: Mapping[str, Mapping[float, Band]],
    targets: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> None:
    """Both target -> width -> band, over epochs; targets: target -> epochs, risk ratio to hold."""
    with matplotlib.rc_context(STYLE):
        styles = _styles(WIDTH, sorted({width for lines in lams.values() for width in lines}))
        figure = Figure(figsize=(1.0 + 4.6 * len(lams), 5.6), layout='constrained')
        grid = figure.subplots(2, len(lams), squeeze=False, sharex=True, sharey='row')
        for column, target in zip(grid.T, lams, strict=True):
            for axes, lines in zip(column, (lams[target], ratios[target]), strict=True):
                for width, band in lines.items():
                    _area(axes, band, styles[width])
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
        _legend(figure, WIDTH, styles, more)
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
                label = None if part in _shown_parts(axes) else PARTS[part][0]
                width, colour = value / seconds, PARTS[part][1]
                axes.barh(place, width, 0.62, left, color=colour, label=label, gid=part)
                left += width
            text = tables.duration(sum(parts.values()))
            axes.annotate(text, (left, place), (4, 0), textcoords='offset points', va='center')
        axes.set_yticks(range(len(bars)), list(bars))
        axes.invert_yaxis()
        axes.grid(False, axis='y')
        axes.set_axisbelow(True)
        axes.set(xlabel=f'device-{unit}', xlim=(0.0, 1.18 * longest / seconds))
        figure.legend(loc='outside lower center', ncols=len(PARTS))
        plots.save(figure, path)


def _shown_parts(axes: Axes) -> set[Any]:
    return {bar.get_gid() for bar in axes.patches}


def _panels(
    path: Path,
    bands: Mapping[str, Mapping[float, Band]],
    family: str,
    xlabel: str,
    best: Mapping[float, float] | None = None,
    markers: Sequence[Marker] = (),
) -> None:
    """One panel per key, with a line per member of the family, over a logarithmic x axis."""
    with matplotlib.rc_context(STYLE):
        # A width may have WAR runs and no finished line.
        marked = {mark.widen_factor for mark in markers}
        members = sorted({member for lines in bands.values() for member in lines} | marked)
        styles = _styles(family, members)
        figure = Figure(figsize=(11.0, 3.6), layout='constrained')
        grid = figure.subplots(1, len(bands), squeeze=False)[0]
        for axes, (key, lines) in zip(grid, bands.items(), strict=True):
            axes.set_xscale('log', base=2)
            for member, band in lines.items():
                # Side by side, so that intervals do not cover one another.
                shift = 2.0 ** (0.07 * (members.index(member) - (len(members) - 1) / 2))
                _bars(axes, band, styles[member], shift)
                if best and member in best:
                    at = list(band.x).index(best[member])
                    point = band.x[at] * shift, band.mean[at]
                    axes.plot(*point, 'o', ms=11, mfc='none', mec=styles[member]['color'], mew=1.4)
            for mark in markers:
                colour, shape = styles[mark.widen_factor]['color'], WAR_MARKERS[mark.target]
                point = mark.lam, mark.rates[key]
                axes.plot(*point, shape, ms=11, mfc=colour, mec=INK, mew=0.8, zorder=5)
            axes.set(title=PANELS[key][0], xlabel=xlabel)
            _ticks(axes, sorted({x for band in lines.values() for x in band.x}))
            _scale(axes, key)
        shapes = [(WAR_MARKERS[target], f'WAR ({target})') for target in WAR_MARKERS]
        used = {WAR_MARKERS[mark.target] for mark in markers}
        more = [
            Line2D([], [], marker=shape, ls='', ms=9, mfc='white', mec=INK, label=name)
            for shape, name in [*([('o', 'best on validation')] if best else []), *shapes]
            if shape in used or shape == 'o'
        ]
        _legend(figure, family, styles, more)
        plots.save(figure, path)


def _area(axes: Axes, band: Band, style: Mapping[str, Any]) -> None:
    x, mean, lower, upper = (np.asarray(values, float) for values in band)
    axes.fill_between(x, lower, upper, color=style['color'], alpha=0.15, lw=0)
    axes.plot(x, mean, markevery=plots.every(x), **style)


def _bars(axes: Axes, band: Band, style: Mapping[str, Any], shift: float) -> None:
    x, mean, lower, upper = (np.asarray(values, float) for values in band)
    reach = np.array([mean - lower, upper - mean])
    reach[~np.isfinite(reach)] = np.nan
    axes.errorbar(x * shift, mean, reach, capsize=2.5, elinewidth=1.0, **style)


def _styles(family: str, members: Sequence[float]) -> dict[float, dict[str, Any]]:
    # The end of the colour maps is too light for a line on white.
    colours = matplotlib.colormaps[_COLOURS[family]](np.linspace(0.0, 0.85, len(members)))
    return {
        member: {'color': colour, 'marker': _MARKERS[index % len(_MARKERS)], 'linestyle': '-'}
        for index, (member, colour) in enumerate(zip(members, colours, strict=True))
    }


def _scale(axes: Axes, key: str) -> None:
    if PANELS[key][1]:
        plots.log_axis(axes)
        return
    lower, upper = axes.get_ylim()
    missing = max(0.0, _LEAST_SPAN - (upper - lower)) / 2
    # An interval of Student's may leave [0, 1].
    axes.set_ylim(max(-0.02, lower - missing), min(1.02, upper + missing))
    # Never at halves of a percent, which the labels would round.
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    plots.percent_axis(axes)


def _ticks(axes: Axes, values: Sequence[float]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))


def _legend(
    figure: Figure, family: str, styles: Mapping[float, Mapping[str, Any]], more: Any = ()
) -> None:
    """Below all panels, which share it."""
    handles = [
        Line2D([], [], label=f'{family}{member:g}', **style) for member, style in styles.items()
    ]
    handles += more
    columns = min(len(handles), int(figure.get_figwidth() / 1.5))  # as many as find room
    figure.legend(handles=handles, loc='outside lower center', ncols=columns, labelcolor=INK)
