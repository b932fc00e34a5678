"""The figures of the probes: curves along one run, lines against width, curves of two widths.

    along_run(Path('curves.png'), rows)                                  # rows of one run
    against_width(Path('width.png'), {'kernel_drift': ({3.0: band}, None)})
    against_epoch(Path('epochs.png'), {0.25: {'kernel_drift': {3.0: band}}})       # width, key

What differs by factors has a logarithmic axis. Lambdas are ordered, and so are their colours, from
dark to light; markers differ as well, for print in grey.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ntk.studies.dynamics.findings import QUANTITIES
from war_jax.lab import plots
from war_jax.lab.plots import BLUE, GREY, INK, PURPLE, STYLE, VERMILION
from war_jax.studies.width.figures import Band

_TRAIN, _TEST = ('train', BLUE, '--', 's'), ('test', VERMILION, '-', 'o')
# Panels of one run: title -> key -> (name, colour, style, marker).
_PANELS = {
    'Distance from the start': {
        'kernel_drift': ('kernel', PURPLE, '-', 'o'),
        'weight_movement': ('weights', GREY, '--', 's'),
    },
    'Alignment of the kernel': {
        'kernel_alignment': ('with the first', PURPLE, '-', 'o'),
        'label_alignment': ('with the labels', GREY, '--', 's'),
    },
    'Accuracy': {
        'natural_accuracy_train': ('natural, train', BLUE, '--', 's'),
        'natural_accuracy_test': ('natural, test', BLUE, '-', 'o'),
        'robust_accuracy_train': ('robust, train', VERMILION, '--', 's'),
        'robust_accuracy_test': ('robust, test', VERMILION, '-', 'o'),
    },
    'Input gradient of the outputs': {
        'output_gradient_train': _TRAIN,
        'output_gradient_test': _TEST,
    },
    'Local Lipschitzness, output ratio': {
        'local_lipschitz_train': _TRAIN,
        'local_lipschitz_test': _TEST,
    },
    'Local Lipschitzness, KL gradient': {
        'local_lipschitz_kl_gradient_train': _TRAIN,
        'local_lipschitz_kl_gradient_test': _TEST,
    },
}
_MARKERS = 'os^Dv<>ph'
_START: dict[str, Any] = {'color': GREY, 'linestyle': ':', 'marker': 'x'}
Lines = Mapping[float, Band]  # lambda -> line


def along_run(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Six panels against the step; rows of one run, in the order of the steps."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 6.4), layout='constrained')
        x = np.array([row['step'] for row in rows], float)
        last = max(x[-1], 1.0)
        for axes, (title, lines) in zip(
            figure.subplots(2, 3).flat, _PANELS.items(), strict=True
        ):
            for key, (name, colour, style, marker) in lines.items():
                y = np.array([np.nan if row[key] is None else row[key] for row in rows], float)
                if QUANTITIES[key].by_factors:
                    y = np.where(y > 0, y, np.nan)
                options = {'color': colour, 'marker': marker, 'label': name}
                axes.plot(x, y, style, markevery=plots.every(x), **options)
            axes.set(title=title, xlabel='step', xlim=(-0.03 * last, 1.03 * last))
            axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
            _scale(axes, next(iter(lines)))
            handles, names = axes.get_legend_handles_labels()
            columns = 2 if len(handles) > 2 else len(handles)
            axes.legend(
                handles, names, loc='upper center', bbox_to_anchor=(0.5, -0.16), ncols=columns
            )
        plots.save(figure, path)


def against_width(path: Path, panels: Mapping[str, tuple[Lines, Band | None]]) -> None:
    """key -> (lambda -> line after training, line at the start): four panels in a row, log-log.

    Neighbours of one quantity on 'train' and 'test' images share their scale.
    """
    with matplotlib.rc_context(STYLE):
        lams = sorted({lam for lines, _ in panels.values() for lam in lines})
        styles = _styles(lams)
        rows = -(-len(panels) // 4)
        figure = Figure(figsize=(12.5, 0.7 + 3.1 * rows), layout='constrained')
        grid = figure.subplots(rows, 4, squeeze=False)
        drawn: dict[str, Axes] = {}
        for axes, (key, (lines, start)) in zip(grid.flat, panels.items(), strict=True):
            other = drawn.get(key.replace('_test', '_train')) if key.endswith('_test') else None
            if other is not None:
                axes.sharey(other)
            axes.set_xscale('log', base=2)
            if start is not None:
                _bars(axes, start, _START, 1.0)
            for lam, band in lines.items():
                # Side by side, so that intervals do not cover one another.
                shift = 2.0 ** (0.07 * (lams.index(lam) - (len(lams) - 1) / 2))
                _bars(axes, band, styles[lam], shift)
            axes.set(title=QUANTITIES[key].title, xlabel='width k')
            bands = [*lines.values(), *([start] if start is not None else [])]
            _ticks(axes, sorted({x for band in bands for x in band.x}))
            drawn[key] = axes
        for key, axes in drawn.items():
            _scale(axes, key)
        has_start = any(start is not None for _, start in panels.values())
        _legend(figure, styles, [Line2D([], [], label='at initialisation', **_START)] * has_start)
        plots.save(figure, path)


def against_epoch(path: Path, curves: Mapping[float, Mapping[str, Lines]]) -> None:
    """width -> key -> lambda -> line: a row of panels per width."""
    with matplotlib.rc_context(STYLE):
        keys = list(next(iter(curves.values())))
        styles = _styles(
            sorted({lam for row in curves.values() for lines in row.values() for lam in lines})
        )
        size = (12.5, 0.9 + 2.7 * len(curves))
        figure = Figure(figsize=size, layout='constrained')
        grid = figure.subplots(len(curves), len(keys), squeeze=False, sharex=True, sharey='col')
        for line, (width, row) in zip(grid, curves.items(), strict=True):
            for axes, key in zip(line, keys, strict=True):
                for lam, band in row[key].items():
                    x, mean, lower, upper = (np.asarray(values, float) for values in band)
                    axes.fill_between(x, lower, upper, color=styles[lam]['color'], alpha=0.15, lw=0)
                    axes.plot(x, mean, markevery=plots.every(x), **styles[lam])
                axes.set_title(QUANTITIES[key].title)
            line[0].set_ylabel(f'width k = {width:g}')
        for axes, key in zip(grid[-1], keys, strict=True):
            _scale(axes, key)
            axes.set_xlabel('epoch')
            axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        _legend(figure, styles)
        plots.save(figure, path)


def _bars(axes: Axes, band: Band, style: Mapping[str, Any], shift: float) -> None:
    x, mean, lower, upper = (np.asarray(values, float) for values in band)
    reach = np.array([mean - lower, upper - mean])
    reach[~np.isfinite(reach)] = np.nan  # of a single seed
    axes.errorbar(x * shift, mean, reach, capsize=2.5, elinewidth=1.0, **style)


def _styles(lams: Sequence[float]) -> dict[float, dict[str, Any]]:
    # The end of the colour map is too light for a line on white.
    colours = matplotlib.colormaps['plasma'](np.linspace(0.0, 0.85, len(lams)))
    return {
        lam: {'color': colour, 'marker': _MARKERS[index % len(_MARKERS)], 'linestyle': '-'}
        for index, (lam, colour) in enumerate(zip(lams, colours, strict=True))
    }


def _scale(axes: Axes, key: str) -> None:
    together = axes.get_shared_y_axes().get_siblings(axes)
    drawn = [line.get_ydata() for each in together for line in each.lines]
    if not any(np.isfinite(np.asarray(y, float)).any() for y in drawn):
        return  # nothing that a logarithmic axis could show
    if QUANTITIES[key].by_factors:
        plots.log_axis(axes)
    elif 'accuracy' in key:
        axes.set_ylim(-0.02, 1.02)
        plots.percent_axis(axes)
    else:  # a cosine
        lower, upper = axes.get_ylim()
        axes.set_ylim(min(0.0, lower), max(1.02, upper))


def _ticks(axes: Axes, values: Sequence[float]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))


def _legend(
    figure: Figure, styles: Mapping[float, Mapping[str, Any]], more: Sequence[Line2D] = ()
) -> None:
    """Below all panels, which share it."""
    handles = [Line2D([], [], label=f'λ = {lam:g}', **style) for lam, style in styles.items()]
    handles += more
    figure.legend(
        handles=handles, loc='outside lower center', ncols=min(len(handles), 8), labelcolor=INK
    )
