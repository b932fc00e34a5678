"""The figures of a study of convergence.

for picture in draw(study, Path('runs/convergence/figures')):
    print(picture.file, picture.caption)
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ntk.studies.claims import Samples
from ntk.studies.convergence.claims import Study, titled
from war_jax.lab import plots
from war_jax.lab.plots import BLUE, GREEN, INK, ORANGE, PURPLE, STYLE, VERMILION
from war_jax.measures.statistics import geometric_interval, mean_interval
from war_jax.studies.width.pictures import Picture

_COLOURS = (INK, BLUE, GREEN, VERMILION, PURPLE, ORANGE)
_MARKERS = 'osD^vP'
Interval = Callable[[Sequence[float]], tuple[float, float, float]]


def draw(study: Study, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the report."""
    pictures = []
    for file, title, caption, panels in (
        (
            'losses.png',
            'Robust loss reached and the best in the ball',
            'Points: min over the steps of L_A, mean over seeds and its 95 % interval; dashed: the '
            'best robust loss of the linearised network in the same ball (certified lower bound). '
            'Grey: log 2, the loss at the start.',
            _losses,
        ),
        (
            'movement.png',
            'Movement and linearisation against width',
            'Above: ‖U‖, which B(R) bounds by R for each layer. Below: ‖f − f_lin‖ / ‖f_lin‖ on '
            'adversarial points at the end of training. Geometric means over seeds and their 95 % '
            'intervals.',
            _movements,
        ),
        (
            'sweeps.png',
            'Attacks, caps and time',
            'Left and middle: the base network under other attacks A and caps of other radii; L_* '
            'under the strong attack at the end. Right: excess of min L_A over the best in the '
            'ball, at the widest network of the base design.',
            _sweeps,
        ),
    ):
        with matplotlib.rc_context(STYLE):
            figure = panels(study)
            plots.save(figure, folder / file)
        pictures.append(Picture(file, title, caption))
    return pictures


def _losses(study: Study) -> Figure:
    designs = study.settings.grid.designs
    figure = Figure(figsize=(3.1 * len(designs), 3.3), layout='constrained')
    for axes, design in zip(
        figure.subplots(1, len(designs), squeeze=False)[0], designs, strict=True
    ):
        for look, radius in enumerate(study.settings.grid.radii):
            series(axes, study.samples(design, 'least', radius=radius), look)
            if radius:
                series(axes, study.samples(design, 'best', radius=radius), look, dashed=True)
        axes.axhline(math.log(2.0), color=plots.GREY, lw=0.8)
        axes.set(title=titled(design), xlabel='width m', ylim=(0.0, None))
        width_axis(axes, study.settings.widths(design))
    figure.axes[0].set_ylabel('logistic loss')
    _radius_legend(figure, study)
    return figure


def _movements(study: Study) -> Figure:
    designs = study.settings.grid.designs
    figure = Figure(figsize=(3.1 * len(designs), 5.6), layout='constrained')
    grid = figure.subplots(2, len(designs), squeeze=False)
    for column, design in enumerate(designs):
        for row, key in enumerate(('movement', 'linearisation_error')):
            axes = grid[row][column]
            for look, radius in enumerate(study.settings.grid.radii):
                _positive(axes, study.samples(design, key, radius=radius), look)
            plots.log_axis(axes)
            width_axis(axes, study.settings.widths(design))
            title = 'movement' if key == 'movement' else 'linearisation'
            axes.set_title(f'{titled(design)}: {title}', fontsize=8.5)
        grid[1][column].set_xlabel('width m')
    _radius_legend(figure, study)
    return figure


def _sweeps(study: Study) -> Figure:
    base, grid = study.settings.base, study.settings.grid
    figure = Figure(figsize=(9.3, 3.3), layout='constrained')
    attacks, caps, time = figure.subplots(1, 3)
    keys = {'least': 'min L_A', 'robust_loss': 'L_* at the end', 'best': 'best in the ball'}
    places = {name: float(number) for number, name in enumerate(grid.attacks)}
    for look, (key, name) in enumerate(keys.items()):
        by_attack = study.samples(base.design, key, over='attack', width=base.width)
        shown = {places[a]: values for a, values in by_attack.items()}
        series(attacks, shown, look, name)
        series(caps, study.samples(base.design, key, over='epsilon', width=base.width), look, name)
    attacks.set_xticks(list(places.values()), list(places), fontsize=8)
    attacks.set(title='Attack A', ylabel='logistic loss')
    caps.set(title='Radius of the cap', xlabel='ε')
    for look, radius in enumerate(grid.radii):
        _positive(time, study.gaps_over_time(base.design, radius), look, _ball(radius))
    time.set_xscale('log', base=2)
    plots.log_axis(time)
    time.set(title='min L_A − best', xlabel='steps')
    for axes in (attacks, time):
        if axes.lines:
            axes.legend(fontsize=7.5)
    return figure


def series(
    axes: Axes,
    samples: Samples,
    look: int,
    name: str = '',
    dashed: bool = False,
    interval: Interval = mean_interval,
) -> None:
    """Means over seeds, with Student's 95 % interval where there are several."""
    if not samples:
        return
    x = np.array(sorted(samples))
    bands = np.array([interval(samples[key]) for key in x])
    colour = _COLOURS[look % len(_COLOURS)]
    style: dict[str, Any] = {'ls': '--', 'lw': 1.0} if dashed else {'marker': _MARKERS[look % 6]}
    axes.plot(x, bands[:, 0], color=colour, label=name or None, **style)
    if not dashed and np.isfinite(bands).all():
        axes.fill_between(x, bands[:, 1], bands[:, 2], color=colour, alpha=0.12, lw=0)


def _positive(axes: Axes, samples: Samples, look: int, name: str = '') -> None:
    """For a logarithmic axis: geometric means."""
    series(axes, samples, look, name, interval=geometric_interval)


def width_axis(axes: Axes, widths: Sequence[int]) -> None:
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(widths)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))


def _plain(value: float, _: int) -> str:
    return f'{value:g}'


def _radius_legend(figure: Figure, study: Study) -> None:
    handles = [
        Line2D([], [], color=_COLOURS[look % 6], marker=_MARKERS[look % 6], label=_ball(radius))
        for look, radius in enumerate(study.settings.grid.radii)
    ]
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), labelcolor=INK)


def _ball(radius: float) -> str:
    return f'B({radius:g})' if radius else 'no projection'
