"""The best lambda of each width, how it grows with width, and the risk ratio there.

    best_lambdas(rows)                              # {1.0: 3.0, 2.0: 3.0, 4.0: 9.0}, of the grid
    at_best(rows)                                   # the rows there
    peaks(rows)                                     # of each width's parabola, with intervals
    growth = fit_growth(rows)                       # lambda*(k) ~ k^p; None where p has no meaning
    power_law(rows, [1.0, 2.0], at=4.0)             # lambda there by the thinner networks' peaks
    premise = fit_premise(rows)                     # the risk ratio at these lambdas ~ k^p

Best is meant on validation images: robust accuracy of the selected checkpoint. Test accuracies play
no part here. A lambda is above 0 and is compared in logarithms.

At each width a parabola in log lambda is fitted to all seeds at once, y = a_seed + b z + c z^2: its
peak is less noisy than the highest of a few accuracies, each measured on a few hundred images. For
intervals, whole seeds are drawn anew, and the images of each of their accuracies (binomially);
tests/war_jax/studies/width/test_tuning.py counts on made-up curves how often they cover.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from war_jax.lab.estimates import Estimate, over_seeds
from war_jax.lab.quantities import Interval
from war_jax.studies.width.parabola import (
    Fit,
    Images,
    between,
    drawn_curves,
    estimate,
    extrapolated,
    fit_all,
    full_sweeps,
    interval,
    line,
    share_at_edge,
)
from war_jax.studies.width.results import Row, fixed, widths


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
class Premise:
    """risk ratio at lambda*(k) ~ k^p: WAR takes p for 0. Of the same seeds as `Growth`."""

    widths: list[float]
    ratios: list[Interval]  # at each width's peak
    exponent: Estimate
    by_lambda: Estimate | None  # at one width the ratio goes as lambda to this power; over seeds
    at_edge: float  # as of Growth


def best_lambdas(rows: Sequence[Row]) -> dict[float, float]:
    """widen factor -> the lambda with the highest validation robust accuracy, as a mean over seeds.

    The mean is over the seeds that have all lambdas of that width, so that none has an advantage
    from its seeds; a width without such a seed is left out. Of equals, the smallest lambda.
    """
    best = {}
    for width in widths(rows):
        sweeps = list(full_sweeps(rows, width).values())
        if sweeps:
            # Rounded, so that equal shares of the images are equal whatever they were added from.
            total = {lam: round(math.fsum(sweep[lam] for sweep in sweeps), 9) for lam in sweeps[0]}
            best[width] = max(sorted(total), key=total.__getitem__)
    return best


def at_best(rows: Sequence[Row]) -> list[Row]:
    """The runs of constant lambda at the best one of their width, all seeds."""
    best = best_lambdas(rows)
    return [row for (width, lam, _), row in fixed(rows).items() if lam == best.get(width)]


def peaks(rows: Sequence[Row]) -> list[Peak]:
    """By width, each over the seeds that have all its lambdas, of which there are three or more."""
    found, images = [], Images(rows)
    for width, best in best_lambdas(rows).items():
        sweeps = full_sweeps(rows, width)
        if len(next(iter(sweeps.values()))) > 2:
            fit = Fit(sweeps, images)
            peak = interval(fit.peak, fit.resampled, len(sweeps))
            found.append(Peak(width, len(sweeps), best, peak, share_at_edge(fit.inside)))
    return found


def fit_growth(rows: Sequence[Row]) -> Growth | None:
    """Least squares through the logarithms of the peaks.

    None with fewer than two widths, fewer than three lambdas at any of them, and without a seed
    that has all lambdas at every width.
    """
    found = fit_all(rows)
    if found is None:
        return None
    fits, point, drawn, seeds = found.fits, found.point, found.drawn, found.seeds
    x = np.log(found.widths)
    predicted = None
    if len(x) > 2:
        value, values = (extrapolated(x[:-1], y[:-1], x[-1]) for y in (point, drawn))
        predicted = interval(float(value), values, len(seeds))
    return Growth(
        found.widths,
        estimate(line(x, point)[0], line(x, drawn)[0], len(seeds)),
        interval(fits[-1].peak, fits[-1].resampled, len(seeds)),
        predicted,
        found.at_edge,
        found.images.number,
    )


def power_law(rows: Sequence[Row], thinner: Sequence[float], at: float) -> float | None:
    """The lambda at one width that a power through the peaks of two or more others predicts.

    To four digits, by which a run of it can be named. None with fewer than three lambdas.
    """
    found = {peak.widen_factor: peak.peak_lambda[0] for peak in peaks(rows)}
    if any(width not in found for width in thinner):
        return None
    x, y = np.log(thinner), np.log([found[width] for width in thinner])
    return float(f'{math.exp(extrapolated(x, y, math.log(at))):.4g}')


def fit_premise(rows: Sequence[Row]) -> Premise | None:
    """At each width the ratio at its peak, linear in logarithms between those of the grid.

    None where `fit_growth` has no power, and where a run has no ratio > 0.
    """
    found, runs = fit_all(rows), fixed(rows)
    if found is None:
        return None
    seeds, point, drawn, spread, by_lambda = found.seeds, [], [], [], []
    for width, fit, sweeps in zip(found.widths, found.fits, found.sweeps, strict=True):
        table = [
            [runs[width, lam, seed]['risk_ratio'] for lam in sorted(sweeps[seed])] for seed in seeds
        ]
        known = np.array(table, float)  # None becomes NaN
        if not (np.isfinite(known) & (known > 0)).all():
            return None
        ratios = np.log(known)
        point.append(float(between(fit.z, ratios.mean(axis=0)[None], fit.peak)[0]))
        drawn.append(between(fit.z, drawn_curves(ratios), fit.resampled))
        spread.append(interval(point[-1], drawn[-1], len(seeds)))
        by_lambda.append(line(fit.z, ratios.T)[0])
    x = np.log(found.widths)
    return Premise(
        found.widths,
        spread,
        estimate(line(x, np.array(point))[0], line(x, np.array(drawn))[0], len(seeds)),
        over_seeds(np.mean(by_lambda, axis=0).tolist()),
        found.at_edge,
    )
