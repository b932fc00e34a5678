"""The figures of the probes: curves along one run, lines against width, curves of two widths.

    for picture in draw(rows, is_study=True, folder=Path('runs/study/ntk/figures')): ...

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
from matplotlib.ticker import MaxNLocator

from ntk.studies.dynamics.effects import at_start, by_epoch, by_width, trained
from war_jax.lab import plots
from war_jax.lab.experiment import Row
from war_jax.lab.page import Picture
from war_jax.lab.plots import BLUE, GREY, PURPLE, STYLE, VERMILION
from war_jax.lab.probes import FIXED
from war_jax.lab.quantities import Band, band, quantity

# file -> (title, its four panels).
WIDTH_PANELS = {
    'width.png': ('Local Lipschitzness against width', (
        'local_lipschitz_train', 'local_lipschitz_test',
        'local_lipschitz_kl_gradient_train', 'local_lipschitz_kl_gradient_test',
    )),
    'gradients.png': ('Input gradients against width', (
        'output_gradient_train', 'output_gradient_test', 'loss_gradient_train',
        'loss_gradient_test',
    )),
    'kernel.png': ('Kernel and weights against width', (
        'kernel_drift', 'label_alignment', 'kernel_trace', 'weight_movement',
    )),
}  # fmt: skip
EPOCH_PANELS = (
    'kernel_drift', 'label_alignment', 'output_gradient_test', 'local_lipschitz_test',
)  # fmt: skip
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
_START: dict[str, Any] = {'color': GREY, 'linestyle': ':', 'marker': 'x'}
Lines = Mapping[float, Band]  # lambda -> line


def draw(rows: Sequence[Row], is_study: bool, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the page; rows: of a study, or of one run."""
    if not is_study:
        along_run(folder / 'curves.png', rows)
        caption = 'Solid: test images, dashed: training images, where both are shown.'
        return [Picture('curves.png', 'Along the run', caption)]
    drawn = []
    if trained(rows):
        caption = (
            'Solid: after training, at constant λ; dotted: before it. Means over seeds, bars: 95 % '
            'intervals (Student’s t). Training and test images share the scale.'
        )
        for file, (title, keys) in WIDTH_PANELS.items():
            panels = {
                key: (by_width(rows, key), band(at_start(rows, key), quantity(key)))
                for key in keys
            }
            against_width(folder / file, panels)
            drawn.append(Picture(file, title, caption))
    if widths := sorted({row['widen_factor'] for row in rows if row['method'] == FIXED}):
        curves = {
            width: {key: by_epoch(rows, width, key) for key in EPOCH_PANELS}
            for width in dict.fromkeys((widths[0], widths[-1]))
        }
        against_epoch(folder / 'epochs.png', curves)
        title = 'Over training, at the thinnest and the widest network'
        caption = 'Constant λ. Means over seeds; bands reach from the lowest to the highest.'
        drawn.append(Picture('epochs.png', title, caption))
    return drawn


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
                if quantity(key).by_factors:
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
    """key -> (lambda -> line after training, line at the start): four panels, log-log.

    Neighbours of one quantity on 'train' and 'test' images share their scale.
    """
    with matplotlib.rc_context(STYLE):
        lams = sorted({lam for lines, _ in panels.values() for lam in lines})
        styles = plots.ordered_styles(lams, 'plasma')
        figure = Figure(figsize=(8.6, 6.9), layout='constrained')
        grid = figure.subplots(2, 2)
        drawn: dict[str, Axes] = {}
        for axes, (key, (lines, start)) in zip(grid.flat, panels.items(), strict=True):
            other = drawn.get(key.replace('_test', '_train')) if key.endswith('_test') else None
            if other is not None:
                axes.sharey(other)
            if start is not None:
                plots.bars(axes, start, _START)
            for number, (lam, line) in enumerate(lines.items()):
                plots.bars(axes, line, styles[lam], len(lines) - 1 - number)
            axes.set(title=_title(key), xlabel='width factor $k$')
            shown = [*lines.values(), *([start] if start is not None else [])]
            plots.ticks(axes, sorted({x for line in shown for x in line.x}), base=2)
            drawn[key] = axes
        for key, axes in drawn.items():
            _scale(axes, key)
        has_start = any(start is not None for _, start in panels.values())
        start = [Line2D([], [], label='at initialisation', **_START)] * has_start
        plots.legend_below(figure, styles, f'{plots.LAMBDA} = ', [*start, plots.bar_key()])
        plots.save(figure, path)


def against_epoch(path: Path, curves: Mapping[float, Mapping[str, Lines]]) -> None:
    """width -> key -> lambda -> line: a row of panels per width."""
    def finish(axes: Axes, width: float, key: str) -> None:
        axes.set_title(f'{_title(key)}\nwidth $k$ = {width:g}')
        _scale(axes, key)

    legend, areas = f'{plots.LAMBDA} = ', 'lowest to highest seed'
    plots.against_epoch(path, curves, 'plasma', (12.5, 2.9), finish, legend, areas)


def _scale(axes: Axes, key: str) -> None:
    axes.set_ylabel(quantity(key).unit)
    together = axes.get_shared_y_axes().get_siblings(axes)
    drawn = [line.get_ydata() for each in together for line in each.lines]
    if not any(np.isfinite(np.asarray(y, float)).any() for y in drawn):
        return  # nothing that a logarithmic axis could show
    if quantity(key).by_factors:
        plots.log_axis(axes)
    elif 'accuracy' in key:
        axes.set_ylim(-0.02, 1.02)
        plots.percent_axis(axes)
    else:  # a cosine
        lower, upper = axes.get_ylim()
        axes.set_ylim(min(0.0, lower), max(1.02, upper))


def _title(key: str) -> str:
    """On two lines, if it needs them in a narrow panel."""
    return quantity(key).title.replace(', ', ',\n', 1)
