"""How a study's figures are drawn, from lines and markers that are given.

    against_width(Path('width.png'), {'robust_accuracy': {3.0: band}})
    against_lambda(Path('lambda.png'), bands, best={1.0: 3.0}, markers=[Marker(...)])

Widths and lambdas are ordered, and so are their colours, from dark to light. Markers differ as
well, for print in grey. What is drawn where: war_jax/studies/width/pictures.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from war_jax.lab import plots
from war_jax.lab.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, STYLE, VERMILION
from war_jax.lab.quantities import DIFFERENCE, RATIO, Band, Interval, quantity

Lines = dict[float, Band]  # of a width or lambda
WIDTH, LAMBDA = 'width $k$ = ', f'{plots.LAMBDA} = '
_WEIGHT = f'weight {plots.LAMBDA}'
_WIDTH_AXIS, _LAMBDA_AXIS = 'width factor $k$', f'{_WEIGHT} of the regularization'
# Of the variants.
MARKERS = {'trajectory': '*', 'constant': 'P', 'fixed_step': 'X', 'power_law': '^',
           'extrapolated': 'D'}  # fmt: skip
SHORT = {
    'thin': f'{plots.LAMBDA} of the thin network',
    'trajectory': 'WAR, trajectory', 'constant': 'WAR, constant', 'fixed_step': 'WAR, fixed step',
    'power_law': f'power law of {plots.LAMBDA}', 'extrapolated': 'WAR, extrapolated',
}  # fmt: skip
COLOURS = {'thin': GREY, 'trajectory': BLUE, 'constant': VERMILION, 'fixed_step': GREEN,
           'power_law': PURPLE, 'extrapolated': ORANGE}  # fmt: skip
# The parts of what tuning costs -> (name, colour).
PARTS = {
    'sweep': (f'sweep of {plots.LAMBDA} at the widest', BLUE),
    'thin_sweep': (f'sweep of {plots.LAMBDA} at the thinnest', ORANGE),
    'war': ('WAR at the widest', GREEN),
}


class Marker(NamedTuple):
    """The runs of one variant at one width."""

    method: str
    widen_factor: float
    lam: Interval  # at the end of training
    rates: Mapping[str, Interval]  # key -> mean over seeds


def against_epoch(path: Path, bands: Mapping[float, Mapping[str, Lines]]) -> None:
    """lambda -> key -> width -> band: a row of panels per lambda, a line per width."""

    def finish(axes: Axes, lam: float, key: str) -> None:
        axes.set_title(f'{quantity(key).title}, {LAMBDA}{lam:g}')
        plots.scale(axes, quantity(key))

    plots.against_epoch(
        path, bands, 'viridis', (11.0, 2.3), finish, WIDTH, 'lowest to highest seed'
    )


def against_width(path: Path, bands: Mapping[str, Lines]) -> None:
    """key -> lambda -> band: a panel per key, a line per lambda."""
    with matplotlib.rc_context(STYLE):
        members = sorted({member for lines in bands.values() for member in lines})
        styles = plots.ordered_styles(members, 'plasma')
        figure, panels = _panels(bands, styles, _WIDTH_AXIS)
        for key, axes in panels.items():
            plots.scale(axes, quantity(key))
        plots.legend_below(figure, styles, LAMBDA, [plots.bar_key()])
        plots.save(figure, path)


def against_lambda(
    path: Path,
    bands: Mapping[str, Lines],
    best: Mapping[float, float],
    markers: Sequence[Marker],
) -> None:
    """key -> width -> band: a panel per key, a line per width; the best lambda of each in a ring.

    WAR runs stand at the lambda that they ended with, with the intervals of that and of the rate.
    """
    with matplotlib.rc_context(STYLE):
        # A width may have WAR runs and no finished line.
        marked = {mark.widen_factor for mark in markers}
        members = sorted({member for lines in bands.values() for member in lines} | marked)
        styles = plots.ordered_styles(members, 'viridis')
        figure, panels = _panels(bands, styles, _LAMBDA_AXIS)
        for key, axes in panels.items():
            for width, line in bands[key].items():
                if width in best:
                    at, colour = list(line.x).index(best[width]), styles[width]['color']
                    point = line.x[at], line.mean[at]
                    axes.plot(*point, 'o', ms=11, mfc='none', mec=colour, mew=1.4)
            for mark in markers:
                colour, shape = styles[mark.widen_factor]['color'], MARKERS[mark.method]
                x, y = mark.lam, mark.rates[key]
                axes.errorbar(
                    x[0], y[0], _reach(y), _reach(x), fmt=shape, ms=9, mfc=colour, mec=INK,
                    mew=0.8, ecolor=colour, elinewidth=1.0, capsize=2.5, zorder=5,
                )  # fmt: skip
            plots.scale(axes, quantity(key))
        used = {mark.method for mark in markers}
        shapes = [('o', 'best on validation')] if best else []
        shapes += [(MARKERS[name], SHORT[name]) for name in MARKERS if name in used]
        more = [
            Line2D([], [], marker=shape, ls='', ms=9, mfc='white', mec=INK, label=name)
            for shape, name in shapes
        ]
        plots.legend_below(figure, styles, WIDTH, [*more, plots.bar_key()])
        plots.save(figure, path)


def lambda_under_war(
    path: Path,
    lams: Mapping[str, Lines],
    ratios: Mapping[str, Lines],
    targets: Mapping[str, Mapping[float, tuple[Sequence[float], Sequence[float]]]],
    thin: float,
    widths: Sequence[float],
) -> None:
    """Both variant -> width -> band, over epochs; targets: variant -> width -> epochs, and the risk
    ratio to hold.

    thin: the thin network's lambda. widths: all of the study, each of which has one colour in all
    figures.
    """
    with matplotlib.rc_context(STYLE):
        drawn = {width for lines in lams.values() for width in lines}
        styles = plots.ordered_styles(sorted({*widths, *drawn}), 'viridis')
        width = 4.6 if len(lams) < 3 else 3.1
        figure = Figure(figsize=(1.0 + width * len(lams), 5.6), layout='constrained')
        grid = figure.subplots(2, len(lams), squeeze=False, sharex=True, sharey='row')
        for column, target in zip(grid.T, lams, strict=True):
            for axes, lines in zip(column, (lams[target], ratios[target]), strict=True):
                for width, line in lines.items():
                    plots.area(axes, line, styles[width])
            column[0].axhline(thin, color=INK, linestyle=':', linewidth=1.2, zorder=0.5)
            column[0].set_title(f'{plots.LAMBDA}, {SHORT[target]}')
            held_to = targets[target]
            is_one = len({(*x, *(f'{ratio:.6g}' for ratio in y)) for x, y in held_to.values()}) == 1
            for width, (x, y) in held_to.items():
                plots.plot_positive(
                    column[1], np.asarray(x, float), np.asarray(y, float), '--',
                    color=INK if is_one else styles[width]['color'], linewidth=1.2,
                )  # fmt: skip
            column[1].set_title('Risk ratio')
            plots.epoch_axis(column[1])
        for axes, label in zip(grid[:, 0], (_WEIGHT, RATIO), strict=True):
            plots.log_axis(axes)
            axes.set_ylabel(label)
        styles = {width: style for width, style in styles.items() if width in drawn}
        more = [
            plots.line_key(f'{plots.LAMBDA} of the thin network', ':', INK),
            plots.line_key('target', '--', INK),
            plots.area_key('lowest to highest seed'),
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
            text = f'{left:.3g} {unit}'
            axes.annotate(text, (left, place), (4, 0), textcoords='offset points', va='center')
        axes.set_yticks(range(len(bars)), list(bars))
        axes.invert_yaxis()
        axes.grid(False, axis='y')
        axes.set_axisbelow(True)
        axes.set(xlabel=f'device-{unit}', xlim=(0.0, 1.18 * longest / seconds))
        figure.legend(loc='outside lower center', ncols=len(PARTS))
        plots.save(figure, path)


def ways_against_width(path: Path, bands: Mapping[str, Band], margin: float) -> None:
    """way -> differences of robust accuracy; margin: how far below 0 is still as good."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout='constrained')
        axes = figure.subplots()
        places = sorted({x for band in bands.values() for x in band.x})
        for number, (way, band) in enumerate(bands.items()):
            apart = 0.11 * (number - (len(bands) - 1) / 2)
            style = {'color': COLOURS[way], 'marker': MARKERS.get(way, 'o'), 'label': SHORT[way]}
            beside = band._replace(x=[places.index(x) + apart for x in band.x])
            plots.bars(axes, beside, {**style, 'ms': 7, 'linestyle': 'none'})
        axes.axhline(0.0, color=INK, linewidth=1.2, zorder=1.6)  # over the grid
        axes.axhline(-margin, color=INK, linestyle=':', linewidth=1.2, zorder=1.6)
        title = f'{quantity("robust_accuracy").title} less that at the best {plots.LAMBDA}'
        axes.set(title=title, xlabel=_WIDTH_AXIS, ylabel=DIFFERENCE)
        axes.set_xticks(range(len(places)), [f'{place:g}' for place in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
        plots.difference_axis(axes)
        handles, names = axes.get_legend_handles_labels()
        handles += [
            plots.line_key(f'best {plots.LAMBDA} of the sweep', '-', INK),
            plots.line_key(f'{100 * margin:g} points below', ':', INK),
            plots.bar_key(),
        ]
        names = [*names, *(str(handle.get_label()) for handle in handles[len(names) :])]
        figure.legend(handles, names, loc='outside lower center', ncols=3)
        plots.save(figure, path)


def premise(path: Path, best: Band, ratio: Band) -> None:
    """The best lambda of each width, and the risk ratio there, which WAR takes for constant."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.4), layout='constrained')
        panels = (
            (best, f'Best {plots.LAMBDA}', _WEIGHT),
            (ratio, f'Risk ratio at the best {plots.LAMBDA}', RATIO),
        )
        for axes, (band, title, label) in zip(figure.subplots(1, 2), panels, strict=True):
            plots.bars(axes, band, {'color': BLUE, 'marker': 'o'})
            axes.axhline(band.mean[0], color=INK, linestyle=':', linewidth=1.2, zorder=0.5)
            axes.set(title=title, xlabel=_WIDTH_AXIS, ylabel=label)
            plots.ticks(axes, band.x, base=2)
            plots.log_axis(axes)
        handles = [
            plots.line_key('that of the thinnest', ':', INK),
            plots.bar_key('2.5 to 97.5 % of seeds and images drawn anew'),
        ]
        figure.legend(handles=handles, loc='outside lower center', ncols=2, labelcolor=INK)
        plots.save(figure, path)


def _panels(
    bands: Mapping[str, Lines], styles: Mapping[float, Mapping[str, Any]], xlabel: str
) -> tuple[Figure, dict[str, Axes]]:
    """A panel per key, with a line per member of the styles, over a logarithmic x axis."""
    figure = Figure(figsize=(max(11.0, 3.6 * len(bands)), 3.6), layout='constrained')
    grid = figure.subplots(1, len(bands), squeeze=False)[0]
    panels = dict(zip(bands, grid, strict=True))
    for key, axes in panels.items():
        axes.set_xscale('log', base=2)
        for number, (member, line) in enumerate(bands[key].items()):
            plots.bars(axes, line, styles[member], len(bands[key]) - 1 - number)
        axes.set(title=quantity(key).title, xlabel=xlabel)
        plots.ticks(axes, sorted({x for line in bands[key].values() for x in line.x}))
    return figure, panels


def _reach(interval: Interval) -> np.ndarray:
    """(2, 1): how far an interval goes below and above its mean; none of a single seed."""
    mean, lower, upper = interval
    reach = np.array([[mean - lower], [upper - mean]])
    return np.where(np.isfinite(reach), np.maximum(reach, 0.0), 0.0)
