"""The rows of a study of size and compute, sorted by what differs between them.

    for place, samples in along(results, 'width', 'robust_accuracy').items():
        place, samples[0.5][seed]             # 'epochs = 20', at which nothing but width differs
    chosen = at_best_lambda(results)          # cells, each at the best lambda of its sizes
    points = law_points(results, switches)    # what a law is fitted to
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from war_jax.lab.estimates import Samples
from war_jax.lab.experiment import Results
from war_jax.studies.scaling.law import Point
from war_jax.studies.scaling.settings import AXES, Cell, Settings, described

Found = Results[Settings]
Place = tuple[tuple[str, Any], ...]
START = 'local_lipschitz_start'
# What a law is a function of: column of the rows -> title; and the axes that change it.
SIZES = {
    'parameters': 'parameters', 'train_images': 'training images', 'epochs': 'epochs',
}  # fmt: skip
_SIZES_OF_THE_NETWORK = ('width', 'depth', 'last_stage')
_DECIDE_THE_START = (*_SIZES_OF_THE_NETWORK, 'images', 'activation')
_CHANGED_BY = {
    'parameters': _SIZES_OF_THE_NETWORK, 'train_images': ('images',),
    'epochs': ('epochs',),
}  # fmt: skip


def of_kind(results: Found, kind: str) -> list[str]:
    """The varied axes of a kind: 'size', 'lam' or 'switch'."""
    return [axis for axis in results.settings.varied if AXES[axis].kind == kind]


def of_the_network(results: Found) -> list[str]:
    """The varied axes of size that change a network before it is trained, where that was measured:
    rows of earlier commits do not have it."""
    if not any(START in row for row in results.rows.values()):
        return []
    return [axis for axis in _SIZES_OF_THE_NETWORK if axis in results.settings.varied]


def name_of(results: Found, place: Place) -> str:
    """'epochs = 20 and λ = 3': the values of the varied axes; 'everywhere' where there is none."""
    varied = results.settings.varied
    parts = [f'{AXES[a].letter} = {described(value)}' for a, value in place if a in varied]
    return ' and '.join(parts) or 'everywhere'


def along(
    results: Found, axis: str, key: str, cells: Iterable[Cell] | None = None
) -> dict[str, Samples]:
    """Name of a place -> value of the axis -> seed -> a column, of cells (all) that differ in
    nothing else but the seed. Places that lack a value of the axis are left out."""
    best = cells is not None
    found: dict[Place, dict[Any, dict[int, float]]] = {}
    for cell in results.rows if cells is None else cells:
        # At the best lambda of each size, lambda differs along with the size.
        place = cell.without(axis, 'lam') if best else cell.without(axis)
        row = results.rows[cell]
        if key == START:  # is the same for all trainings of a network: one place for all of them
            place = tuple((name, value) for name, value in place if name in _DECIDE_THE_START)
            row = {START: None, **row}
        value = row[key]
        if value is not None:
            found.setdefault(place, {}).setdefault(cell.value(axis), {})[cell.seed] = value
    wanted = set(getattr(results.settings.grid, axis))
    return {name_of(results, p): by for p, by in found.items() if set(by) == wanted}


def at_best_lambda(results: Found) -> list[Cell]:
    """The cells at the lambda that has, for their other axes, the highest robust accuracy on
    validation images as a mean over the seeds that all lambdas have; of equals, the smallest. Cells
    without any lambda to choose from are all there."""
    found: dict[Place, dict[float, list[Cell]]] = {}
    for cell in results.rows:
        by_lambda = found.setdefault(cell.without('lam'), {})
        by_lambda.setdefault(cell.value('lam'), []).append(cell)

    def score(cells: Sequence[Cell], seeds: set[int]) -> float:
        values = [
            results.rows[cell]['validation_robust_accuracy'] for cell in cells if cell.seed in seeds
        ]
        return math.fsum(values) / len(values)

    chosen = []
    for by_lambda in found.values():
        of_each = [{cell.seed for cell in cells} for cells in by_lambda.values()]
        seeds = set.intersection(*of_each)  # of an unfinished study: those that can be compared
        if seeds:
            lams = sorted(by_lambda)
            chosen += by_lambda[max(lams, key=lambda lam: score(by_lambda[lam], seeds))]
    return chosen


def compute(row: dict[str, Any]) -> float:
    """Operations of a training: those of a forward pass, times how many its images went through."""
    images = row['train_images'] * row['epochs'] * row['passes']
    return row['forward_flops'] * images


def sizes(results: Found) -> list[str]:
    """The columns that a law of this study is a function of."""
    varied = results.settings.varied
    return [size for size, axes in _CHANGED_BY.items() if any(axis in varied for axis in axes)]


def switchings(results: Found) -> list[Place]:
    """The combinations of the switches, each of which has a law; [()] where none is varied, and
    none where no size is: then there is no law."""
    if not sizes(results):
        return []
    switches = of_kind(results, 'switch')
    points = ({a: v for a, v in cell.point if a in switches} for cell in results.rows)
    return list(dict.fromkeys(tuple(point.items()) for point in points))


def law_points(results: Found, switching: Place) -> list[Point]:
    """The robust error at each size, at its best lambda, of the runs with these switches and the
    seeds that are at every size; empty where there is none."""
    by_x: dict[tuple[float, ...], dict[int, float]] = {}
    for cell in at_best_lambda(results):
        if not set(switching) <= set(cell.point):
            continue
        row = results.rows[cell]
        x = tuple(float(row[size]) for size in sizes(results))
        error = 1.0 - row[results.settings.measure.rank_by]
        by_x.setdefault(x, {})[cell.seed] = error
    seeds = set.intersection(*map(set, by_x.values())) if by_x else set()
    if not seeds:
        return []
    return [Point(x, {seed: by[seed] for seed in seeds}) for x, by in sorted(by_x.items())]
