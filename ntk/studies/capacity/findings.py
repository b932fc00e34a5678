"""What a study of capacity finds: smallest widths, their powers of n and d, its claims and page.

    report = run(EXPERIMENT, settings, Path('runs/capacity'), command)   # war_jax.lab.experiment
    samples(results, 'width', over='dimension', radius=0.9)              # d -> seed -> m*

The predictions are counts of numbers: a network of width m in dimension d has m (d + 1) weights;
plain interpolation fixes one number per point, hence m* ~ n/d; as rho -> 1 robust interpolation of
a pair fixes the normal of the boundary between its points, d numbers, hence m* ~ n.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntk.studies.capacity.bench import Bench
from ntk.studies.capacity.settings import Cell, Settings, SmallestNorm, SmallestWidth
from war_jax.lab import page, plots
from war_jax.lab.estimates import Samples, power
from war_jax.lab.experiment import Experiment, Results
from war_jax.lab.page import Picture, Section
from war_jax.lab.plots import BLUE, GREY, STYLE, VERMILION
from war_jax.lab.quantities import NORM, RATIO, Quantity, band, centre
from war_jax.lab.tables import Column, estimated, factor_mean, write_table
from war_jax.lab.verdicts import ABOVE, Claim, claim, near

Found = Results[Settings]
TOLERANCE = 0.25  # of a power: widths are found within a factor, and n and d span two octaves
_LETTERS = {'num_pairs': 'n', 'dimension': 'd', 'radius': '1/(1 − ρ)'}
_MEASURED = {
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
    if any(math.isnan(number) for by_seed in found.values() for number in by_seed.values()):
        return {}
    return dict(sorted(found.items()))


def claims(results: Found) -> Iterator[Claim]:
    """The claim of the theory first, then the predicted powers, then the kernel."""
    base = results.settings.base
    for key, over, statement in (
        ('width_ratio', 'dimension', 'Robust m* / plain m* grows with the dimension'),
        ('width', 'radius', 'm* grows with the robustness radius, as a power of 1 / (1 − ρ)'),
        ('norm_ratio', 'dimension', 'Robust / plain RKHS norm grows with the dimension'),
        ('norm', 'radius', 'The RKHS norm grows as a power of 1 / (1 − ρ)'),
    ):
        found = samples(results, key, over)
        if over == 'radius':
            found = {1.0 / (1.0 - radius): by_seed for radius, by_seed in found.items()}
        at = f'ρ = {base.radius:g}' if over == 'dimension' else f'd = {base.dimension}'
        yield claim(
            f'{key}-grows-with-{over}', statement, power(found), ABOVE,
            f'power of {_LETTERS[over]}', how=f'n = {base.num_pairs} pairs, {at}.',
        )  # fmt: skip
    for key, over, radius, predicted in (
        ('width', 'num_pairs', 0.0, 1.0),
        ('width', 'dimension', 0.0, -1.0),
        ('width', 'num_pairs', base.radius, 1.0),
        ('width', 'dimension', base.radius, 0.0),
        ('width_ratio', 'dimension', base.radius, 1.0),
    ):
        kind = 'Robust m*' if radius else 'Plain m*'
        kind = 'Robust m* / plain m*' if key == 'width_ratio' else kind
        letter = _LETTERS[over]
        yield claim(
            f'{key}-{over}-rho{radius:g}',
            f'{kind} goes as {letter}^{predicted:g}'.replace('-', '−'),
            power(samples(results, key, over, radius=radius)), near(predicted, TOLERANCE),
            f'power of {letter}', how=f'Predicted by counting numbers, within {TOLERANCE:g}.',
        )  # fmt: skip


def answer(results: Found, found: Sequence[Claim]) -> str:
    """A paragraph: does robust interpolation need more width, and more so in higher dimension."""
    drawn = band(samples(results, 'width_ratio', 'dimension'), _MEASURED['width_ratio'])
    if found[0].effect is None or drawn is None:
        return 'Not enough is finished to compare robust with plain interpolation.'
    listed = ', '.join(
        f'{mean:.3g} at d = {d}' for d, mean in zip(drawn.x, drawn.mean, strict=True)
    )
    return (
        f'Robust interpolation (ρ = {results.settings.base.radius:g}) needs more width than plain '
        f'interpolation of the same points by a factor of {listed}. That this ratio grows with the '
        f'dimension is {found[0].verdict}.'
    )


def values_table(results: Found) -> tuple[list[Column], list[dict[str, Any]]]:
    """Geometric means over seeds."""
    shown = {'width': 'width', 'ratio': 'width_ratio', 'norm': 'norm'}  # column -> quantity
    columns = [
        Column('n', 'Pairs n'),
        Column('d', 'd'),
        Column('radius', 'ρ', '{:g}'.format),
        *(Column(name, _MEASURED[key].title, factor_mean) for name, key in shown.items()),
    ]
    rows = []
    for n, d, rho in results.settings.places:
        row: dict[str, Any] = {'n': n, 'd': d, 'radius': rho}
        for name, key in shown.items():
            there = samples(results, key, 'radius', num_pairs=n, dimension=d, radius=rho)
            row[name] = centre(there.get(rho, {}).values(), _MEASURED[key])
        rows.append(row)
    return columns, rows


def powers_table(results: Found) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('quantity', 'Quantity', align='l'),
        Column('radius', 'ρ', '{:g}'.format),
        Column('over', 'Against', align='l'),
        Column('power', 'Power (95 % interval)', estimated),
    ]
    rows = []
    for key in ('width', 'norm'):
        for over in ('num_pairs', 'dimension'):
            for radius in (0.0, results.settings.base.radius):
                effect = power(samples(results, key, over, radius=radius))
                rows.append({
                    'quantity': key, 'radius': radius, 'over': _LETTERS[over],
                    'power': effect and effect[:3],
                })  # fmt: skip
    return columns, rows


def draw(results: Found, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the report."""
    pictures = []
    for file, key, label, title, caption in (
        ('widths.png', 'width', 'm*', 'Smallest width that interpolates',
         'Dots: single seeds. Dashed: the predicted n/d (plain) and n (robust), through the mean '
         'at the base.'),
        ('norms.png', 'norm', '‖f‖ in the RKHS', 'Smallest RKHS norm of a fit, infinite width',
         'Certified lower bounds; dots: single seeds.'),
    ):  # fmt: skip
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(9.3, 3.5), layout='constrained')
            panels = zip(figure.subplots(1, 3), ('num_pairs', 'dimension', 'radius'), strict=True)
            for axes, over in panels:
                _panel(axes, results, key, over)
            figure.axes[0].set_ylabel(label)
            handles, names = figure.axes[0].get_legend_handles_labels()
            if handles:
                figure.legend(handles, names, loc='outside lower center', ncols=len(handles))
            plots.save(figure, folder / file)
        lines = 'Lines: geometric means over seeds; bands: their 95 % intervals (Student’s t).'
        pictures.append(Picture(file, title, f'{caption} {lines}'))
    return pictures


def _panel(axes: Axes, results: Found, key: str, over: str) -> None:
    base = results.settings.base
    robust = f'robust, ρ = {base.radius:g}'
    lines: list[tuple[dict[str, Any], str, str]] = [({}, VERMILION, robust)]
    if over != 'radius':
        lines = [({'radius': 0.0}, BLUE, 'plain'), ({'radius': base.radius}, VERMILION, robust)]
    places: set[float] = set()
    for where, colour, name in lines:
        found = samples(results, key, over, **where)
        drawn = band(found, _MEASURED[key])
        if drawn is None:
            continue
        places |= set(drawn.x)
        plots.area(axes, drawn, {'color': colour, 'label': name})
        for x, by_seed in found.items():
            axes.plot(
                [x] * len(by_seed), list(by_seed.values()), 'o', color=colour, ms=3, alpha=0.6
            )
        at = getattr(base, over)
        if key == 'width' and over != 'radius' and at in found:
            predicted = 1.0 if over == 'num_pairs' else 0.0 if where['radius'] else -1.0
            middle = dict(zip(drawn.x, drawn.mean, strict=True))[at]
            x = np.array(drawn.x, float)
            axes.plot(x, middle * (x / at) ** predicted, color=GREY, ls='--', lw=1.0)
    if over == 'radius':
        axes.set(title='Robustness radius ρ', xlabel='ρ, in units of half the gap')
        axes.set_xticks(sorted(places))
    else:
        axes.set_title('Number of pairs n' if over == 'num_pairs' else 'Dimension d')
        axes.set_xlabel(_LETTERS[over])
        plots.ticks(axes, sorted(places), base=2)
    if places:
        plots.log_axis(axes)


def how(results: Found) -> Section:
    settings = results.settings
    search, verify, base = settings.search, settings.verify, settings.base
    return page.how_section([
        ('Data', results.provenance['data']),
        ('Seeds', ', '.join(map(str, settings.grid.seeds))),
        ('Base', f'n = {base.num_pairs} pairs, d = {base.dimension}, ρ = {base.radius:g}'),
        ('Network', 'two-layer ReLU, all weights trained; no biases but the last coordinate'),
        (
            'Training',
            f'Adam, {search.num_steps} steps, learning rate {search.learning_rate:g} to 0 along a '
            f'cosine, PGD-{search.attack_steps}, ρ growing from 0 in the first half; '
            f'{search.restarts} restarts, of which one has to interpolate',
        ),
        (
            'Search',
            f'doubling, then bisection to a factor of {search.ratio:g}, at most {search.widest}',
        ),
        (
            'Verified by',
            f'PGD-{verify.num_steps} from x and {verify.restarts} random starts, and the point of '
            'the cap nearest to the partner',
        ),
        (
            'RKHS norm',
            f'NTK of the two-layer {settings.kernel.activation} network; cutting planes until '
            f'y f ≥ 1 − {settings.kernel.tolerance:g} under that attack; float64',
        ),
        *page.provenance_cells(results.provenance),
    ])  # fmt: skip


def sections(results: Found, found: Sequence[Claim], workdir: Path) -> Iterable[Section]:
    tables = workdir / 'tables'
    yield Section('', [*_warnings(results), answer(results, found)])
    yield page.claims_section(found, tables)
    yield Section('', [
        'A width that was found is an upper bound of the smallest there is: a thinner network may '
        'exist that training does not find. So what is compared is what training by one procedure '
        'needs, not the proven capacity.'
    ])  # fmt: skip
    yield from page.picture_sections(draw(results, workdir / 'figures'))
    yield Section('Smallest widths and norms', [
        write_table(tables, 'values', *values_table(results)),
        'Geometric mean over seeds and its 95 % interval (Student’s t).',
    ])  # fmt: skip
    yield Section('Powers', [write_table(tables, 'powers', *powers_table(results))])
    yield how(results)


def _warnings(results: Found) -> list[str]:
    not_found = [
        cell.name
        for cell, row in results.rows.items()
        if isinstance(cell, SmallestWidth) and row['smallest_width'] is None
    ]
    if not not_found:
        return []
    return [
        f'> **Warning.** No width up to {results.settings.search.widest} interpolates '
        f'{", ".join(not_found)}: nothing is fitted there.'
    ]


EXPERIMENT = Experiment(
    'ntk.studies.capacity.findings', Settings, lambda settings: settings.cells, Bench, claims,
    lambda results: 'Capacity that robust interpolation needs (Gao et al. 2019)', sections,
    folders={'kernels': 'RKHS norms', 'widths': 'smallest widths'},
)  # fmt: skip
