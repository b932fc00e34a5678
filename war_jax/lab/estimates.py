"""Estimates over seeds: one number per seed, then Student's t; and ranks, with Page's trend test.

    samples = {32: {0: 1.9, 1: 2.1, 2: 2.0}, 64: {0: 2.7, 1: 3.0, 2: 2.8}}      # x -> seed -> value
    power(samples)                             # Estimate of p in value ~ x^p
    change(samples, scale=100.0)               # of the change per doubling of x, in points
    paired({0: 71.0, 1: 74.0}, {0: 70.0, 1: 72.0})                              # of the difference
    trend(samples)                             # Trend: does the value rise with x, in most seeds?

A seed draws initial weights, order and attack starts (in some studies the data, too), and what it
draws moves its values at all x alike. So an effect is computed for each seed from that seed's own
values, and the interval is Student's for the mean of these numbers: it covers 95 % also where seeds
differ in level *and* in slope, which a bootstrap of the values at each x does not
(tests/war_jax/lab/test_estimates.py draws made-up studies and counts). A seed without a value at
some x has no effect and is left out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from war_jax.measures.statistics import mean_interval, slope

BySeed = Mapping[int, float]  # seed -> value
Samples = Mapping[float, BySeed]  # x -> seed -> value
LEVEL = 0.05  # of every test here; intervals are of 95 %


class Estimate(NamedTuple):
    """A number with its 95 % interval, which is infinite with one seed."""

    value: float
    low: float
    high: float
    num_seeds: int
    # Of the value, and the degrees of freedom of its Student distribution.
    error: float = math.nan
    freedom: float = math.inf

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high

    def p_value(self, bound: float) -> float:
        """Two-sided, of the hypothesis that the true number is `bound`; 1 if there is no error."""
        if not math.isfinite(self.error):
            return 1.0
        distance = abs(self.value - bound)
        if self.error == 0.0:
            return 1.0 if distance == 0.0 else 0.0
        return float(2.0 * stats.t.sf(distance / self.error, self.freedom))


class Trend(NamedTuple):
    """Of ranks over an ordered x: mean rank correlation, and Page's test of either direction."""

    correlation: float  # Spearman's, mean over the seeds
    p_rises: float  # one-sided
    p_falls: float
    num_seeds: int


def over_seeds(values: Sequence[float]) -> Estimate | None:
    """The mean with Student's interval; None without a value.

    Raises ValueError for a value that is not finite.
    """
    if not values:
        return None
    mean, low, high = mean_interval(values)
    count = len(values)
    if count == 1:
        return Estimate(mean, low, high, 1)
    error = float(np.std(np.asarray(values, float) - values[0], ddof=1)) / math.sqrt(count)
    return Estimate(mean, low, high, count, error, count - 1)


def paired(ours: BySeed, theirs: BySeed) -> Estimate | None:
    """Of ours - theirs, over the seeds that have both."""
    return over_seeds([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])


def pooled(places: Iterable[BySeed]) -> Estimate | None:
    """The mean over places, such as lambdas, of which those without a seed do not count, with
    Student's interval over the seeds that all others have."""
    found = [by_seed for by_seed in places if by_seed]
    seeds = sorted(set.intersection(*map(set, found))) if found else []
    return over_seeds([math.fsum(by[seed] for by in found) / len(found) for seed in seeds])


def complete(samples: Samples) -> dict[int, list[float]]:
    """seed -> its values in the order of x, for the seeds that have one at every x."""
    at = [samples[x] for x in sorted(samples)]
    seeds = set.intersection(*map(set, at)) if at else set()
    return {seed: [values[seed] for values in at] for seed in sorted(seeds)}


def powers(samples: Samples) -> dict[int, float]:
    """seed -> p of the least-squares line log(value) = c + p log(x).

    Empty with fewer than two x, and where any value is not positive and finite: a network that
    diverged must not be left out, since those that did not would speak for it.
    """
    values = [value for by_seed in samples.values() for value in by_seed.values()]
    if len(samples) < 2 or not all(0.0 < value < math.inf for value in values):
        return {}
    x = [math.log2(key) for key in sorted(samples)]
    return {seed: slope(x, np.log2(y).tolist()) for seed, y in complete(samples).items()}


def changes(samples: Samples, scale: float = 1.0) -> dict[int, float]:
    """seed -> change of scale * value with each doubling of x; empty with fewer than two x."""
    if len(samples) < 2:
        return {}
    x = [math.log2(key) for key in sorted(samples)]
    return {
        seed: slope(x, [scale * value for value in y]) for seed, y in complete(samples).items()
    }


def power(samples: Samples) -> Estimate | None:
    """Of the power of x; None where `powers` has no seed."""
    return over_seeds(list(powers(samples).values()))


def change(samples: Samples, scale: float = 1.0) -> Estimate | None:
    """Of the change with each doubling of x; None where `changes` has no seed."""
    return over_seeds(list(changes(samples, scale).values()))


def trend(samples: Samples) -> Trend | None:
    """Page's test with the seeds as blocks; None with fewer than three x or without a whole seed.

    Ranks know no scale, so a correlation has no interval here: what is decided is the test. One
    block, or values that are equal at all x, tell nothing: p is 1.

    Source: E. B. Page, Ordered hypotheses for multiple treatments, JASA 58 (1963).
    """
    blocks = list(complete(samples).values())
    if len(samples) < 3 or not blocks:
        return None
    x = sorted(samples)
    correlations = [
        float(stats.spearmanr(x, block).statistic)  # pyright: ignore[reportAttributeAccessIssue]
        if len(set(block)) > 1
        else 0.0  # what does not change neither rises nor falls
        for block in blocks
    ]
    mean = math.fsum(correlations) / len(blocks)
    if len(blocks) == 1 or not any(correlations):
        return Trend(mean, 1.0, 1.0, len(blocks))
    ranks = stats.rankdata(blocks, axis=1)
    p_rises, p_falls = (
        float(stats.page_trend_test(some, ranked=True).pvalue) for some in (ranks, ranks[:, ::-1])
    )
    return Trend(mean, p_rises, p_falls, len(blocks))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for their number: compared with a level, all of them err with that probability.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6
    (1979).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
