"""The figures of the report: quantities against epsilon (or width, or lambda), and distributions.

    for picture in draw(networks, 'epsilon', Path('runs/epsilon/figures')): print(picture.caption)

Lines are means over seeds, bands their 95 % intervals (Student's t); where a second thing besides
the seed differs between networks, each seed counts with its mean over that.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from war_jax.lab import plots
from war_jax.lab.page import Picture
from war_jax.lab.plots import BLUE, GREEN, GREY, INK, STYLE, VERMILION
from war_jax.lab.quantities import Band, band
from war_jax.studies.regularization.measure import OF_LAYERS, SCALARS
from war_jax.studies.regularization.results import (
    AXES,
    WHEN,
    Axis,
    Network,
    bounds_and_distances,
    common_layers,
    samples,
)

_LINES = 'Lines: means over seeds; bands: their 95 % intervals.'


def draw(networks: Sequence[Network], axis: Axis, folder: Path) -> list[Picture]:
    label = AXES[axis]
    gains = ('random_gain', 'random_cv', 'adversarial_gain', 'adversarial_cv')
    with matplotlib.rc_context(STYLE):
        drawn = [
            (_fit(networks, axis), Picture(
                f'{axis}_fit.png', f'Accuracy, loss and gaps against {label}',
                f'At the end of training. {_LINES}',
            )),
            (_distributions(networks, axis), Picture(
                f'{axis}_distributions.png', f'Margins, confidence and distances by {label}',
                'Shares of the test images at or below a value, all seeds together.',
            )),
            (_sandwich(networks, axis), Picture(
                f'{axis}_sandwich.png', 'Distance to the boundary against its lower bound',
                'A test image each: margin / (√2 · product of spectral norms) bounds every '
                'distance from below, so no point may lie under the line.',
            )),
            (_layers(networks, axis, ('std', 'spread')), Picture(
                f'{axis}_spectra.png', f'Singular values of the layers against {label}',
                f'BatchNorm’s scales folded in; circular operators. {_LINES}',
            )),
            (_layers(networks, axis, gains), Picture(
                f'{axis}_gains.png', f'Gains of the layers against {label}',
                'Gain: ‖change of a layer’s output‖ / ‖change of its input‖; variation: its '
                'standard deviation over its mean, over test images and directions. ' + _LINES,
            )),
        ]  # fmt: skip
        for figure, picture in drawn:
            plots.save(figure, folder / picture.file)
    return [picture for _, picture in drawn]


def _fit(networks: Sequence[Network], axis: Axis) -> Figure:
    figure = Figure(figsize=(9.6, 3.3), layout='constrained')
    panels = (
        ('Accuracy', (('accuracy_train', 'training', INK), ('accuracy_test', 'test', BLUE),
                      ('robust_accuracy_test', 'robust', VERMILION))),
        ('Loss', (('loss_train', 'training', INK), ('loss_test', 'test', BLUE))),
        ('Gap', (('accuracy_gap', 'accuracy', GREEN), ('loss_gap', 'loss', VERMILION))),
    )  # fmt: skip
    for axes, (title, lines) in zip(figure.subplots(1, 3), panels, strict=True):
        for key, name, colour in lines:
            found = samples(networks, axis, 'final', key)
            _line(axes, band(found, SCALARS[key]), colour, name)
        axes.set_title(title)
        _x_axis(axes, networks, axis)
        plots.legend(axes)
        if title == 'Accuracy':
            plots.percent_axis(axes)
    return figure


def _distributions(networks: Sequence[Network], axis: Axis) -> Figure:
    figure = Figure(figsize=(9.6, 3.4), layout='constrained')
    groups = _groups(networks, axis)
    colours = _colours(len(groups))
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (key, title) in zip(
        panels,
        (('margins', 'margin of the logits'), ('confidences', 'confidence'),
         ('distances', 'L2 distance to the boundary')),
        strict=True,
    ):  # fmt: skip
        for colour, (value, members) in zip(colours, groups.items(), strict=True):
            found = [v for network in members for v in network.final[key] if v is not None]
            if found:
                axes.ecdf(found, color=colour, label=f'{value:g}', lw=1.4)
        axes.set_xlabel(title)
        axes.set_xlim(left=0)
    panels[0].set_ylabel('share of the test images')
    plots.percent_axis(panels[0])
    handles, names = panels[1].get_legend_handles_labels()
    figure.legend(handles, names, title=AXES[axis], loc='outside right center', handlelength=1.2)
    return figure


def _sandwich(networks: Sequence[Network], axis: Axis) -> Figure:
    figure = Figure(figsize=(5.4, 4.2), layout='constrained')
    axes = figure.subplots()
    groups = _groups(networks, axis)
    for colour, (value, members) in zip(_colours(len(groups)), groups.items(), strict=True):
        pairs = [pair for pair in bounds_and_distances(members) if all(pair)]
        if pairs:
            axes.plot(*zip(*pairs, strict=True), '.', color=colour, ms=3, label=f'{value:g}')
    axes.set_xscale('log')
    axes.set_yscale('log')
    x, y = axes.get_xlim(), axes.get_ylim()
    axes.axline((x[0], x[0]), (x[1], x[1]), color=GREY, lw=1.0, ls='--')
    axes.set_xlim(x)
    axes.set_ylim(min(x[0], y[0]), y[1])
    axes.set_xlabel('lower bound')
    axes.set_ylabel('L2 distance found')
    figure.legend(title=AXES[axis], loc='outside right center', markerscale=2.5, handlelength=1.0)
    return figure


def _layers(networks: Sequence[Network], axis: Axis, keys: Sequence[str]) -> Figure:
    """A row at the end and one at the same training loss; a line per layer."""
    figure = Figure(figsize=(1.2 + 2.7 * max(len(keys), 3), 6.0), layout='constrained')
    names = common_layers(networks)
    colours = _colours(len(names))
    for row, (line, when) in enumerate(
        zip(figure.subplots(2, len(keys), squeeze=False), WHEN, strict=True)
    ):
        for axes, key in zip(line, keys, strict=True):
            for colour, name in zip(colours, names, strict=True):
                found = samples(networks, axis, when, key, name)
                _line(axes, band(found, OF_LAYERS[key]), colour, name)
            title = OF_LAYERS[key].title
            axes.set_title(f'{title[0].upper()}{title[1:]}', fontsize=8.5)
            _x_axis(axes, networks, axis)
            if row == 0:
                axes.set_xlabel('')
        line[0].set_ylabel(WHEN[when])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right center', fontsize=7.5, handlelength=1.2)
    return figure


def _line(axes: Axes, found: Band | None, colour: Any, name: str) -> None:
    if found is not None:
        plots.area(axes, found, {'color': colour, 'marker': 'o', 'ms': 3, 'label': name})


def _groups(networks: Sequence[Network], axis: Axis) -> dict[float, list[Network]]:
    groups: dict[float, list[Network]] = {}
    for network in sorted(networks, key=lambda n: getattr(n.cell, axis)):
        groups.setdefault(getattr(network.cell, axis), []).append(network)
    return groups


def _x_axis(axes: Axes, networks: Sequence[Network], axis: Axis) -> None:
    axes.set_xlabel(AXES[axis])
    if axis != 'epsilon':
        plots.ticks(axes, list(_groups(networks, axis)), base=2)


def _colours(count: int) -> list[Any]:
    """From dark to light, in order; the lightest end would not show on white."""
    return list(matplotlib.colormaps['viridis'](np.linspace(0.0, 0.92, count)))
