"""Claims of the studies of convergence and capacity: decided, and as a table.

    claim = decide_range('movement', 'Movement does not depend on width', fit, (-0.1, 0.1),
                         'power of m', 'Gao et al. 2019')
    columns, rows = claims_table([claim])

All intervals are of 95 %. Fewer than three seeds decide nothing, as in `ntk.studies.width.claims`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ntk.studies.width.claims import MIN_SEEDS, Fit
from war_jax.lab.tables import Column, decimal
from war_jax.measures.statistics import bootstrap_slope, mean_interval
from war_jax.studies.width.claims import CONTRADICTED, SUPPORTED, UNDECIDED, Claim

Samples = Mapping[float, Sequence[float]]  # x -> the seeds' values


def power_law(samples: Samples) -> Fit | None:
    """The power of x; None with fewer than two x, and for a value that is not positive.

    A seed draws the data, too, and these are the same at all x: where every x has every seed, the
    logarithms are taken about the seed's own mean over x, which leaves the power as it is and keeps
    what seeds differ in at all x alike out of its interval.
    """
    values = [value for some in samples.values() for value in some]
    if len(samples) < 2 or not values or not all(0 < value < math.inf for value in values):
        return None
    x = [math.log2(key) for key in samples]
    y = [np.log2(some) for some in samples.values()]
    if len({len(some) for some in y}) == 1:
        of_seed = np.mean(y, axis=0)
        y = [some - of_seed for some in y]
    return Fit(*bootstrap_slope(x, [some.tolist() for some in y]), min(map(len, y)))


def mean_fit(values: Sequence[float]) -> Fit | None:
    """Their mean, with Student's interval."""
    return Fit(*mean_interval(values), len(values)) if values else None


def decide_range(
    name: str, statement: str, fit: Fit | None, claimed: tuple[float, float], unit: str, how: str
) -> Claim:
    """That a number lies in the claimed range: supported or contradicted by the whole interval."""
    if fit is None:
        return Claim(name, statement, None, unit, None, 0, UNDECIDED, f'Not evaluated. {how}')
    verdict = UNDECIDED
    if fit.num_seeds >= MIN_SEEDS:
        if claimed[0] <= fit.lower and fit.upper <= claimed[1]:
            verdict = SUPPORTED
        elif fit.upper < claimed[0] or fit.lower > claimed[1]:
            verdict = CONTRADICTED
    interval = (fit.lower, fit.upper)
    return Claim(name, statement, fit.value, unit, interval, fit.num_seeds, verdict, how)


def claims_table(claims: Sequence[Claim]) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('verdict', 'Verdict', align='l'),
        Column('statement', 'Claim', align='l'),
        Column('effect', 'Measured', short),
        Column('interval', '95 % interval', short_interval),
        Column('unit', 'Unit', align='l'),
        Column('num_seeds', 'Seeds'),
        Column('how', 'How', align='l'),
    ]
    return columns, [vars(claim) for claim in claims]


def short(value: float) -> str:
    """Two decimals, and for small numbers two digits: 0.0012."""
    return decimal(value) if abs(value) >= 0.1 or value == 0 else f'{value:.2g}'.replace('-', '−')


def short_interval(value: tuple[float, float]) -> str:
    lower, upper = value
    return f'{short(lower)} to {short(upper)}' if math.isfinite(upper - lower) else '—'


def three(fit: Fit | None) -> tuple[float, float, float] | None:
    """A cell of a table: the number and its interval."""
    return None if fit is None else (fit.value, fit.lower, fit.upper)


def fitted(value: tuple[float, float, float]) -> str:
    """'−0.93 (−0.96 to −0.90)'."""
    interval = f' ({short_interval(value[1:])})' if math.isfinite(value[2]) else ''
    return short(value[0]) + interval
