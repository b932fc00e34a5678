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
from war_jax.lab.quantities import DIFFERENCE, NATS, RATE, Band, band
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
_OF_LAYERS = (
    'A column for each stage of the network, stem and head in one of their own; the deeper a '
    'layer, the lighter its colour. Solid, with bands: at the end of training; dashed: at the same '
    f'training loss. {_LINES}'
)

_SYMBOLS: dict[Axis, str] = {'epsilon': plots.EPSILON, 'lam': plots.LAMBDA, 'width': 'width'}
_X_LABELS: dict[Axis, str] = {
    'epsilon': f'radius {plots.EPSILON} in training (pixels in [0, 1])',
    'lam': f'weight {plots.LAMBDA} of the regularization',
    'width': 'width factor',
}


def draw(networks: Sequence[Network], axis: Axis, folder: Path) -> list[Picture]:
    label = AXES[axis]
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
                f'BatchNorm’s scales folded in; circular operators. {_OF_LAYERS}',
            )),
            (_layers(networks, axis, ('random_gain', 'adversarial_gain')), Picture(
                f'{axis}_gains.png', f'Gains of the layers against {label}',
                'Gain: ‖change of a layer’s output‖ / ‖change of its input‖, mean over test images '
                f'and directions. {_OF_LAYERS}',
            )),
            (_layers(networks, axis, ('random_cv', 'adversarial_cv')), Picture(
                f'{axis}_variations.png', f'Variation of the layers’ gains against {label}',
                'Standard deviation of the gain over its mean, over test images and directions. '
                + _OF_LAYERS,
            )),
        ]  # fmt: skip
        for figure, picture in drawn:
            plots.save(figure, folder / picture.file)
    return [picture for _, picture in drawn]


def _fit(networks: Sequence[Network], axis: Axis) -> Figure:
    figure = Figure(figsize=(8.2, 6.4), layout='constrained')
    panels = (
        ('Accuracy', (('accuracy_train', 'training', INK), ('accuracy_test', 'test', BLUE),
                      ('robust_accuracy_test', 'test, robust', VERMILION))),
        ('Loss', (('loss_train', 'training', INK), ('loss_test', 'test', BLUE))),
        ('Gap of the accuracy', (('accuracy_gap', 'training minus test', GREEN),)),
        ('Gap of the loss', (('loss_gap', 'test minus training', VERMILION),)),
    )  # fmt: skip
    for axes, (title, lines) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for key, name, colour in lines:
            found = samples(networks, axis, 'final', key)
            _line(axes, band(found, SCALARS[key]), colour, name)
        axes.set(title=title, ylabel=NATS if title.endswith(('Loss', 'loss')) else RATE)
        _x_axis(axes, networks, axis)
        if title == 'Accuracy':
            plots.rate_axis(axes)
        elif axes.get_ylabel() == RATE:
            axes.set_ylabel(DIFFERENCE)
            plots.difference_axis(axes)
        plots.legend(axes)
    figure.legend(handles=[plots.area_key()], loc='outside lower center', labelcolor=INK)
    return figure


def _distributions(networks: Sequence[Network], axis: Axis) -> Figure:
    figure = Figure(figsize=(9.6, 3.4), layout='constrained')
    groups = _groups(networks, axis)
    colours = _colours(len(groups))
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (key, title) in zip(
        panels,
        (('margins', 'margin (logits)'), ('confidences', 'confidence (probability)'),
         ('distances', '$L_2$ distance to the boundary (input)')),
        strict=True,
    ):  # fmt: skip
        for colour, (value, members) in zip(colours, groups.items(), strict=True):
            found = [v for network in members for v in network.final[key] if v is not None]
            if found:
                axes.ecdf(found, color=colour, label=f'{value:g}', lw=1.4)
        axes.set_xlabel(title)
        axes.set_xlim(left=0)
    panels[0].set(ylabel='share of the test images', ylim=(0.0, 1.02))
    plots.percent_axis(panels[0])
    handles, names = panels[1].get_legend_handles_labels()
    style = {'loc': 'outside right center', 'handlelength': 1.2}
    figure.legend(handles, names, title=_SYMBOLS[axis], **style)
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
    axes.axline(
        (x[0], x[0]), (x[1], x[1]), color=GREY, lw=1.0, ls='--', label='distance = bound'
    )
    axes.set_xlim(x)
    axes.set_ylim(min(x[0], y[0]), y[1])
    axes.set_xlabel('lower bound of the $L_2$ distance (input)')
    axes.set_ylabel('$L_2$ distance found (input)')
    style = {'loc': 'outside right center', 'handlelength': 1.2}
    figure.legend(title=_SYMBOLS[axis], markerscale=2.5, **style)
    return figure


def _layers(networks: Sequence[Network], axis: Axis, keys: Sequence[str]) -> Figure:
    """A row for each quantity, a column for each stage; a line per layer, lighter with depth."""
    names = common_layers(networks)
    stages = _stages(names)
    colours = dict(zip(names, _colours(len(names)), strict=True))
    figure = Figure(figsize=(0.6 + 2.6 * len(stages), 0.9 + 2.6 * len(keys)), layout='constrained')
    grid = figure.subplots(len(keys), len(stages), squeeze=False, sharex=True, sharey='row')
    for place, (row, key) in enumerate(zip(grid, keys, strict=True)):
        for axes, (stage, layers) in zip(row, stages.items(), strict=True):
            for number, name in enumerate(layers):
                colour, marker = colours[name], plots.MARKERS[number % len(plots.MARKERS)]
                of_layer = {when: samples(networks, axis, when, key, name) for when in WHEN}
                if at_end := band(of_layer['final'], OF_LAYERS[key]):
                    label = name.partition('/')[2] or name
                    style = {'color': colour, 'ms': 3, 'marker': marker, 'label': label}
                    plots.area(axes, at_end, style)
                if matched := band(of_layer['matched'], OF_LAYERS[key]):
                    axes.plot(matched.x, matched.mean, ls='--', lw=1.0, color=colour)
            if place == 0:
                axes.set_title(stage)
            if place == len(keys) - 1:
                _x_axis(axes, networks, axis)
                axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.2), fontsize=7.5)
        row[0].set_ylabel(f'{OF_LAYERS[key].title}\n({OF_LAYERS[key].unit})')
    handles = [
        plots.line_key(WHEN['final'], '-'),
        plots.line_key(WHEN['matched'], '--'),
        plots.area_key(f'{plots.INTERVAL}, {WHEN["final"]}'),
    ]
    figure.legend(handles=handles, loc='outside lower center', ncols=3, labelcolor=INK)
    return figure


def _stages(names: Sequence[str]) -> dict[str, list[str]]:
    """Title of a panel -> its layers, in order; those in no stage, stem and head, share one."""
    found: dict[str, list[str]] = {}
    for name in names:
        stage, separator, _ = name.partition('/')
        found.setdefault(stage.replace('stage', 'Stage ') if separator else 'Ends', []).append(name)
    return found


def _line(axes: Axes, found: Band | None, colour: Any, name: str) -> None:
    if found is not None:
        plots.area(axes, found, {'color': colour, 'marker': 'o', 'ms': 3, 'label': name})


def _groups(networks: Sequence[Network], axis: Axis) -> dict[float, list[Network]]:
    groups: dict[float, list[Network]] = {}
    for network in sorted(networks, key=lambda n: getattr(n.cell, axis)):
        groups.setdefault(getattr(network.cell, axis), []).append(network)
    return groups


def _x_axis(axes: Axes, networks: Sequence[Network], axis: Axis) -> None:
    axes.set_xlabel(_X_LABELS[axis])
    if axis != 'epsilon':
        plots.ticks(axes, list(_groups(networks, axis)), base=2)


def _colours(count: int) -> list[Any]:
    """From dark to light, in order; the lightest end would not show on white."""
    return list(matplotlib.colormaps['viridis'](np.linspace(0.0, 0.92, count)))
