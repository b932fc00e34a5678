"""What is asked of size and compute, and how it is decided (war_jax/lab/verdicts.py).

    for claim in claims(results): print(claim.verdict, claim.statement)
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from war_jax.lab.estimates import BySeed, Estimate, Samples, changes, over_seeds, pooled, powers
from war_jax.lab.quantities import quantity
from war_jax.lab.verdicts import ABOVE, MARGIN, WHY_MARGIN, Claim, claim, claim_at_each, near
from war_jax.studies.scaling.law import Point, can_fit, estimates, fit
from war_jax.studies.scaling.results import (
    SIZES,
    START,
    Found,
    Place,
    along,
    at_best_lambda,
    compute,
    law_points,
    name_of,
    of_kind,
    of_the_network,
    sizes,
    switchings,
)
from war_jax.studies.scaling.settings import AXES, described

# Of the best network, but for the first; key of the rows -> what is asked of it.
_GROW = {
    'robust_overfitting': 'robust overfitting grows',
    'local_lipschitz': 'local Lipschitzness (output ratio) grows',
    'lipschitz_by_margin': 'local Lipschitzness divided by the margin grows',
}

def claims(results: Found) -> Iterator[Claim]:
    """Of each axis of size, of width at equal compute, of each switch, and of the law."""
    key = results.settings.measure.rank_by
    title = quantity(key).title.lower()
    for axis in of_kind(results, 'size'):
        name = AXES[axis].title
        for other, what in ((key, f'{title} rises'), *_GROW.items()):
            yield _rises(
                f'{other}_with_{axis}', f'All else equal, {what} with the {name}', other,
                along(results, axis, other),
            )  # fmt: skip
        if axis in of_the_network(results):
            yield _rises(
                f'{START}_with_{axis}', 'At the start, all else equal, local Lipschitzness '
                f'(output ratio) grows with the {name}', START, along(results, axis, START),
            )  # fmt: skip
        if of_kind(results, 'lam'):
            yield _rises(
                f'{key}_with_{axis}_at_best_lambda', f'At the best λ of each, {title} rises with '
                f'the {name}', key, along(results, axis, key, at_best_lambda(results)),
            )  # fmt: skip
    if {'width', 'epochs'} <= set(results.settings.varied):
        yield _rises(
            f'{key}_with_width_at_equal_compute',
            f'At equal compute of the training, {title} rises with the width', key,
            at_equal_compute(results),
            'Of each two neighbouring widths, in the middle of what compute both have; along each '
            'width’s own line through its lengths of training.',
        )  # fmt: skip
    for axis in of_kind(results, 'switch'):
        yield from _switch(results, axis, key)
    for switching in switchings(results):
        yield _extrapolated(results, switching)


def _rises(
    name: str, statement: str, key: str, places: dict[str, Samples], how: str = ''
) -> Claim:
    by_factors = quantity(key).by_factors
    by_place = {p: powers(of) if by_factors else changes(of, 100.0) for p, of in places.items()}
    effects = {place: over_seeds(list(of.values())) for place, of in by_place.items()}
    if not effects:
        effects, how = {'all sizes': None}, 'Not evaluated: no place has all sizes yet.'
    line = 'log–log slope' if by_factors else 'slope against log2 of the size'
    unit = 'exponent of the size' if by_factors else 'points per doubling'
    how = how or f'Least-squares {line} of each seed.'
    return claim_at_each(name, statement, effects, pooled(by_place.values()), ABOVE, unit, how)


def at_equal_compute(results: Found) -> dict[str, Samples]:
    """Two neighbouring widths and a compute that both have -> width -> seed -> accuracy there.

    The compute is the middle of what the two have in common, in logarithms; accuracy between two
    lengths of training is straight in log compute. Each training is at its best lambda.
    """
    key = results.settings.measure.rank_by
    lines: dict[Place, dict[float, dict[int, list[tuple[float, float]]]]] = {}
    for cell in at_best_lambda(results):
        row = results.rows[cell]
        by_width = lines.setdefault(cell.without('width', 'epochs', 'lam'), {})
        by_seed = by_width.setdefault(cell.value('width'), {})
        by_seed.setdefault(cell.seed, []).append((math.log(compute(row)), row[key]))
    found = {}
    for place, by_width in lines.items():
        for pair in itertools.pairwise(sorted(by_width)):
            whole = {width: _whole_lines(by_width[width]) for width in pair}
            ends = [
                (line[0][0], line[-1][0]) for by_seed in whole.values() for line in by_seed.values()
            ]
            low, high = max((e[0] for e in ends), default=0), min((e[1] for e in ends), default=0)
            if low >= high:
                continue
            at, where = (low + high) / 2, name_of(results, place)
            name = f'k = {pair[0]:g} and {pair[1]:g} with {math.exp(at):.2g} operations'
            found[name if where == 'everywhere' else f'{name}, {where}'] = {
                width: {
                    seed: float(np.interp(at, [x for x, _ in line], [y for _, y in line]))
                    for seed, line in by_seed.items()
                }
                for width, by_seed in whole.items()
            }
    return found


def _whole_lines(
    by_seed: Mapping[int, list[tuple[float, float]]],
) -> dict[int, list[tuple[float, float]]]:
    """In order of the compute, of the seeds that have all of it."""
    longest = max(map(len, by_seed.values()))
    return {seed: sorted(line) for seed, line in by_seed.items() if len(line) == longest}


def _switch(results: Found, axis: str, key: str) -> Iterator[Claim]:
    """Each later value of a switch against its first one."""
    first = getattr(results.settings.grid, axis)[0]
    title = quantity(key).title.lower()
    for value, differences in gains(results, axis, key).items():
        effects: dict[str, Estimate | None] = {
            place: over_seeds(list(of.values())) for place, of in differences.items()
        }
        names = f'{AXES[axis].title} = {described(value)}', described(first)
        statement = f'With {names[0]}, {title} is higher than with {names[1]}'
        yield claim_at_each(
            f'{axis}-{described(value)}', statement,
            effects or {'all sizes': None}, pooled(differences.values()), ABOVE, 'points',
            'Differences of each seed, each at its best λ.',
        )  # fmt: skip


def gains(results: Found, axis: str, key: str) -> dict[Any, dict[str, BySeed]]:
    """Later value of a switch -> place -> seed -> points more than with the first value, each at
    its best lambda."""
    first, *others = getattr(results.settings.grid, axis)
    places = along(results, axis, key, at_best_lambda(results))
    return {
        value: {
            place: {
                seed: 100.0 * (by[value][seed] - by[first][seed])
                for seed in sorted(by[value].keys() & by[first].keys())
            }
            for place, by in places.items()
        }
        for value in others
    }


def largest(points: Sequence[Point]) -> tuple[list[Point], list[Point], int]:
    """The points but for those largest in one size, these, and which size: the one of which there
    are most, so that what is left can be fitted."""
    num_sizes = len(points[0].x) if points else 0
    counts = [len({point.x[i] for point in points}) for i in range(num_sizes)]
    which = counts.index(max(counts)) if counts else 0
    top = max((point.x[which] for point in points), default=0.0)
    rest = [point for point in points if point.x[which] < top]
    return rest, [point for point in points if point.x[which] == top], which


def extrapolation(points: Sequence[Point]) -> list[float]:
    """Predicted minus measured error of the largest, in points, by a law fitted without them."""
    rest, held_out, _ = largest(points)
    law = fit(rest)
    return [100.0 * math.fsum(law(p.x) - p.mean for p in held_out) / len(held_out)]


def _extrapolated(results: Found, switching: Place) -> Claim:
    points = law_points(results, switching)
    rest, held_out, which = largest(points)
    effect, size = None, 'sizes'
    how = 'Not evaluated: a law needs three values of every size, without the largest.'
    if can_fit(rest):
        effect, size = estimates(points, extrapolation)[0], SIZES[sizes(results)[which]]
        how = (
            f'Fitted to the {len(rest)} sizes with fewer {size}; mean over the {len(held_out)} '
            f'others; jackknife over seeds. {WHY_MARGIN}'
        )
    where = name_of(results, switching)
    of = '' if where == 'everywhere' else f' ({where})'
    return claim(
        f'law_extrapolates{f"-{where}" if of else ""}',
        f'The law fitted without the largest {size} predicts the robust error there{of}',
        effect, near(0.0, MARGIN), 'points', how,
    )  # fmt: skip
