"""What the figures of one run and those of a study have in common: style, colours, axes, saving.

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.8), layout='constrained')
        axes = figure.subplots()
        axes.plot(x, y, color=BLUE, label='natural')
        percent_axis(axes)
        legend(axes)
        save(figure, Path('natural.png'))

Only matplotlib's objects are used, never pyplot: no window, no global list of figures, no effect on
the plots of a program that calls these. Each file is written whole or not at all.

The named colours are Okabe and Ito's, which readers with any common colour blindness tell apart.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)

from war_jax.lab.quantities import DIFFERENCE, Band, Quantity
from war_jax.records.files import replacing

INK, GREY = '#222222', '#767676'
BLUE, VERMILION, GREEN, PURPLE, ORANGE = '#0072B2', '#D55E00', '#009E73', '#AA4499', '#E69F00'

# How symbols are set; f'{LAMBDA} = ' and a number name a line.
LAMBDA, EPSILON, THETA = r'$\lambda$', r'$\varepsilon$', r'$\Theta$'
INTERVAL = '95 % interval over seeds'

MARKERS = 'os^Dv<>ph'
_DPI = 160
_LEAST_SPAN, _WIDE_SPAN = 0.1, 0.4  # of an axis of rates

STYLE: dict[Any, Any] = {
    'font.family': 'DejaVu Sans',  # ships with matplotlib and has every symbol used here
    'font.size': 9,
    'axes.titlesize': 10,
    'axes.titlelocation': 'left',
    'axes.titleweight': 'bold',
    'axes.edgecolor': GREY,
    'axes.labelcolor': INK,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': '#E4E4E4',
    'grid.linewidth': 0.6,
    'xtick.color': GREY,
    'ytick.color': GREY,
    'xtick.labelcolor': INK,
    'ytick.labelcolor': INK,
    'lines.linewidth': 1.6,
    'lines.markersize': 4,
    'legend.frameon': False,
    'legend.fontsize': 8.5,
    'legend.handlelength': 2.0,
    'legend.columnspacing': 1.2,
    'legend.handletextpad': 0.5,
}


def plot_positive(axes: Axes, x: np.ndarray, y: np.ndarray, *style: str, **options: Any) -> None:
    """On a logarithmic axis: zeros become gaps, and what is never positive is left out."""
    y = np.where(y > 0, y, np.nan)
    if np.isfinite(y).any():
        axes.plot(x, y, *style, **options)


def every(x: np.ndarray) -> int:
    """A dozen or two of markers: enough to tell lines apart without hiding them."""
    return max(1, len(x) // 12)


def percent_axis(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0, symbol=' %'))


def log_axis(axes: Axes) -> None:
    """Logarithmic y, labelled with plain numbers, over a decade at least: noise stays small."""
    axes.set_yscale('log')
    lower, upper = np.log10(axes.get_ylim())
    missing = max(0.0, 1.0 - (upper - lower)) / 2
    axes.set_ylim(10 ** (lower - missing), 10 ** (upper + missing))
    subs = (1.0, 2.0, 5.0) if upper - lower < 2.5 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())


def rate_axis(axes: Axes) -> None:
    """Linear y in percent, over ten points at least, as noise stays small; over all of 0 to 100 %
    where the rates differ by much."""
    lower, upper = axes.get_ylim()
    wide = upper - lower > _WIDE_SPAN
    missing = 1.0 if wide else max(0.0, _LEAST_SPAN - (upper - lower)) / 2
    axes.set_ylim(max(-0.02, lower - missing), min(1.02, upper + missing))
    _percents(axes)


def difference_axis(axes: Axes) -> None:
    """Of two rates, in points, likewise."""
    lower, upper = axes.get_ylim()
    missing = max(0.0, _LEAST_SPAN - (upper - lower)) / 2
    axes.set_ylim(lower - missing, upper + missing)
    _percents(axes)


def scale(axes: Axes, of: Quantity) -> None:
    """y as suits the quantity, labelled with its unit."""
    axes.set_ylabel(of.unit)
    if of.is_rate:
        rate_axis(axes)
    elif of.unit == DIFFERENCE:
        difference_axis(axes)
    else:
        log_axis(axes)


def epoch_axis(axes: Axes) -> None:
    axes.set_xlabel('epoch')
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _percents(axes: Axes) -> None:
    # Never at halves of a percent, which the labels would round.
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    percent_axis(axes)


def ticks(axes: Axes, values: Sequence[float], base: int | None = None) -> None:
    """At these x and nowhere else, as plain numbers; base: of a logarithmic axis."""
    if base is not None:
        axes.set_xscale('log', base=base)
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))


def ordered_styles(
    members: Sequence[float], colours: Literal['viridis', 'plasma']
) -> dict[float, dict[str, Any]]:
    """Of lines with an order: colours from dark to light; markers as well, for print in grey."""
    # The end of the colour maps is too light for a line on white.
    shades = matplotlib.colormaps[colours](np.linspace(0.0, 0.85, len(members)))
    return {
        member: {'color': colour, 'marker': MARKERS[index % len(MARKERS)], 'linestyle': '-'}
        for index, (member, colour) in enumerate(zip(members, shades, strict=True))
    }


def area(axes: Axes, band: Band, style: Mapping[str, Any]) -> None:
    """A line, and what lies around it as an area."""
    x, mean, lower, upper = (np.asarray(values, float) for values in band)
    axes.fill_between(x, lower, upper, color=style['color'], alpha=0.15, lw=0)
    axes.plot(x, mean, markevery=every(x), **style)


def bars(axes: Axes, band: Band, style: Mapping[str, Any], behind: int = 0) -> None:
    """A line with error bars, which are the broader and paler the more lines are drawn over it: so
    bars at one x show behind each other, and each point stands at its own x."""
    x, mean, lower, upper = (np.asarray(values, float) for values in band)
    reach = np.maximum([mean - lower, upper - mean], 0.0)  # an end may be off by rounding
    reach[~np.isfinite(reach)] = np.nan  # of a single seed
    breadth = 1.0 + 1.2 * min(behind, 4)
    options = {'elinewidth': breadth, 'capsize': 1.5 + breadth, 'capthick': 1.0, 'label': None}
    line, _, (stems,) = axes.errorbar(x, mean, reach, **{**style, **options})
    stems.set_alpha(0.3 if behind else 1.0)
    line.set_label(style.get('label', '_nolegend_'))  # without a bar in the legend


def against_epoch(
    path: Path,
    rows: Mapping[Any, Mapping[str, Mapping[float, Band]]],
    colours: Literal['viridis', 'plasma'],
    size: tuple[float, float],
    finish: Callable[[Axes, Any, str], object],
    legend: str,
    areas: str,
) -> None:
    """row -> key -> member -> band: a row of panels for each, a line for each member.

    colours: a colour map's name; size: inches of the width, and of the height of a row; finish:
    titles and scales one panel, once all of its lines are drawn; legend: what stands before a
    member's number; areas: what those around the lines are.
    """
    with matplotlib.rc_context(STYLE):
        keys = list(next(iter(rows.values())))
        members = sorted({m for row in rows.values() for lines in row.values() for m in lines})
        styles = ordered_styles(members, colours)
        figsize = (size[0], 0.9 + size[1] * len(rows))
        figure = Figure(figsize=figsize, layout='constrained')
        grid = figure.subplots(len(rows), len(keys), squeeze=False, sharex=True, sharey='col')
        for panels, row in zip(grid, rows.values(), strict=True):
            for axes, key in zip(panels, keys, strict=True):
                for member, line in row[key].items():
                    area(axes, line, styles[member])
        for panels, name in zip(grid, rows, strict=True):
            for axes, key in zip(panels, keys, strict=True):
                finish(axes, name, key)
        for axes in grid[-1]:
            epoch_axis(axes)
        legend_below(figure, styles, legend, [area_key(areas)])
        save(figure, path)


def legend_below(
    figure: Figure, styles: Mapping[float, Mapping[str, Any]], name: str, more: Sequence[Any] = ()
) -> None:
    """Below all panels, which share it: 'width 2' for a name 'width '; more: further handles."""
    handles: list[Any] = [
        Line2D([], [], label=f'{name}{member:g}', **style) for member, style in styles.items()
    ]
    handles += more
    # Inches of a key and of its letters: all in one row, or as many as find room.
    sizes = [0.6 + 0.065 * len(str(handle.get_label())) for handle in handles]
    room = figure.get_figwidth()
    columns = len(handles) if sum(sizes) <= room else max(1, int(room / max(sizes)))
    figure.legend(handles=handles, loc='outside lower center', ncols=columns, labelcolor=INK)


def area_key(label: str = INTERVAL) -> Patch:
    """What the areas around lines are, for a legend."""
    return Patch(facecolor=GREY, alpha=0.3, lw=0, label=label)


def bar_key(label: str = INTERVAL) -> Line2D:
    """What error bars are, likewise."""
    return Line2D([], [], color=GREY, ls='', marker='|', ms=10, mew=1.2, label=label)


def line_key(label: str, linestyle: str, color: str = GREY) -> Line2D:
    """A line without points, whatever its colour in the panels."""
    return Line2D([], [], color=color, ls=linestyle, lw=1.2, label=label)


def legend(axes: Axes) -> None:
    """Below the axes, where it hides no data; an empty panel says that it is empty."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, names, loc='upper center', bbox_to_anchor=(0.5, -0.16), ncols=len(handles)
        )
    else:
        axes.text(0.5, 0.5, 'nothing recorded', transform=axes.transAxes, ha='center', color=GREY)


def save(figure: Figure, path: Path) -> None:
    """Writes path, a .png, and beside it the same as .pdf, for a paper."""
    canvas = FigureCanvasAgg(figure)
    # Without version and date in the file, equal data give equal bytes.
    with replacing(path) as temporary:
        canvas.print_figure(temporary, format='png', dpi=_DPI, metadata={'Software': None})
    figure.set_layout_engine('none')  # as it is now: both are laid out alike, and once
    with replacing(path.with_suffix('.pdf')) as temporary:
        nothing = {'Creator': None, 'Producer': None, 'CreationDate': None}
        canvas.print_figure(temporary, format='pdf', metadata=nothing)
