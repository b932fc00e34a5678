"""The best lambda of each width, how it grows with width, and what finding it costs.

    best_lambdas(rows)                              # {1.0: 3.0, 2.0: 3.0, 4.0: 9.0}, of the grid
    peaks(rows)                                     # of each width's parabola, with intervals
    growth = fit_growth(rows)                       # lambda*(k) ~ k^p; None where p has no meaning
    cost = tuning_cost(rows, num_devices=2)         # None without WAR
    cost and cost.ratio                             # the sweep's cost in those of WAR

Best is meant on validation images: robust accuracy of the selected checkpoint. Test accuracies play
no part here. A lambda is above 0 and is compared in logarithms.

At each width a parabola in log lambda is fitted to all seeds at once, y = a_seed + b z + c z^2: its
peak is less noisy than the highest of a few accuracies, each measured on a few hundred images. For
intervals, whole seeds are drawn anew, and the images of each of their accuracies (binomially);
tests/war_jax/studies/width/test_tuning.py counts on made-up curves how often they cover.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from war_jax.lab.estimates import Estimate
from war_jax.lab.quantities import Interval
from war_jax.studies.width.results import FIXED, Row, fixed, widths

_NUM_RESAMPLES = 2000
_NORMAL = float(stats.norm.ppf(0.975))
Sweeps = dict[int, dict[float, float]]  # seed -> lambda -> validation robust accuracy


@dataclass(frozen=True)
class Peak:
    """The best lambda of one width, over its seeds."""

    widen_factor: float
    num_seeds: int
    grid_lambda: float  # the best of those tried
    peak_lambda: Interval  # of the parabola; where it has none within the grid, the better edge
    at_edge: float  # share of the resampled fits without a peak within the grid


@dataclass(frozen=True)
class Growth:
    """lambda*(k) ~ k^p, over the seeds that have all lambdas at every width."""

    widths: list[float]
    exponent: Estimate
    swept: Interval  # lambda* at the widest, from the sweep there
    predicted: Interval | None  # and by the power law of all thinner widths; None of fewer than two
    at_edge: float  # share of the resampled fits in which some width has no peak within the grid
    num_images: int | None  # of validation, that were drawn anew


@dataclass(frozen=True)
class RunTime:
    """What a run of one width takes, whatever its lambda and whether WAR moves that."""

    widen_factor: float
    num_runs: int  # behind the median
    median: float  # device-seconds


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


def peaks(rows: Sequence[Row]) -> list[Peak]:
    """By width, each over the seeds that have all its lambdas, of which there are three or more."""
    found, images = [], _Images(rows)
    for width, best in best_lambdas(rows).items():
        sweeps = _sweeps(rows, width)
        if len(next(iter(sweeps.values()))) > 2:
            fit = _Fit(sweeps, images)
            peak = _interval(fit.peak, fit.resampled, len(sweeps))
            found.append(Peak(width, len(sweeps), best, peak, _share_at_edge(fit.inside)))
    return found


def fit_growth(rows: Sequence[Row]) -> Growth | None:
    """Least squares through the logarithms of the peaks.

    None with fewer than two widths, fewer than three lambdas at any of them, and without a seed
    that has all lambdas at every width.
    """
    all_widths = widths(rows)
    by_width = [_sweeps(rows, width) for width in all_widths]
    seeds = sorted(set.intersection(*map(set, by_width))) if by_width else []
    if len(all_widths) < 2 or not seeds or any(len(sweeps[seeds[0]]) < 3 for sweeps in by_width):
        return None
    images = _Images(rows)
    fits = [_Fit({seed: sweeps[seed] for seed in seeds}, images) for sweeps in by_width]
    point, drawn = np.array([f.peak for f in fits]), np.array([f.resampled for f in fits])
    x = np.log(all_widths)
    exponent, exponents = _line(x, point)[0], _line(x, drawn)[0]
    low, high = _bounds(exponents, len(seeds))
    predicted = None
    if len(all_widths) > 2:
        value, values = (
            power * (x[-1] - x[:-1].mean()) + level
            for power, level in (_line(x[:-1], point[:-1]), _line(x[:-1], drawn[:-1]))
        )
        predicted = _interval(float(value), values, len(seeds))
    error = (high - low) / (2.0 * _NORMAL)
    return Growth(
        all_widths,
        Estimate(float(exponent), low, high, len(seeds), error),
        _interval(fits[-1].peak, fits[-1].resampled, len(seeds)),
        predicted,
        _share_at_edge(np.all([fit.inside for fit in fits], axis=0)),
        images.number,
    )


def lambdas(rows: Sequence[Row]) -> list[float]:
    """Those tried at any width, in order."""
    return sorted({lam for _, lam, _ in fixed(rows)})


def run_times(rows: Sequence[Row], num_devices: int) -> list[RunTime]:
    """Of the widths at which lambda was swept, the thinnest first.

    The seconds of a run hold its compilation, which the runs of one width and device have in
    common: of each width, the first run on each device does not count, unless there is no other.
    The order is that in which they are started, by seed and lambda and with WAR last.

    num_devices: of the study; a run takes as many as the column `device` says, '2 × cpu'.
    """
    times = []
    for width in widths(rows):
        runs = sorted(
            (row for row in rows if row['widen_factor'] == width),
            key=lambda row: (row['method'] != FIXED, row['seed'], row['lambda']),
        )
        at_once = max(1, num_devices // int(runs[0]['device'].split()[0]))
        counted = [row['device_seconds'] for row in runs[at_once:] or runs]
        times.append(RunTime(width, len(counted), statistics.median(counted)))
    return times


def tuning_cost(rows: Sequence[Row], num_devices: int) -> Cost | None:
    """None if lambda was swept at fewer than two widths, or no WAR run is finished."""
    times = run_times(rows, num_devices)
    if len(times) < 2 or all(row['method'] == FIXED for row in rows):
        return None
    return Cost(len(lambdas(rows)), times[0], times[-1])


class _Images:
    """Accuracies as measured on other validation images, if all rows know on how many they were."""

    def __init__(self, rows: Sequence[Row]):
        numbers = {row['num_validation'] for row in rows}
        self.number: int | None = numbers.pop() if len(numbers) == 1 else None
        self._rng = np.random.default_rng(1)

    def drawn(self, rates: np.ndarray) -> np.ndarray:
        """Those given where the number is not known."""
        if self.number is None:
            return rates
        return self._rng.binomial(self.number, np.clip(rates, 0.0, 1.0)) / self.number


class _Fit:
    """Of one width's parabola: log lambda at its peak, as measured and of seeds and images drawn
    anew, and whether those drawn have a peak within the grid."""

    def __init__(self, sweeps: Sweeps, images: _Images):
        lams = sorted(next(iter(sweeps.values())))
        self.z = np.log(lams)
        accuracies = np.array([[sweep[lam] for lam in lams] for sweep in sweeps.values()])
        self.peak = float(self._peaks(accuracies.mean(axis=0))[0])
        self.resampled, self.inside = self._peaks(_resampled(accuracies, images))

    def _peaks(self, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(..., lambdas) -> (...): the peaks, or better edges, and whether they are within.

        A seed's own level moves no peak: the fit to all seeds is that to their mean.
        """
        u = self.z - self.z.mean()
        # Level curves have no curvature at all, not even by rounding.
        level = curves - curves[..., :1]
        c, b, _ = np.moveaxis(level @ np.linalg.pinv(np.vander(u, 3)).T, -1, 0)
        peak = -b / np.where(c < 0, 2.0 * c, 1.0)
        inside = (c < 0) & (u[0] < peak) & (peak < u[-1])
        is_upper = c * u[-1] ** 2 + b * u[-1] > c * u[0] ** 2 + b * u[0]
        edge = np.where(is_upper, u[-1], u[0])
        return np.where(inside, peak, edge) + self.z.mean(), inside


def _resampled(accuracies: np.ndarray, images: _Images) -> np.ndarray:
    """(seeds, lambdas) -> (resamples, lambdas): mean curves of seeds and images drawn anew.

    For equal numbers of seeds, the same are drawn at each call: a seed moves all widths alike.
    """
    num = len(accuracies)
    mean = accuracies.mean(axis=0)
    if num == 1:
        return mean[None]
    apart = accuracies - mean
    apart -= apart.mean(axis=1, keepdims=True)  # without the seed's own level
    # Resampled values vary less than new ones would; and where they alone make the interval, few
    # of them lack the tails of Student's distribution.
    stretch = math.sqrt(num / (num - 1))
    if images.number is None:
        stretch *= float(stats.t.ppf(0.975, num - 1)) / _NORMAL
    chosen = np.random.default_rng(0).integers(num, size=(_NUM_RESAMPLES, num))
    return images.drawn((mean + stretch * apart)[chosen]).mean(axis=1)


def _share_at_edge(inside: np.ndarray) -> float:
    return float(1.0 - inside.mean())


def _line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and mean of (widths, ...) against x."""
    centred = x - x.mean()
    return np.tensordot(centred, y, 1) / (centred @ centred), y.mean(axis=0)


def _bounds(resampled: np.ndarray, num_seeds: int) -> tuple[float, float]:
    if num_seeds == 1:
        return -math.inf, math.inf
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def _interval(log_value: float, resampled: np.ndarray, num_seeds: int) -> Interval:
    """Of a lambda, from its logarithm."""
    low, high = _bounds(resampled, num_seeds)
    return math.exp(log_value), math.exp(low), math.exp(high)


def _sweeps(rows: Sequence[Row], width: float) -> Sweeps:
    """For the seeds with all lambdas of the width."""
    key = 'validation_robust_accuracy'
    grid: Sweeps = {}
    for (at, lam, seed), row in sorted(fixed(rows).items()):
        if at == width and row[key] is not None:
            grid.setdefault(seed, {})[lam] = row[key]
    lams = {lam for sweep in grid.values() for lam in sweep}
    return {seed: sweep for seed, sweep in sorted(grid.items()) if sweep.keys() == lams}
