"""The figures of a study of size and compute.

    for picture in draw(results, Path('runs/scaling/figures')): print(picture.file)
"""

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from war_jax.lab import plots
from war_jax.lab.estimates import Estimate, over_seeds, pooled
from war_jax.lab.page import Picture
from war_jax.lab.plots import BLUE, GREY, INK, STYLE, VERMILION
from war_jax.lab.quantities import band, centre, quantity
from war_jax.studies.scaling.claims import gains, largest
from war_jax.studies.scaling.law import can_fit, fit
from war_jax.studies.scaling.results import (
    START,
    Found,
    along,
    at_best_lambda,
    compute,
    law_points,
    name_of,
    of_kind,
    of_the_network,
    switchings,
)
from war_jax.studies.scaling.settings import AXES, described

_MOST_LINES = 9


def draw(results: Found, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the report."""
    return [
        *_against_sizes(results, folder), *_lipschitzness(results, folder),
        *_compute(results, folder), *_switches(results, folder), *_law(results, folder),
    ]  # fmt: skip


def _against_sizes(results: Found, folder: Path) -> Iterator[Picture]:
    """Accuracy against each size, a line for each combination of everything else."""
    measured = quantity(results.settings.measure.rank_by)
    axes_of_size = of_kind(results, 'size')
    chosen = at_best_lambda(results)
    by_axis = {axis: along(results, axis, measured.key, chosen) for axis in axes_of_size}
    if not any(by_axis.values()):
        return
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(axes_of_size), 4.4), layout='constrained')
        panels = figure.subplots(1, len(axes_of_size), squeeze=False, sharey=True)[0]
        for axes, (axis, places) in zip(panels, by_axis.items(), strict=True):
            shown = dict(list(places.items())[:_MOST_LINES])
            styles = plots.ordered_styles(range(len(shown)), 'viridis')
            for number, (place, samples) in enumerate(shown.items()):
                line = band(samples, measured)
                if line is not None:
                    plots.bars(
                        axes, line, {**styles[number], 'label': place}, len(shown) - 1 - number
                    )
            plots.ticks(axes, sorted(getattr(results.settings.grid, axis)), base=2)
            axes.set_xlabel(AXES[axis].title)
            if list(shown) != ['everywhere']:
                axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.18), ncols=2)
        plots.scale(panels[0], measured)
        panels[0].set_title(measured.title)
        figure.legend(handles=[plots.bar_key()], loc='outside lower center', labelcolor=INK)
        plots.save(figure, folder / 'sizes.png')
    tuned = ' Each at its best λ.' if of_kind(results, 'lam') else ''
    yield Picture(
        'sizes.png', f'{measured.title} against size',
        f'Test images; means over seeds with 95 % intervals (Student’s t).{tuned} Where bars '
        'overlap, those drawn first are broader and paler.',
    )  # fmt: skip


def _lipschitzness(results: Found, folder: Path) -> Iterator[Picture]:
    """At the start and after training against each size of the network; a colour for each
    combination of everything else."""
    axes_of_size = of_the_network(results)
    start, trained = map(quantity, (START, 'local_lipschitz'))
    if not any(along(results, axis, start.key) for axis in axes_of_size):
        return
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(axes_of_size), 4.4), layout='constrained')
        panels = figure.subplots(1, len(axes_of_size), squeeze=False, sharey=True)[0]
        for axes, axis in zip(panels, axes_of_size, strict=True):
            for measured, linestyle in ((start, '--'), (trained, '-')):
                shown = dict(list(along(results, axis, measured.key).items())[:_MOST_LINES])
                styles = plots.ordered_styles(range(len(shown)), 'viridis')
                for number, (place, samples) in enumerate(shown.items()):
                    line = band(samples, measured)
                    if line is not None:
                        label = {'label': place} if measured is trained else {}
                        plots.bars(axes, line, {**styles[number], 'linestyle': linestyle, **label})
            plots.ticks(axes, sorted(getattr(results.settings.grid, axis)), base=2)
            axes.set_xlabel(AXES[axis].title)
            axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.18), ncols=2)
        plots.scale(panels[0], trained)
        panels[0].set_title(trained.title)
        keys = [plots.line_key('at the start', '--'), plots.line_key('trained', '-')]
        figure.legend(
            handles=[*keys, plots.bar_key()], loc='outside lower center', ncols=3, labelcolor=INK
        )
        plots.save(figure, folder / 'lipschitz.png')
    yield Picture(
        'lipschitz.png', 'Lipschitzness before and after training',
        f'{trained.title}: {trained.meaning}. At the start the norms take the moments of one batch '
        'of training images. Geometric means over seeds with 95 % intervals (Student’s t).',
    )  # fmt: skip


def _compute(results: Found, folder: Path) -> Iterator[Picture]:
    """Accuracy against the operations of a training, a line for each width."""
    if not results.rows or not {'width', 'epochs'} <= set(results.settings.varied):
        return
    measured = quantity(results.settings.measure.rank_by)
    first = switchings(results)[:1]
    by_width: dict[float, dict[float, dict[int, float]]] = {}
    for cell in at_best_lambda(results):
        if all(set(switching) <= set(cell.point) for switching in first):
            row = results.rows[cell]
            line = by_width.setdefault(cell.value('width'), {})
            line.setdefault(compute(row), {})[cell.seed] = row[measured.key]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout='constrained')
        axes = figure.subplots()
        styles = plots.ordered_styles(sorted(by_width), 'viridis')
        for width, samples in sorted(by_width.items()):
            line = band(samples, measured)
            if line is not None:
                plots.bars(axes, line, styles[width])
        axes.set_xscale('log')
        axes.set(xlabel='compute of the training (operations)', title=measured.title)
        plots.scale(axes, measured)
        plots.legend_below(figure, styles, 'width $k$ = ', [plots.bar_key()])
        plots.save(figure, folder / 'compute.png')
    yield Picture(
        'compute.png', f'{measured.title} against compute',
        'Each point is a training of its own, with a schedule of its own length. Where one line '
        'lies above another at the same compute, its width is the better one to spend it on. '
        'Means over seeds with 95 % intervals (Student’s t).',
    )  # fmt: skip


def _switches(results: Found, folder: Path) -> Iterator[Picture]:
    """What each switch gains in accuracy, at each combination of everything else and as a mean."""
    key = results.settings.measure.rank_by
    rows: list[tuple[str, Estimate | None, str]] = []
    for axis in of_kind(results, 'switch'):
        first = described(getattr(results.settings.grid, axis)[0])
        for value, places in gains(results, axis, key).items():
            name = f'{AXES[axis].title}: {described(value)} instead of {first}'
            rows.append((name, pooled(places.values()), INK))
            if len(places) > 1:
                rows += [(at, over_seeds(list(of.values())), BLUE) for at, of in places.items()]
    known = [(label, gain, colour) for label, gain, colour in rows if gain is not None]
    if not known:
        return
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.0 + 0.26 * len(known)), layout='constrained')
        axes = figure.subplots()
        for height, (_, gain, colour) in enumerate(known):
            low, high = gain.interval
            if np.isfinite(low):
                axes.plot([low, high], [height, height], color=colour)
            axes.plot(gain.value, height, 'o', color=colour)
        axes.axvline(0.0, color=GREY, ls=':', lw=1.2)
        axes.set_yticks(range(len(known)), [label for label, _, _ in known])
        for label, (_, _, colour) in zip(axes.get_yticklabels(), known, strict=True):
            label.set(color=INK, fontweight='bold' if colour == INK else 'normal')
        axes.grid(axis='y', visible=False)
        axes.invert_yaxis()
        axes.set(xlabel='points gained', title=quantity(key).title)
        plots.save(figure, folder / 'switches.png')
    yield Picture(
        'switches.png', 'What each switch gains',
        'Differences on test images, seed by seed, with 95 % intervals (Student’s t): bold the '
        'mean over all else that was varied, below it each combination of that. An interval '
        'that holds zero decides nothing.',
    )  # fmt: skip


def _law(results: Found, folder: Path) -> Iterator[Picture]:
    """Measured against predicted error, of the sizes fitted and of the largest, held out."""
    found = []
    for switching in switchings(results):
        points = law_points(results, switching)
        rest, held_out, _ = largest(points)
        if can_fit(rest):
            found.append((name_of(results, switching), fit(rest), rest, held_out))
    if not found:
        return
    error = quantity('robust_accuracy')
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * len(found), 4.4), layout='constrained')
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for axes, (place, law, rest, held_out) in zip(panels, found, strict=True):
            ends = []
            for points, colour in ((rest, BLUE), (held_out, VERMILION)):
                for point in points:
                    mean = centre(point.errors.values(), error)
                    assert mean is not None
                    reach = np.array([[mean[0] - mean[1]], [mean[2] - mean[0]]])
                    reach[~np.isfinite(reach)] = np.nan
                    axes.errorbar(
                        [law(point.x)], [mean[0]], reach, fmt='o', color=colour, capsize=2.5,
                        elinewidth=1.0,
                    )  # fmt: skip
                    ends += [law(point.x), mean[0]]
            axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=GREY, ls='--', lw=1.0)
            axes.set(
                xlabel='robust error by the law (share of the images)',
                ylabel='robust error measured (share of the images)',
            )
            axes.set_title('' if place == 'everywhere' else place)
            plots.percent_axis(axes)
            axes.xaxis.set_major_formatter(axes.yaxis.get_major_formatter())
        handles = [
            Line2D([], [], marker='o', ls='', color=BLUE, label='fitted'),
            Line2D([], [], marker='o', ls='', color=VERMILION, label='largest, held out'),
            Line2D([], [], ls='--', color=GREY, label='as predicted'),
            plots.bar_key(),
        ]
        figure.legend(handles=handles, loc='outside lower center', ncols=2, labelcolor=INK)
        plots.save(figure, folder / 'law.png')
    yield Picture(
        'law.png', 'The law, and how far it carries',
        'The law is fitted without the largest sizes and predicts them. Bars: 95 % intervals of '
        'the mean over seeds (Student’s t).',
    )  # fmt: skip
