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

from war_jax.lab import plots, tables
from war_jax.lab.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, STYLE, VERMILION
from war_jax.lab.quantities import Band, quantity

Lines = dict[float, Band]  # of a width or lambda
WIDTH, LAMBDA = 'width k = ', 'λ = '
# Of the variants.
MARKERS = {'trajectory': '*', 'constant': 'P', 'fixed_step': 'X', 'power_law': '^',
           'extrapolated': 'D'}  # fmt: skip
SHORT = {
    'best': 'best λ of the sweep', 'thin': 'λ of the thin network', 'trajectory': 'WAR, trajectory',
    'constant': 'WAR, constant', 'fixed_step': 'WAR, fixed step', 'power_law': 'power law of λ',
    'extrapolated': 'WAR, extrapolated',
}  # fmt: skip
COLOURS = (INK, GREY, BLUE, VERMILION, GREEN, PURPLE, ORANGE)
# The parts of what tuning costs -> (name, colour).
PARTS = {
    'sweep': ('sweep of λ at the widest', BLUE),
    'thin_sweep': ('sweep of λ at the thinnest', ORANGE),
    'war': ('WAR at the widest', GREEN),
}


class Marker(NamedTuple):
    """The runs of one variant at one width."""

    method: str
    widen_factor: float
    lam: float  # at the end of training
    rates: Mapping[str, float]  # key -> mean


def against_epoch(path: Path, bands: Mapping[float, Mapping[str, Lines]]) -> None:
    """lambda -> key -> width -> band: a row of panels per lambda, a line per width."""

    def finish(axes: Axes, lam: float, key: str) -> None:
        axes.set_title(f'{quantity(key).title}, λ = {lam:g}')
        if lam == list(bands)[-1]:
            plots.scale(axes, quantity(key))

    plots.against_epoch(path, bands, 'viridis', (11.0, 2.3), finish, WIDTH)


def against_width(path: Path, bands: Mapping[str, Lines]) -> None:
    """key -> lambda -> band: a panel per key, a line per lambda."""
    with matplotlib.rc_context(STYLE):
        members = sorted({member for lines in bands.values() for member in lines})
        styles = plots.ordered_styles(members, 'plasma')
        figure, panels = _panels(bands, styles, 'width k')
        for key, axes in panels.items():
            plots.scale(axes, quantity(key))
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
                colour, shape = styles[mark.widen_factor]['color'], MARKERS[mark.method]
                point = mark.lam, mark.rates[key]
                axes.plot(*point, shape, ms=11, mfc=colour, mec=INK, mew=0.8, zorder=5)
            plots.scale(axes, quantity(key))
        used = {mark.method for mark in markers}
        shapes = [('o', 'best on validation')] if best else []
        shapes += [(MARKERS[name], SHORT[name]) for name in MARKERS if name in used]
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
    thin: float,
) -> None:
    """Both variant -> width -> band, over epochs; targets: variant -> epochs, risk ratio to hold.

    thin: the thin network's lambda.
    """
    with matplotlib.rc_context(STYLE):
        members = sorted({width for lines in lams.values() for width in lines})
        styles = plots.ordered_styles(members, 'viridis')
        width = 4.6 if len(lams) < 3 else 3.1
        figure = Figure(figsize=(1.0 + width * len(lams), 5.6), layout='constrained')
        grid = figure.subplots(2, len(lams), squeeze=False, sharex=True, sharey='row')
        for column, target in zip(grid.T, lams, strict=True):
            for axes, lines in zip(column, (lams[target], ratios[target]), strict=True):
                for width, line in lines.items():
                    plots.area(axes, line, styles[width])
            column[0].axhline(thin, color=INK, linestyle=':', linewidth=1.2, zorder=0.5)
            column[0].set_title(f'λ, {SHORT[target]}')
            x, y = targets[target]
            plots.plot_positive(
                column[1], np.asarray(x, float), np.asarray(y, float), '--', color=INK,
                linewidth=1.2,
            )  # fmt: skip
            column[1].set_title('Risk ratio')
            plots.epoch_axis(column[1])
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


def ways_against_width(path: Path, bands: Mapping[str, Band]) -> None:
    """way -> robust accuracy: the grid's best and the thin lambda as lines, variants as markers."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.6), layout='constrained')
        axes = figure.subplots()
        places = sorted({x for band in bands.values() for x in band.x})
        for number, (way, band) in enumerate(bands.items()):
            style = {'color': COLOURS[number], 'marker': MARKERS.get(way, 'o'), 'label': SHORT[way]}
            style['linestyle'] = '-' if way in ('best', 'thin') else 'none'
            shift = 2.0 ** (0.06 * (number - (len(bands) - 1) / 2))
            plots.bars(axes, band, {**style, 'ms': 7}, shift)
        axes.set(title=quantity('robust_accuracy').title, xlabel='width k')
        plots.ticks(axes, places, base=2)
        plots.scale(axes, quantity('robust_accuracy'))
        figure.legend(loc='outside lower center', ncols=4)
        plots.save(figure, path)


def premise(path: Path, best: Band, ratio: Band) -> None:
    """The best lambda of each width, and the risk ratio there, which WAR takes for constant."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.4), layout='constrained')
        titles = ('Best λ', 'Risk ratio at the best λ')
        for axes, band, title in zip(figure.subplots(1, 2), (best, ratio), titles, strict=True):
            plots.bars(axes, band, {'color': BLUE, 'marker': 'o'})
            axes.axhline(band.mean[0], color=INK, linestyle=':', linewidth=1.2, zorder=0.5)
            axes.set(title=title, xlabel='width k')
            plots.ticks(axes, band.x, base=2)
            plots.log_axis(axes)
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
        for member, line in bands[key].items():
            plots.bars(axes, line, styles[member], _shift(member, list(styles)))
        axes.set(title=quantity(key).title, xlabel=xlabel)
        plots.ticks(axes, sorted({x for line in bands[key].values() for x in line.x}))
    return figure, panels


def _shift(member: float, members: Sequence[float]) -> float:
    """Side by side, so that intervals do not cover one another."""
    return 2.0 ** (0.07 * (members.index(member) - (len(members) - 1) / 2))
