"""How far a measured number can be from the true one, and how one number depends on another.

    lower, upper = binomial_interval(successes=84, total=100)          # (0.756, 0.899)
    mean, lower, upper = mean_interval([0.71, 0.74, 0.73])             # (0.727, 0.689, 0.765)
    per_doubling = slope([-1.0, 0.0, 1.0], [0.60, 0.65, 0.70])         # 0.05

Intervals are of 95 % unless another confidence is given.
"""

import math
from collections.abc import Sequence
from operator import index

import numpy as np
from scipy import stats


def binomial_interval(
    successes: int, total: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """(lower, upper) in [0, 1]: Wilson's score interval for a rate of `successes` in `total`.

    Wilson's interval keeps its coverage near 0 % and 100 %, where robust accuracies of undefended
    networks and stabilities at a small radius lie, and where rate +- 1.96 standard errors leaves
    [0, 1]. It covers the draw of the examples only: not the seed of the training, and not an
    attack that misses adversarial examples.

    Raises ValueError unless 0 <= successes <= total, total >= 1 and 0 < confidence < 1, and
    TypeError for a count that is not an integer.
    Source: E. B. Wilson, Probable inference, JASA 22 (1927); Brown, Cai and DasGupta,
    Interval estimation for a binomial proportion, Statistical Science 16 (2001).
    """
    successes, total = index(successes), index(total)
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(
            f'{successes} successes of {total}: expected 0 <= successes <= total and total >= 1'
        )
    if not 0.0 < confidence < 1.0:
        raise ValueError(f'confidence = {confidence}: expected a number between 0 and 1')
    interval = stats.binomtest(successes, total).proportion_ci(confidence, method='wilson')
    return float(interval.low), float(interval.high)


def mean_interval(
    values: Sequence[float], *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """(mean, lower, upper): Student's t interval for the mean of what `values` were drawn from.

    Of trainings with several seeds it covers the draw of the seed, and of nothing else. One value
    says nothing about the spread: its interval is (-infinity, infinity).

    Raises ValueError for no values, values that are not finite, and a confidence outside (0, 1).
    Source: Student, The probable error of a mean, Biometrika 6 (1908).
    """
    array = np.asarray(values, float)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f'{list(values)}: expected at least one value, all of them finite')
    if not 0.0 < confidence < 1.0:
        raise ValueError(f'confidence = {confidence}: expected a number between 0 and 1')
    # About the first value, so that equal values have exactly that mean and no spread.
    mean = float(array[0] + (array - array[0]).mean())
    if array.size == 1:
        return mean, -math.inf, math.inf
    quantile = float(stats.t.ppf(0.5 + confidence / 2.0, array.size - 1))
    half = quantile * float((array - array[0]).std(ddof=1)) / math.sqrt(array.size)
    return mean, mean - half, mean + half


def geometric_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(geometric mean, lower, upper): `mean_interval` of the logarithms, read back; 95 %.

    For positive quantities that differ by factors, as lambda or a risk ratio. The interval of
    one value is (0, infinity). Raises ValueError unless all values are positive and finite.
    """
    if not all(0.0 < value < math.inf for value in values):
        raise ValueError(f'{list(values)}: expected positive, finite values')
    # In units of the first value, so that equal values have exactly that mean.
    interval = mean_interval([math.log(value / values[0]) for value in values])
    mean, lower, upper = (values[0] * math.exp(bound) for bound in interval)
    return mean, lower, upper


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the least-squares line through the points (x, y).

    Raises ValueError for fewer than two different x, and for another number of y.
    """
    across, up = np.asarray(x, float), np.asarray(y, float)
    if across.shape != up.shape or len(np.unique(across)) < 2:
        raise ValueError(f'x = {list(x)}, y = {list(y)}: expected pairs with two different x')
    centred = across - across.mean()
    # The shift of y by a constant changes nothing but rounding: equal y have the slope 0 exactly.
    return float(centred @ (up - up[0]) / (centred @ centred))
