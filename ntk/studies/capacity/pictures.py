"""The figures of a study of capacity.

for picture in draw(study, Path('runs/capacity/figures')):
    print(picture.file, picture.caption)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ntk.studies.capacity.claims import Study
from war_jax.lab import plots
from war_jax.lab.plots import BLUE, GREY, STYLE, VERMILION
from war_jax.measures.statistics import geometric_interval
from war_jax.studies.width.pictures import Picture

_BAND = 'Lines: geometric means over seeds; bands: their 95 % intervals (Student’s t).'


def draw(study: Study, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the report."""
    pictures = []
    for file, key, title, caption in (
        (
            'widths.png',
            'width',
            'Smallest width that interpolates',
            'Dots: single seeds. Dashed: the predicted n/d (plain) and n (robust), through the '
            'mean at the base.',
        ),
        (
            'norms.png',
            'norm',
            'Smallest RKHS norm of a fit, infinite width',
            'Certified lower bounds; dots: single seeds.',
        ),
    ):
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(9.3, 3.5), layout='constrained')
            for axes, over in zip(
                figure.subplots(1, 3), ('num_pairs', 'dimension', 'radius'), strict=True
            ):
                _panel(axes, study, key, over)
            figure.axes[0].set_ylabel('m*' if key == 'width' else '‖f‖ in the RKHS')
            handles, names = figure.axes[0].get_legend_handles_labels()
            if handles:
                figure.legend(handles, names, loc='outside lower center', ncols=len(handles))
            plots.save(figure, folder / file)
        pictures.append(Picture(file, title, f'{caption} {_BAND}'))
    return pictures


def _panel(axes: Axes, study: Study, key: str, over: str) -> None:
    base = study.settings.base
    places: set[float] = set()
    if over == 'radius':
        places |= _line(axes, study.samples(key, over), VERMILION, 'robust')
        axes.set(title='Robustness radius ρ', xlabel='ρ, in units of half the gap')
    else:
        for radius, colour in ((0.0, BLUE), (base.radius, VERMILION)):
            samples = study.samples(key, over, radius=radius)
            name = f'robust, ρ = {radius:g}' if radius else 'plain'
            places |= _line(axes, samples, colour, name)
            at = base.num_pairs if over == 'num_pairs' else base.dimension
            if key == 'width' and at in samples:
                power = 1.0 if over == 'num_pairs' else 0.0 if radius else -1.0
                x = np.array(sorted(samples), float)
                middle = geometric_interval(samples[at])[0]
                axes.plot(x, middle * (x / at) ** power, color=GREY, ls='--', lw=1.0)
        axes.set_title('Number of pairs n' if over == 'num_pairs' else 'Dimension d')
        axes.set_xlabel('n' if over == 'num_pairs' else 'd')
        axes.set_xscale('log', base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        axes.xaxis.set_minor_locator(NullLocator())
    if places:
        axes.xaxis.set_major_locator(FixedLocator(sorted(places)))
        plots.log_axis(axes)


def _line(axes: Axes, samples: Mapping[Any, list[float]], colour: str, name: str) -> set[float]:
    """Returns where it has points."""
    if not samples:
        return set()
    x = np.array(list(samples), float)
    bands = np.array([geometric_interval(values) for values in samples.values()])
    axes.plot(x, bands[:, 0], color=colour, label=name)
    for place, values in zip(x, samples.values(), strict=True):
        axes.plot([place] * len(values), values, 'o', color=colour, ms=3, alpha=0.6)
    if np.isfinite(bands).all():
        axes.fill_between(x, bands[:, 1], bands[:, 2], color=colour, alpha=0.15, lw=0)
    return set(x.tolist())


def _plain(value: float, _: int) -> str:
    return f'{value:g}'
