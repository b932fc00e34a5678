"""How far a rate counted on finitely many examples can be from the true one.

    lower, upper = binomial_interval(successes=84, total=100)          # (0.756, 0.899)
"""

from operator import index

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
