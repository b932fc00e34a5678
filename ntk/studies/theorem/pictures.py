"""The rows of a study of the theorem by what they are asked for; figures.

    at_start(results, of_start('mean_outputs'))                     # m -> seed -> value
    at_start(results, of_ball('loss', 'constant'), over='depth')    # L -> seed -> value
    trained(results, 'natural', of_side('test', 'lipschitz'))       # m -> seed -> value
    for picture in draw(results, Path('runs/theorem/figures')): print(picture.file)

What is neither x nor in `where` is that of the base, omega_0 included, and of the theorem's
parametrization.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntk.studies.theorem.settings import (
    THEORY,
    Law,
    Objective,
    Settings,
    Supremum,
    Training,
)
from war_jax.lab import plots
from war_jax.lab.estimates import Samples
from war_jax.lab.experiment import Results, Row
from war_jax.lab.page import Picture
from war_jax.lab.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, STYLE, VERMILION
from war_jax.lab.quantities import COSINE, NORM, RATE, RATIO, Quantity, band

Found = Results[Settings]
Value = Callable[[Settings, Row], float | None]
LAW_TEXT = {'shrinking': 'ω = ω₀ m^−½', 'constant': 'ω = ω₀'}
_LENGTH = Quantity('length', '', NORM, True, '')
_STABILITY = Quantity('stability', '', RATE, False, '')
_COSINE = Quantity('cosine', '', COSINE, False, '')
_FACTOR = Quantity('factor', '', RATIO, True, '')
_COLOURS = (INK, BLUE, VERMILION, GREEN, PURPLE, ORANGE)
_OBJECTIVES: dict[Objective, str] = {'natural': BLUE, 'adversarial': VERMILION}
_DASHES: dict[Objective, str] = {'natural': '-', 'adversarial': '--'}


def of_start(key: str) -> Value:
    """A number of the network at its start."""
    return lambda settings, row: row[key]


def of_ball(kind: str, law: Law, norm: str = 'frobenius', omega: float | None = None) -> Value:
    """The supremum over a ball of the gradient of the 'outputs' or of the 'loss'."""

    def value(settings: Settings, row: Row) -> float:
        listed = row['suprema'][f'{kind}-{norm}-{law}']
        return listed[settings.balls.omegas.index(omega or settings.base.omega)]

    return value


def added(law: Law, omega: float | None = None) -> Value:
    """What moving the weights adds to the gradient of the outputs: against the smallest ball, in
    which hardly anything but the input moves."""

    def value(settings: Settings, row: Row) -> float:
        smallest = row['suprema']['outputs-frobenius-shrinking'][0]
        return of_ball('outputs', law, omega=omega)(settings, row) - smallest

    return value


def added_by_first(settings: Settings, row: Row) -> float:
    """What moving W_1 alone adds, gates as they are, in the ball of the base's constant omega."""
    place = settings.balls.omegas.index(settings.base.omega)
    return row['first_layer']['constant'][place] - row['max_outputs']


def looseness(settings: Settings, row: Row) -> float:
    """The product of spectral norms over the gradient: all alignments and gates together."""
    return 1.0 / math.prod([*row['alignment'], *row['gate']])


def first_looseness(settings: Settings, row: Row) -> float:
    return 1.0 / row['alignment'][0]


def of_side(side: str, key: str) -> Value:
    """A number of the trained network on 'train' or 'test' images; key may be a column of both."""
    return lambda settings, row: row[side][key]


def movement(settings: Settings, row: Row) -> float:
    """The largest || V_l - V_l(0) ||_F of a layer."""
    return max(row['movement'])


def at_start(
    results: Found, value: Value, over: str = 'width', name: str = THEORY, **where: Any
) -> Samples:
    return _samples(results, value, over, Supremum, parametrization=name, **where)


def trained(
    results: Found, objective: Objective, value: Value, over: str = 'width', **where: Any
) -> Samples:
    return _samples(results, value, over, Training, objective=objective, **where)


def _samples(results: Found, value: Value, over: str, kind: type, **where: Any) -> Samples:
    """x -> seed -> value, in the order of x."""
    settings = results.settings
    base = {'depth': settings.base.depth, 'width': settings.base.width}
    base.pop(over, None)
    found = results.samples(
        lambda cell: value(settings, results.rows[cell]), over, kind, **{**base, **where}
    )
    return dict(sorted(found.items()))


def alignment_along(results: Found, objective: Objective, width: int) -> Samples:
    """Steps + 1 -> seed -> alignment of W_1 on the training images."""
    by_seed = trained(results, objective, lambda settings, row: 0.0).get(width, {})
    found: dict[float, dict[int, float]] = {}
    for seed in by_seed:
        row = results.rows[Training(objective, results.settings.base.depth, width, seed)]
        for step, value in zip(row['steps'], row['alignments'], strict=True):
            found.setdefault(step + 1, {})[seed] = value
    return found


def draw(results: Found, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the report."""
    kinds = {type(cell) for cell in results.rows}
    base = results.settings.base
    listed: Sequence[tuple[type, str, str, str, Callable[[Found], Figure]]] = (
        (
            Supremum, 'suprema.png', 'Input gradients at the start and in balls around it',
            f'Means over seeds and their 95 % intervals; L = {base.depth}, m = {base.width} and '
            f'ω₀ = {base.omega:g} where not said. Grey dotted: the powers 1/2 of the theorem’s '
            'bound √(mL), and 1 of ω₀, through the last point. Each layer’s weights move by ω at '
            f'most in the Frobenius norm, the input by {results.settings.balls.epsilon:g}.',
            _suprema,
        ),
        (
            Supremum, 'looseness.png', 'What the product of norms hides',
            'Left: how many times the product of spectral norms exceeds the gradient of the '
            'label’s output at the start, and the factors of that. Right: the alignment of W₁ on '
            'the training images; solid natural, dashed adversarial; bands: 95 % over seeds.',
            _looseness,
        ),
        (
            Training, 'trained.png', 'After training to interpolation',
            f'The theorem’s parametrization, L = {base.depth}; solid on test, dotted on training '
            'images; means and 95 % intervals over seeds. Movement: of the layer that moves most.',
            _trained,
        ),
    )  # fmt: skip
    pictures = []
    for kind, file, title, caption, panels in listed:
        if kind in kinds:
            with matplotlib.rc_context(STYLE):
                plots.save(panels(results), folder / file)
            pictures.append(Picture(file, title, caption))
    return pictures


def _suprema(results: Found) -> Figure:
    settings = results.settings
    figure = Figure(figsize=(9.6, 8.4), layout='constrained')
    (widths, depths), (names, radii) = figure.subplots(2, 2)
    lines = (
        ('start, mean over $x$', of_start('mean_outputs')),
        ('start, 95 % quantile', of_start('q95_outputs')),
        ('start, maximum', of_start('max_outputs')),
        (r'supremum, $\omega = \omega_0 m^{-1/2}$', of_ball('outputs', 'shrinking')),
        (r'supremum, $\omega = \omega_0$', of_ball('outputs', 'constant')),
    )
    for axes, over in ((widths, 'width'), (depths, 'depth')):
        for index, (label, value) in enumerate(lines):
            _line(axes, at_start(results, value, over), _LENGTH, index, label)
        _guide(axes, 0.5, r'$\sqrt{%s}$' % ('m' if over == 'width' else 'L'))
    for index, name in enumerate((THEORY, *settings.grid.parametrizations)):
        title = {THEORY: r'theorem, $\sqrt{m}$', 'ntk': 'NTK'}.get(name, name)
        found = at_start(results, of_ball('outputs', 'constant'), name=name)
        _line(names, found, _LENGTH, index, title)
    _guide(names, 0.5, r'$\sqrt{m}$', line=0)
    for index, depth in enumerate(settings.grid.depths):
        by_omega = {
            omega: at_start(results, added('constant', omega), depth=depth).get(
                settings.base.width, {}
            )
            for omega in settings.balls.omegas
        }
        _line(radii, {k: v for k, v in by_omega.items() if v}, _LENGTH, index, f'$L = {depth}$')
    _guide(radii, 1.0, r'$\omega_0$')
    for axes, title, label, values in (
        (widths, 'Against width', 'width $m$ (units)', settings.grid.widths),
        (depths, 'Against depth', 'depth $L$ (weight matrices)', settings.grid.depths),
        (names, r'By parametrization, $\omega = \omega_0$', 'width $m$ (units)',
         settings.grid.widths),
        (radii, r'What moving adds, $\omega = \omega_0$', r'radius $\omega_0$',
         settings.balls.omegas),
    ):  # fmt: skip
        _finish(axes, title, label, r'$\|\nabla_x f_c\|_2$ (outputs per unit of input)', values)
    return figure


def _looseness(results: Found) -> Figure:
    settings = results.settings
    figure = Figure(figsize=(9.6, 4.6), layout='constrained')
    start, along = figure.subplots(1, 2)
    for index, (label, value) in enumerate((
        ('product of norms / gradient', looseness),
        ('of it: alignment of $W_1$', first_looseness),
        ('alignments of the other layers', lambda s, row: 1 / math.prod(row['alignment'][1:])),
        ('gates', lambda s, row: 1 / math.prod(row['gate'])),
    )):  # fmt: skip
        _line(start, at_start(results, value), _FACTOR, index, label)
    widths = settings.grid.widths
    for index, width in enumerate(widths):
        for objective, dash in _DASHES.items():
            drawn = band(alignment_along(results, objective, width), _COSINE)
            if drawn is not None:
                label = f'$m = {width}$, {objective}'
                style = {'color': _COLOURS[index % 6], 'ls': dash, 'label': label}
                plots.area(along, drawn, style)
    _finish(start, 'At the start', 'width $m$ (units)', 'factor (ratio)', widths)
    along.set_xscale('log', base=2)
    along.set(
        title='Along training', xlabel='steps + 1',
        ylabel=r'$\|W_1^T b\| / (\|W_1\|_2\, \|b\|)$ (ratio)', ylim=(0, 1),
    )  # fmt: skip
    _legend(along, 2)
    return figure


def _trained(results: Found) -> Figure:
    settings = results.settings
    figure = Figure(figsize=(9.6, 8.2), layout='constrained')
    panels = figure.subplots(2, 2).ravel()
    for axes, (title, label, key, of) in zip(panels, (
        ('Largest gradient', r'$\max\ \|\nabla_x f_c\|_2$ (outputs per unit of input)',
         'max_outputs', _LENGTH),
        ('Lipschitzness ÷ margin', 'gradient / margin (per unit of input)',
         'lipschitz_over_margin', _LENGTH),
        ('Perturbation stability', 'share of the images', 'perturbation_stability', _STABILITY),
        ('Movement', r'$\|W_l - W_l(0)\|_F$ (units of the weights)', '', _LENGTH),
    ), strict=True):  # fmt: skip
        for objective in settings.grid.objectives:
            for side, dash in (('test', '-'), ('train', ':')) if key else (('', '-'),):
                value = of_side(side, key) if key else movement
                drawn = band(trained(results, objective, value), of)
                if drawn is not None:
                    style = {
                        'color': _OBJECTIVES[objective], 'ls': dash, 'marker': 'o',
                        'label': f'{objective}, {side}' if side else objective,
                    }  # fmt: skip
                    plots.area(axes, drawn, style)
        if not key:
            _guide(axes, -0.5, r'$m^{-1/2}$')
        _finish(axes, title, 'width $m$ (units)', label, settings.grid.widths, of is not _STABILITY)
    panels[2].set_ylim(-0.02, 1.02)
    plots.percent_axis(panels[2])
    return figure


def _line(axes: Axes, found: Samples, of: Quantity, index: int, label: str) -> None:
    drawn = band(found, of)
    if drawn is not None:
        style = {'color': _COLOURS[index % 6], 'marker': plots.MARKERS[index], 'label': label}
        plots.area(axes, drawn, style)


def _guide(axes: Axes, power: float, label: str, line: int = -1) -> None:
    """A dotted line of that power through the end of one that is there."""
    if axes.lines:
        x, y = (np.asarray(values, float) for values in axes.lines[line].get_data())
        axes.plot(x, y[-1] * (x / x[-1]) ** power, ':', color=GREY, label=f'∝ {label}')


def _finish(
    axes: Axes, title: str, xlabel: str, ylabel: str, values: Sequence[float], by_factors=True
) -> None:
    if by_factors:
        plots.log_axis(axes)
    plots.ticks(axes, values, base=2)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    _legend(axes, 3)


def _legend(axes: Axes, num_columns: int) -> None:
    """Below the panel, where it hides no data."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc='upper center', bbox_to_anchor=(0.5, -0.14), ncols=num_columns, fontsize=7.5
        )
