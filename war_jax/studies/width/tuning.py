"""The best lambda of each width, how it grows with width, and what finding it costs.

    rows, _ = collect(Path('runs/study/runs'))
    best = best_lambdas(rows)                       # {1.0: 3.0, 2.0: 6.0, 4.0: 6.0}
    growth = power_law(rows)                        # lambda*(k) ~ k^p, seed by seed
    spent = cost(rows)                              # None without WAR
    spent and spent.ratio                           # the sweep's cost in those of WAR

Best is meant on validation images: robust accuracy of the selected checkpoint. Test accuracies play
no part here. A lambda is above 0 and is compared in logarithms.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from war_jax.measures.statistics import geometric_interval, parabola_peak, slope
from war_jax.studies.width.results import FIXED, Row, fixed, widths

INSIDE, LOWER_EDGE, UPPER_EDGE = 'inside', 'lower edge', 'upper edge'
Interval = tuple[float, float, float]  # mean, lower, upper


@dataclass(frozen=True)
class Optimum:
    """The best lambda of one width and seed."""

    widen_factor: float
    seed: int
    grid_lambda: float  # the best of those tried
    peak_lambda: float  # of the parabola through it and its neighbours; at an edge, the edge
    place: str  # INSIDE the grid or at an edge of it, behind which the best one may lie


@dataclass(frozen=True)
class PowerLaw:
    """lambda*(k) ~ k^p by seed, for the seeds with an optimum at every width."""

    widths: list[float]
    exponents: dict[int, float]  # seed -> p, fitted to all widths
    # seed -> lambda* at the widest, from all widths but that; empty if those are fewer than two
    predicted: dict[int, float]
    swept: dict[int, float]  # seed -> lambda* at the widest, from the sweep there
    num_at_edges: int  # of the optima behind the exponents, those at an edge of the grid


@dataclass(frozen=True)
class RunTime:
    """What a run of one width takes, whatever its lambda and whether WAR moves that."""

    widen_factor: float
    num_runs: int
    median: float  # device-seconds; the first run, which compiles, and busy hours do not move it


@dataclass(frozen=True)
class Cost:
    """Device-seconds for one seed's tuned lambda at the widest network, by sweep and by WAR."""

    num_lambdas: int
    thinnest: RunTime
    widest: RunTime

    @property
    def sweep(self) -> float:
        """All lambdas at the widest."""
        return self.num_lambdas * self.widest.median

    @property
    def thin_sweep(self) -> float:
        """All lambdas at the thinnest: WAR needs the best one there."""
        return self.num_lambdas * self.thinnest.median

    @property
    def war(self) -> float:
        """The one run at the widest."""
        return self.widest.median

    @property
    def ratio(self) -> float:
        return self.sweep / (self.thin_sweep + self.war)


def best_lambdas(rows: Sequence[Row]) -> dict[float, float]:
    """widen factor -> the lambda with the highest validation robust accuracy, as a mean over seeds.

    The mean is over the seeds that have all lambdas of that width, so that none has an advantage
    from its seeds; a width without such a seed is left out. Of equals, the smallest lambda.
    """
    best = {}
    for width in widths(rows):
        sweeps = list(_sweeps(rows, width).values())
        if sweeps:
            # Rounded, so that equal shares of the images are equal whatever they were added from.
            total = {lam: round(math.fsum(sweep[lam] for sweep in sweeps), 9) for lam in sweeps[0]}
            best[width] = max(sorted(total), key=total.__getitem__)
    return best


def optima(rows: Sequence[Row]) -> list[Optimum]:
    """By width and seed, for the seeds that have all lambdas of the width."""
    return [
        _optimum(width, seed, sweep)
        for width in widths(rows)
        for seed, sweep in _sweeps(rows, width).items()
    ]


def power_law(rows: Sequence[Row]) -> PowerLaw:
    """Least squares in logarithms, for two widths or more; no seeds if none has all optima."""
    found = optima(rows)
    all_widths = widths(rows)
    exponents, predicted, swept, num_at_edges = {}, {}, {}, 0
    for seed in sorted({optimum.seed for optimum in found}):
        mine = [optimum for optimum in found if optimum.seed == seed]
        if len(mine) < max(2, len(all_widths)):
            continue
        x = [math.log(optimum.widen_factor) for optimum in mine]
        y = [math.log(optimum.peak_lambda) for optimum in mine]
        exponents[seed] = slope(x, y)
        swept[seed] = mine[-1].peak_lambda
        num_at_edges += sum(optimum.place != INSIDE for optimum in mine)
        if len(mine) > 2:
            thinner = len(mine) - 1
            centre = sum(x[:-1]) / thinner, sum(y[:-1]) / thinner
            predicted[seed] = math.exp(centre[1] + slope(x[:-1], y[:-1]) * (x[-1] - centre[0]))
    return PowerLaw(all_widths, exponents, predicted, swept, num_at_edges)


def lambdas(rows: Sequence[Row]) -> list[float]:
    """Those tried at any width, in order."""
    return sorted({lam for _, lam, _ in fixed(rows)})


def run_times(rows: Sequence[Row]) -> list[RunTime]:
    """Of the widths at which lambda was swept, the thinnest first."""
    seconds = {
        width: [row['device_seconds'] for row in rows if row['widen_factor'] == width]
        for width in widths(rows)
    }
    return [
        RunTime(width, len(found), statistics.median(found)) for width, found in seconds.items()
    ]


def cost(rows: Sequence[Row]) -> Cost | None:
    """None if lambda was swept at fewer than two widths, or no WAR run is finished."""
    times = run_times(rows)
    if len(times) < 2 or all(row['method'] == FIXED for row in rows):
        return None
    return Cost(len(lambdas(rows)), times[0], times[-1])


def interval(values: Iterable[float]) -> Interval | None:
    """Geometric mean over seeds and its 95 % interval; None without a value."""
    listed = list(values)
    return geometric_interval(listed) if listed else None


def _optimum(width: float, seed: int, sweep: dict[float, float]) -> Optimum:
    """sweep: lambda -> validation robust accuracy; of equals, the smallest lambda is the best."""
    lams = sorted(sweep)
    at = max(range(len(lams)), key=lambda index: sweep[lams[index]])
    place = LOWER_EDGE if at == 0 else UPPER_EDGE if at == len(lams) - 1 else INSIDE
    peak = lams[at]
    if place == INSIDE:
        near = lams[at - 1 : at + 2]
        peak = math.exp(parabola_peak([math.log(lam) for lam in near], [sweep[x] for x in near]))
    return Optimum(width, seed, lams[at], peak, place)


def _sweeps(rows: Sequence[Row], width: float) -> dict[int, dict[float, float]]:
    """seed -> lambda -> validation robust accuracy, for seeds with all lambdas of the width."""
    key = 'validation_robust_accuracy'
    grid: dict[int, dict[float, float]] = {}
    for (at, lam, seed), row in sorted(fixed(rows).items()):
        if at == width and row[key] is not None:
            grid.setdefault(seed, {})[lam] = row[key]
    lams = {lam for sweep in grid.values() for lam in sweep}
    return {seed: sweep for seed, sweep in sorted(grid.items()) if sweep.keys() == lams}
