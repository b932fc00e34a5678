"""The rows of a study of capacity by quantity, and its figures.

    samples(results, 'width', over='dimension', radius=0.9)              # d -> seed -> m*
    for picture in draw(results, Path('runs/capacity/figures')): print(picture.file)
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ntk.studies.capacity.settings import Cell, Settings, SmallestNorm, SmallestWidth
from war_jax.lab import plots
from war_jax.lab.estimates import Samples
from war_jax.lab.experiment import Results
from war_jax.lab.page import Picture
from war_jax.lab.plots import BLUE, GREY, STYLE, VERMILION
from war_jax.lab.quantities import NORM, RATIO, Quantity, band

Found = Results[Settings]
LETTERS = {'num_pairs': 'n', 'dimension': 'd', 'radius': '1/(1 − ρ)'}
MEASURED = {
    listed.key: listed
    for listed in (
        Quantity('width', 'm*', 'units', True, 'the smallest width that interpolates'),
        Quantity('norm', 'RKHS norm', NORM, True, 'the smallest of a fit, a lower bound'),
        Quantity('width_ratio', 'm* / plain m*', RATIO, True, 'of the same points'),
        Quantity('norm_ratio', 'norm / plain norm', RATIO, True, 'of the same points'),
    )
}
_SOURCES = {
    'width': (SmallestWidth, 'smallest_width'),
    'norm': (SmallestNorm, 'norm_lower'),
}


def samples(results: Found, key: str, over: str, **where: Any) -> Samples:
    """x ('num_pairs', 'dimension', 'radius') -> seed -> value, in the order of x.

    key: 'width' or 'norm', or their ratios to those of plain interpolation of the same points,
    'width_ratio' and 'norm_ratio'. What is neither x nor in `where` is that of the base. Empty if a
    width was not found, as those that were would speak for it.
    """
    found = _with_gaps(results, key, over, **where)
    if any(math.isnan(number) for by_seed in found.values() for number in by_seed.values()):
        return {}
    return found


def _with_gaps(results: Found, key: str, over: str, **where: Any) -> Samples:
    """The same, with nan for a width that was not found."""
    name, _, ratio = key.partition('_')
    kind, column = _SOURCES[name]

    def value(cell: Cell) -> float | None:
        compared = [cell, replace(cell, radius=0.0)] if ratio else [cell]
        rows = [results.rows[other] for other in compared if other in results.rows]
        if len(rows) < len(compared):
            return None
        numbers = [math.nan if row[column] is None else float(row[column]) for row in rows]
        return numbers[0] / numbers[1] if ratio else numbers[0]

    base = {name: at for name, at in vars(results.settings.base).items() if name != over}
    found = results.samples(value, over, kind, **{**base, **where})
    return dict(sorted(found.items()))


def draw(results: Found, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the report."""
    pictures = []
    for file, key, label, title, caption in (
        ('widths.png', 'width', '$m^*$ (units)', 'Smallest width that interpolates',
         'Dots: single seeds. Dashed: the predicted n/d (plain) and n (robust), through the mean '
         'at the base.'),
        ('norms.png', 'norm', r'$\|f\|$ in the RKHS (outputs)',
         'Smallest RKHS norm of a fit, infinite width',
         'Certified lower bounds; dots: single seeds.'),
    ):  # fmt: skip
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(9.3, 3.7), layout='constrained')
            panels = figure.subplots(1, 3, sharey=True)
            for axes, over in zip(panels, ('num_pairs', 'dimension', 'radius'), strict=True):
                _panel(axes, results, key, over)
            figure.axes[0].set_ylabel(label)
            handles, _ = figure.axes[0].get_legend_handles_labels()
            if handles:
                handles += [Line2D([], [], ls='', marker='o', ms=3, color=GREY, label='a seed')]
                handles += [plots.area_key()]
                if key == 'width':
                    predicted = 'predicted: $n/d$ plain, $n$ robust'
                    handles += [plots.line_key(predicted, '--')]
                    if not_found(results):
                        label = f'a seed without any up to {results.settings.search.widest}'
                        handles += [Line2D([], [], ls='', marker='^', color=GREY, label=label)]
                figure.legend(handles=handles, loc='outside lower center', ncols=len(handles))
            plots.save(figure, folder / file)
        lines = 'Lines: geometric means over seeds; bands: their 95 % intervals (Student’s t).'
        pictures.append(Picture(file, title, f'{caption} {lines}'))
    return pictures


def not_found(results: Found) -> list[str]:
    """The cells whose points no network interpolates, by name."""
    return [
        cell.name
        for cell, row in results.rows.items()
        if isinstance(cell, SmallestWidth) and row['smallest_width'] is None
    ]


def _panel(axes: Axes, results: Found, key: str, over: str) -> None:
    base = results.settings.base
    robust = rf'robust, $\rho$ = {base.radius:g}'
    lines: list[tuple[dict[str, Any], str, str]] = [({}, VERMILION, robust)]
    if over != 'radius':
        lines = [({'radius': 0.0}, BLUE, 'plain'), ({'radius': base.radius}, VERMILION, robust)]
    places: set[float] = set()
    for where, colour, name in lines:
        found = _with_gaps(results, key, over, **where)
        places |= set(found)
        for x, by_seed in found.items():
            numbers = [number for number in by_seed.values() if not math.isnan(number)]
            axes.plot([x] * len(numbers), numbers, 'o', color=colour, ms=3, alpha=0.6)
            if len(numbers) < len(by_seed):
                axes.plot(x, results.settings.search.widest, '^', color=colour, ms=6)
        # A mean of those that were found would be that of the easy ones.
        whole = {x: s for x, s in found.items() if not any(map(math.isnan, s.values()))}
        drawn = band(whole, MEASURED[key])
        if drawn is None:
            continue
        plots.area(axes, drawn, {'color': colour, 'label': name})
        at = getattr(base, over)
        if key == 'width' and over != 'radius' and at in whole:
            predicted = 1.0 if over == 'num_pairs' else 0.0 if where['radius'] else -1.0
            middle = dict(zip(drawn.x, drawn.mean, strict=True))[at]
            x = np.array(drawn.x, float)
            axes.plot(x, middle * (x / at) ** predicted, color=GREY, ls='--', lw=1.0)
    if over == 'radius':
        axes.set(title=r'Robustness radius $\rho$', xlabel=r'$\rho$ (halves of the gap)')
        axes.set_xticks(sorted(places))
    else:
        pairs = over == 'num_pairs'
        axes.set_title('Number of pairs $n$' if pairs else 'Dimension $d$')
        axes.set_xlabel('$n$ (pairs)' if pairs else '$d$ (coordinates)')
        plots.ticks(axes, sorted(places), base=2)
    if places:
        plots.log_axis(axes)
