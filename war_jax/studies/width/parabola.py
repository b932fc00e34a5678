"""A parabola in log lambda for each width, and its peak in seeds and images drawn anew.

    fits = fit_all(rows)                      # of all widths, or None
    fits.point, fits.drawn                    # log lambda at the peaks; (widths,), (widths, drawn)

The mathematics of war_jax/studies/width/tuning.py, which says what is fitted and why.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from war_jax.lab.estimates import Estimate
from war_jax.lab.quantities import Interval
from war_jax.studies.width.results import Row, fixed, widths

_NUM_RESAMPLES = 2000
_ROUNDING = 1e-9  # accuracies of counts of images that differ at all differ by far more
_NORMAL = float(stats.norm.ppf(0.975))
Sweeps = dict[int, dict[float, float]]  # seed -> lambda -> validation robust accuracy


class Images:
    """Accuracies as measured on other validation images, if all rows know on how many they were."""

    def __init__(self, rows: Sequence[Row]):
        numbers = {row['num_validation'] for row in rows}
        self.number: int | None = numbers.pop() if len(numbers) == 1 else None
        self._rng = np.random.default_rng(1)

    def drawn(self, rates: np.ndarray) -> np.ndarray:
        """Those given where the number is not known."""
        if self.number is None:
            return rates
        # How many random numbers one draw takes is decided by comparisons with the rate.
        rates = np.clip(np.round(rates, 12), 0.0, 1.0)
        return self._rng.binomial(self.number, rates) / self.number


class Fit:
    """Of one width's parabola: log lambda at its peak, as measured and of seeds and images drawn
    anew, and whether those drawn have a peak within the grid."""

    def __init__(self, sweeps: Sweeps, images: Images):
        lams = sorted(next(iter(sweeps.values())))
        self.z = np.log(lams)
        accuracies = np.array([[sweep[lam] for lam in lams] for sweep in sweeps.values()])
        self.peak = float(self._peaks(accuracies.mean(axis=0))[0])
        self.resampled, self.inside = self._peaks(_resampled(accuracies, images))

    def _peaks(self, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(..., lambdas) -> (...): the peaks, or better edges, and whether they are within.

        A seed's own level moves no peak: the fit to all seeds is that to their mean. Of two edges
        that are equally good the lower one counts. Accuracies are counts of images, so that level
        and symmetric curves are common: what is decided here must not be up to rounding, which
        differs from machine to machine.
        """
        u = self.z - self.z.mean()
        level = curves - curves[..., :1]
        c, b, _ = np.moveaxis(level @ np.linalg.pinv(np.vander(u, 3)).T, -1, 0)
        has_peak = c < -_ROUNDING
        peak = -b / np.where(has_peak, 2.0 * c, 1.0)
        inside = has_peak & (u[0] + _ROUNDING < peak) & (peak < u[-1] - _ROUNDING)
        is_upper = c * (u[-1] ** 2 - u[0] ** 2) + b * (u[-1] - u[0]) > _ROUNDING
        edge = np.where(is_upper, u[-1], u[0])
        return np.where(inside, peak, edge) + self.z.mean(), inside


class Fits(NamedTuple):
    """Of all widths, over the seeds that have all lambdas at every one."""

    widths: list[float]
    seeds: list[int]
    sweeps: list[Sweeps]
    fits: list[Fit]
    images: Images

    @property
    def point(self) -> np.ndarray:
        """(widths,) log lambda at the peaks."""
        return np.array([fit.peak for fit in self.fits])

    @property
    def drawn(self) -> np.ndarray:
        """(widths, resamples) likewise."""
        return np.array([fit.resampled for fit in self.fits])

    @property
    def at_edge(self) -> float:
        return share_at_edge(np.all([fit.inside for fit in self.fits], axis=0))


def fit_all(rows: Sequence[Row]) -> Fits | None:
    """None with fewer than two widths, three lambdas at any, or one seed that has all of them."""
    all_widths = widths(rows)
    by_width = [full_sweeps(rows, width) for width in all_widths]
    seeds = sorted(set.intersection(*map(set, by_width))) if by_width else []
    if len(all_widths) < 2 or not seeds or any(len(sweeps[seeds[0]]) < 3 for sweeps in by_width):
        return None
    images = Images(rows)
    sweeps = [{seed: of_width[seed] for seed in seeds} for of_width in by_width]
    return Fits(all_widths, seeds, sweeps, [Fit(some, images) for some in sweeps], images)


def _resampled(accuracies: np.ndarray, images: Images) -> np.ndarray:
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
    return images.drawn((mean + stretch * apart)[_drawn_seeds(num)]).mean(axis=1)


def drawn_curves(ratios: np.ndarray) -> np.ndarray:
    """(seeds, lambdas) -> (resamples, lambdas): mean curves of the same seeds drawn anew."""
    num = len(ratios)
    mean = ratios.mean(axis=0)
    if num == 1:
        return mean[None]
    stretch = math.sqrt(num / (num - 1)) * float(stats.t.ppf(0.975, num - 1)) / _NORMAL
    return (mean + stretch * (ratios - mean))[_drawn_seeds(num)].mean(axis=1)


def _drawn_seeds(num: int) -> np.ndarray:
    """(resamples, num) of range(num)."""
    return np.random.default_rng(0).integers(num, size=(_NUM_RESAMPLES, num))


def between(z: np.ndarray, curves: np.ndarray, at: float | np.ndarray) -> np.ndarray:
    """(n, points), along increasing z (points,), -> (n,): each curve where it is asked for."""
    left = np.clip(np.searchsorted(z, at, side='right') - 1, 0, len(z) - 2)
    share = (at - z[left]) / (z[left + 1] - z[left])
    row = np.arange(len(curves))
    return (1 - share) * curves[row, left] + share * curves[row, left + 1]


def share_at_edge(inside: np.ndarray) -> float:
    return float(1.0 - inside.mean())


def line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and mean of (widths, ...) against x."""
    centred = x - x.mean()
    return np.tensordot(centred, y, 1) / (centred @ centred), y.mean(axis=0)


def extrapolated(x: np.ndarray, y: np.ndarray, at: float) -> np.ndarray:
    """(widths, ...) -> (...): the line through them, elsewhere."""
    power, level = line(x, y)
    return power * (at - x.mean()) + level


def estimate(value: float | np.ndarray, resampled: np.ndarray, num_seeds: int) -> Estimate:
    low, high = _bounds(resampled, num_seeds)
    return Estimate(float(value), low, high, num_seeds, (high - low) / (2.0 * _NORMAL))


def _bounds(resampled: np.ndarray, num_seeds: int) -> tuple[float, float]:
    if num_seeds == 1:
        return -math.inf, math.inf
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def interval(log_value: float, resampled: np.ndarray, num_seeds: int) -> Interval:
    """Of a lambda or ratio, from its logarithm."""
    low, high = _bounds(resampled, num_seeds)
    return math.exp(log_value), math.exp(low), math.exp(high)


def full_sweeps(rows: Sequence[Row], width: float) -> Sweeps:
    """For the seeds with all lambdas of the width."""
    key = 'validation_robust_accuracy'
    grid: Sweeps = {}
    for (at, lam, seed), row in sorted(fixed(rows).items()):
        if at == width and row[key] is not None:
            grid.setdefault(seed, {})[lam] = row[key]
    lams = {lam for sweep in grid.values() for lam in sweep}
    return {seed: sweep for seed, sweep in sorted(grid.items()) if sweep.keys() == lams}
