"""A saturating power law of the robust error, and how sure its numbers are.

    points = [Point((1e4, 256.0), {0: 0.52, 1: 0.55, 2: 0.53}), ...]   # x, and the error by seed
    law = fit(points)                       # of the means over seeds
    law.floor, law.exponents, law(x)        # error -> floor + sum_i scale_i * x_i ** -exponent_i
    estimates(points, lambda some: [fit(some).floor])    # Estimates, with 95 % intervals

The form is that of Hestness et al. 2017 and, with several sizes, of Hoffmann et al. 2022: what is
left of the error when everything has grown without end, and for each size a term that falls as a
power of it. For given exponents the law is linear in floor and scales, which cannot be negative
(non-negative least squares); so only the exponents are searched for.

Intervals are jackknife ones: with one seed left out at a time the law is fitted anew, and Student's
t of the pseudo-values (Tukey 1958) is taken, which are one number per seed as in all studies here
(tests/war_jax/studies/scaling/test_law.py counts how often they cover).
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize

from war_jax.lab.estimates import Estimate, over_seeds

# Below the first a power cannot be told from a logarithm, above the second not from a step.
_EXPONENTS = (0.02, 4.0)
_STARTS = (0.1, 0.3, 0.6, 1.0, 1.7, 3.0)


class Point(NamedTuple):
    x: tuple[float, ...]  # sizes, all positive
    errors: Mapping[int, float]  # seed -> error in [0, 1]

    @property
    def mean(self) -> float:
        return math.fsum(self.errors.values()) / len(self.errors)


@dataclass(frozen=True)
class Law:
    """error(x) = floor + sum_i scales[i] * (x[i] / units[i]) ** -exponents[i]."""

    floor: float
    scales: tuple[float, ...]
    exponents: tuple[float, ...]
    units: tuple[float, ...]  # the smallest sizes that were fitted

    def __call__(self, x: Sequence[float]) -> float:
        return self.floor + math.fsum(self.terms(x))

    def terms(self, x: Sequence[float]) -> list[float]:
        """What each size could still take away from the error."""
        return [
            scale * (size / unit) ** -exponent
            for size, scale, unit, exponent in zip(
                x, self.scales, self.units, self.exponents, strict=True
            )
        ]

    def ends_at(self, which: int, gain: float) -> float:
        """The size from which on its doubling takes away less than `gain` of the error; 0 where
        it never takes away more."""
        exponent, scale = self.exponents[which], self.scales[which]
        first = scale * (1.0 - 2.0**-exponent)  # of the doubling of the smallest
        if first <= gain:
            return 0.0
        return self.units[which] * (first / gain) ** (1.0 / exponent)


def can_fit(points: Sequence[Point]) -> bool:
    """Whether there are more points than the law has numbers (1, and 2 for each size), and three
    values of each size: with two, nothing tells its scale from its exponent."""
    num_sizes = len(points[0].x) if points else 0
    values = [{point.x[i] for point in points} for i in range(num_sizes)]
    return len(points) > 1 + 2 * num_sizes and all(len(some) >= 3 for some in values)


def fit(points: Sequence[Point]) -> Law:
    """Least squares on the mean errors over seeds. Raises ValueError where `can_fit` says no."""
    if not can_fit(points):
        raise ValueError(f'{len(points)} points, too few of some size, for a law')
    num_sizes = len(points[0].x)
    sizes = np.array([point.x for point in points])
    errors = np.array([point.mean for point in points])
    units = sizes.min(axis=0)
    logs = np.log(sizes / units)

    def solved(log_exponents: Sequence[float]) -> tuple[np.ndarray, float]:
        """Floor and scales, and the residual's norm."""
        terms = np.exp(-np.clip(np.exp(log_exponents), *_EXPONENTS) * logs)
        return optimize.nnls(np.column_stack([np.ones(len(errors)), terms]), errors)

    start = min(
        itertools.product(np.log(_STARTS), repeat=num_sizes), key=lambda logs: solved(logs)[1]
    )
    found = optimize.minimize(
        lambda logs: solved(logs)[1], start, method='Nelder-Mead',
        options={'xatol': 1e-4, 'fatol': 1e-9, 'maxiter': 400},
    )  # fmt: skip
    exponents = np.clip(np.exp(found.x), *_EXPONENTS)
    (floor, *scales), _ = solved(found.x)
    return Law(float(floor), tuple(map(float, scales)), tuple(exponents.tolist()), tuple(units))


def estimates(
    points: Sequence[Point], of: Callable[[Sequence[Point]], Sequence[float]]
) -> list[Estimate | None]:
    """What `of` makes of points, such as numbers of their law, each with its jackknife interval;
    of the seeds that are at every point. Raises ValueError where there is none."""
    seeds = sorted(set.intersection(*(set(point.errors) for point in points)))
    if not seeds:
        raise ValueError('no seed is at every point')
    whole = of(_of_seeds(points, seeds))
    if len(seeds) == 1:
        return [over_seeds([value]) for value in whole]
    without = [of(_of_seeds(points, [s for s in seeds if s != seed])) for seed in seeds]
    count = len(seeds)
    return [
        over_seeds([count * value - (count - 1) * left[which] for left in without])
        for which, value in enumerate(whole)
    ]


def _of_seeds(points: Sequence[Point], seeds: Sequence[int]) -> list[Point]:
    return [Point(point.x, {seed: point.errors[seed] for seed in seeds}) for point in points]
