"""What a study of capacity finds: smallest widths, their powers of n and d, its claims and page.

    report = run(EXPERIMENT, settings, Path('runs/capacity'), command)   # war_jax.lab.experiment
    for claim in claims(results): print(claim.verdict, claim.statement)

The predictions are counts of numbers: a network of width m in dimension d has m (d + 1) weights;
plain interpolation fixes one number per point, hence m* ~ n/d; as rho -> 1 robust interpolation of
a pair fixes the normal of the boundary between its points, d numbers, hence m* ~ n.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ntk.studies.capacity.bench import Bench
from ntk.studies.capacity.pictures import LETTERS, MEASURED, Found, draw, not_found, samples
from ntk.studies.capacity.settings import Settings
from war_jax.lab import page
from war_jax.lab.estimates import Samples, power
from war_jax.lab.experiment import Experiment
from war_jax.lab.page import Section
from war_jax.lab.quantities import band, centre
from war_jax.lab.tables import Column, estimated, factor_mean, write_table
from war_jax.lab.verdicts import ABOVE, Claim, claim, near

# Below so many units one more is a factor of its own, and no power can be told.
FEWEST_UNITS = 8
TOLERANCE = 0.25  # of a power: widths are found within a factor, and n and d span two octaves


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
            f'power of {LETTERS[over]}', how=f'n = {base.num_pairs} pairs, {at}.',
            unless=_no_power(results, key, over, 0.0 if key == 'width_ratio' else None, found),
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
        letter, found = LETTERS[over], samples(results, key, over, radius=radius)
        thinnest = 0.0 if key == 'width_ratio' else radius
        yield claim(
            f'{key}-{over}-rho{radius:g}',
            f'{kind} goes as {letter}^{predicted:g}'.replace('-', '−'),
            power(found), near(predicted, TOLERANCE),
            f'power of {letter}', how=f'Predicted by counting numbers, within {TOLERANCE:g}.',
            unless=_no_power(results, key, over, thinnest, found),
        )  # fmt: skip


def _no_power(
    results: Found, key: str, over: str, radius: float | None, found: Samples
) -> str:
    """Why nothing can be said of a power of widths; '' if something can.

    radius: where widths may have too few units, if anywhere. found: the samples of the power.
    """
    if key.startswith('width') and not found and (missing := not_found(results)):
        widest = results.settings.search.widest
        return f'no width up to {widest} interpolates {", ".join(missing)}.'
    return '' if radius is None else _too_thin(results, over, radius)


def _too_thin(results: Found, over: str, radius: float) -> str:
    """Why widths of so few units have no power; '' if they are wide enough."""
    found = samples(results, 'width', over, radius=radius)
    means = [centre(by_seed.values(), MEASURED['width']) for by_seed in found.values()]
    thinnest = min((mean[0] for mean in means if mean), default=math.inf)
    if thinnest >= FEWEST_UNITS:
        return ''
    kind = 'robust' if radius else 'plain'
    return (
        f'{kind} m* is {thinnest:.1f} units at its smallest; widths are whole, and below '
        f'{FEWEST_UNITS} a unit more is a factor of its own.'
    )


_ASKED = (
    'Does it take a wider network to fit points robustly than to fit them, and the more so the '
    'higher the dimension? (Gao et al. 2019)'
)


def answer(results: Found, found: Sequence[Claim]) -> str:
    """A paragraph: does robust interpolation need more width, and more so in higher dimension."""
    drawn = band(samples(results, 'width_ratio', 'dimension'), MEASURED['width_ratio'])
    missing = not_found(results)
    if missing and drawn is None:
        return (
            f'No width up to {results.settings.search.widest} interpolates {", ".join(missing)}, '
            'so that what robust interpolation needs over plain interpolation has no mean, and no '
            'power.'
        )
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
        *(Column(name, MEASURED[key].title, factor_mean) for name, key in shown.items()),
    ]
    rows = []
    for n, d, rho in results.settings.places:
        row: dict[str, Any] = {'n': n, 'd': d, 'radius': rho}
        for name, key in shown.items():
            there = samples(results, key, 'radius', num_pairs=n, dimension=d, radius=rho)
            row[name] = centre(there.get(rho, {}).values(), MEASURED[key])
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
                    'quantity': key, 'radius': radius, 'over': LETTERS[over],
                    'power': effect and effect[:3],
                })  # fmt: skip
    return columns, rows


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
    yield Section('', list(_warnings(results)))
    yield page.opening(_ASKED, answer(results, found), found)
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
    missing = not_found(results)
    if not missing:
        return []
    return [
        f'> **Warning.** No width up to {results.settings.search.widest} interpolates '
        f'{", ".join(missing)}: nothing is fitted there.'
    ]


EXPERIMENT = Experiment(
    'ntk.studies.capacity.findings', Settings, lambda settings: settings.cells, Bench, claims,
    lambda results: 'Capacity that robust interpolation needs (Gao et al. 2019)', sections,
    folders={'kernels': 'RKHS norms', 'widths': 'smallest widths'},
)  # fmt: skip
