"""What the paper claims about width and lambda, held against the finished runs of a study.

    rows, _ = collect(Path('runs/study/runs'))
    for claim in evaluate(rows, ['trajectory', 'constant']):
        print(claim.verdict, claim.statement, claim.effect, claim.interval)

An effect is computed for each seed from that seed's own runs, and the interval is Student's over
the seeds, at 95 %. A claim is supported if the interval lies wholly on the claimed side of no
effect, contradicted if wholly on the other side, and undecided otherwise: always with one seed, and
where runs are missing. Each interval stands alone: none is widened for the number of claims.

Two kinds of claims are decided otherwise. That WAR is as robust as the best lambda is a claim of no
difference, which a wide interval must not support: it is supported if the interval excludes a loss
of MARGIN or more, contradicted if not so and the interval lies wholly below 0. What tuning costs is
a ratio of medians of run times, without an interval, and has to differ from 1 by CLEAR_RATIO.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from war_jax.measures.statistics import mean_interval, slope
from war_jax.studies.width import tuning
from war_jax.studies.width.results import Row, fixed, war, widths

SUPPORTED, CONTRADICTED, UNDECIDED = 'supported', 'contradicted', 'undecided'
POINTS = 'points'  # percentage points
PER_DOUBLING = 'points per doubling of the width'
EXPONENT = 'exponent of the width'
TIMES = 'times'
# Points of robust accuracy: a loss smaller than this counts as no difference.
MARGIN = 2.0
# Medians of wall times on a shared machine are no better than that.
CLEAR_RATIO = 1.1

# What changes with width at equal lambda: key of the rows -> (statement, claimed sign, in
# logarithms?). Accuracies change by so many points, the others by so large a power of the width.
WITH_WIDTH = {
    'natural_accuracy': ('At equal λ, natural accuracy rises with width', 1, False),
    'perturbation_stability': ('At equal λ, perturbation stability falls with width', -1, False),
    'robust_accuracy': ('At equal λ, robust accuracy falls with width', -1, False),
    'local_lipschitz': (
        'At equal λ, local Lipschitzness (output ratio) grows with width', 1, True,
    ),
    'local_lipschitz_kl_gradient': (
        'At equal λ, local Lipschitzness (KL gradient) grows with width', 1, True,
    ),
    'risk_ratio': (
        'At equal λ, natural risk / robust regularization falls with width', -1, True,
    ),
}  # fmt: skip
TARGETS = {
    'trajectory': 'WAR (target: trajectory)',
    'constant': 'WAR (target: constant)',
}


@dataclass(frozen=True)
class Claim:
    """One claim and what the study says of it."""

    name: str
    statement: str
    effect: float | None  # mean over seeds, in `unit`; None if it could not be computed
    unit: str
    interval: tuple[float, float] | None  # infinite with one seed
    num_seeds: int  # behind the effect; 0 if there is none, or if it is not one over seeds
    verdict: str
    how: str


def evaluate(rows: Sequence[Row], targets: Sequence[str]) -> list[Claim]:
    """All claims, in the order of the argument; `targets` are those of the study's WAR runs."""
    claims = [_with_width(rows, key) for key in WITH_WIDTH]
    claims.append(_best_lambda_grows(rows))
    for judge in (_reaches_the_best, _beats_the_thin_lambda):
        claims += [judge(rows, target) for target in targets]
    return [*claims, _costs_less(rows)] if targets else claims


def slopes(rows: Sequence[Row], key: str) -> dict[float, dict[int, float]]:
    """lambda -> seed -> change of `key` with width, for the seeds that have it at every width.

    Of an accuracy: the slope of the least-squares line against log2 of the width, in points per
    doubling. Of the others: of the line through the logarithms, the exponent of the width.
    """
    logarithmic = WITH_WIDTH[key][2]
    return slopes_of_cells(fixed(rows), widths(rows), key, None if logarithmic else 100.0)


def slopes_of_cells(
    cells: Mapping[tuple[float, float, int], Row],
    all_widths: Sequence[float],
    key: str,
    factor: float | None,
) -> dict[float, dict[int, float]]:
    """lambda -> seed -> slope of `key` against log2 of the width.

    cells: (width, lambda, seed) -> row; of those, the seeds that have a value at every width.
    factor: what the values are multiplied by. None: their logarithm is meant, which gives the
    exponent of the width; seeds with a value that is not positive are left out.
    """
    found: dict[float, dict[int, float]] = {}
    if len(all_widths) < 2:
        return found
    x = [math.log2(width) for width in all_widths]
    for lam, seed in sorted({(lam, seed) for _, lam, seed in cells}):
        values = [cells.get((width, lam, seed), {}).get(key) for width in all_widths]
        y = [v for v in values if v is not None and (v > 0 or factor is not None)]
        if len(y) == len(x):
            y = [math.log2(v) if factor is None else factor * v for v in y]
            found.setdefault(lam, {})[seed] = slope(x, y)
    return found


def decide(interval: tuple[float, float], sign: int) -> str:
    """Of the claim that an effect has this sign: 1 or -1."""
    lower, upper = sorted(sign * bound for bound in interval)
    return SUPPORTED if lower > 0 else CONTRADICTED if upper < 0 else UNDECIDED


def _claim(
    name: str,
    statement: str,
    unit: str,
    by_seed: Mapping[int, float],
    how: str,
    verdict: Callable[[tuple[float, float]], str],
) -> Claim:
    """`how` names what is missing if no seed has an effect."""
    if not by_seed:
        return Claim(name, statement, None, unit, None, 0, UNDECIDED, how)
    mean, lower, upper = mean_interval(list(by_seed.values()))
    if len(by_seed) == 1:
        how = f'{how.rstrip()} One seed: no interval.'
    decided = verdict((lower, upper))
    return Claim(name, statement, mean, unit, (lower, upper), len(by_seed), decided, how)


def _with_width(rows: Sequence[Row], key: str) -> Claim:
    statement, sign, logarithmic = WITH_WIDTH[key]
    unit = EXPONENT if logarithmic else PER_DOUBLING
    by_lambda = slopes(rows, key)
    seeds = set.intersection(*map(set, by_lambda.values())) if by_lambda else set()
    by_seed = {
        seed: math.fsum(found[seed] for found in by_lambda.values()) / len(by_lambda)
        for seed in sorted(seeds)
    }
    if len(widths(rows)) < 2:
        how = 'Not evaluated: fewer than two widths have finished runs.'
    elif not by_lambda:
        how = 'Not evaluated: no seed has a usable value at every width for any λ.'
    elif not by_seed:
        how = 'Not evaluated: no seed has a usable value at every width and λ.'
    else:
        line = 'log–log slope' if logarithmic else 'slope against log2 of the width'
        how = (
            f'Least-squares {line}, widths {_listed(widths(rows))}, mean over λ = '
            f'{_listed(by_lambda)}.'
        )
    return _claim(f'{key}_with_width', statement, unit, by_seed, how, lambda x: decide(x, sign))


def _best_lambda_grows(rows: Sequence[Row]) -> Claim:
    law = tuning.power_law(rows)
    how = 'Not evaluated: no seed has all λ of the grid at every width, of two or more.'
    if law.exponents:
        how = (
            'Log–log slope of the λ with the highest validation robust accuracy (peak of a '
            f'parabola through three grid points), widths {_listed(law.widths)}; '
            f'{law.num_at_edges} of {len(law.exponents) * len(law.widths)} optima lie at an edge '
            'of the grid.'
        )
    statement = 'The best λ grows with width'
    return _claim(
        'best_lambda_grows', statement, EXPONENT, law.exponents, how, lambda x: decide(x, 1)
    )


def _reaches_the_best(rows: Sequence[Row], target: str) -> Claim:
    runs, how = _war_at_the_widest(rows, target)
    pairs: list[tuple[int, float, float]] = []  # seed, WAR, the best lambda of the sweep
    if runs:
        widest = widths(rows)[-1]
        best = tuning.best_lambdas(rows)
        how = 'Not evaluated: no seed has all λ of the widest network.'
        if widest in best:
            how = f'Not evaluated: no seed has both its WAR run and λ = {best[widest]:g} there.'
            swept = {seed: fixed(rows).get((widest, best[widest], seed)) for seed in runs}
            pairs = [(seed, _points(runs[seed]), _points(x)) for seed, x in swept.items() if x]
        if pairs:
            how = (
                f'Test robust accuracy of WAR minus that of λ = {best[widest]:g}, the best of the '
                f'sweep by validation, at width {widest:g}. A claim of no difference: supported if '
                f'the lower end of the interval is above −{MARGIN:g} points (a smaller loss counts '
                'as none), contradicted if not so and the interval lies wholly below 0, undecided '
                f'otherwise. {_place(pairs)}'
            )

    def verdict(interval: tuple[float, float]) -> str:
        # No interval can prove that there is no difference, but it can exclude a large loss; a
        # wide one, of few or noisy seeds, excludes nothing.
        lower, upper = interval
        return SUPPORTED if lower > -MARGIN else CONTRADICTED if upper < 0 else UNDECIDED

    name = f'war_{target}_reaches_the_best'
    statement = (
        f'{TARGETS[target]} is as robust as the best λ of the sweep, within {MARGIN:g} points'
    )
    difference = {seed: ours - theirs for seed, ours, theirs in pairs}
    return _claim(name, statement, POINTS, difference, how, verdict)


def _place(pairs: Sequence[tuple[int, float, float]]) -> str:
    """Where WAR's mean stands to the best lambda's own interval, which one seed does not have."""
    if len(pairs) < 2:
        return ''
    mean, *_ = mean_interval([ours for _, ours, _ in pairs])
    _, lower, upper = mean_interval([theirs for _, _, theirs in pairs])
    where = 'below' if mean < lower else 'above' if mean > upper else 'within'
    return (
        f'WAR’s mean, {mean:.1f}\u00a0%, lies {where} that λ’s own 95 % interval over the same '
        f'seeds, {lower:.1f} to {upper:.1f}\u00a0%.'
    )


def _beats_the_thin_lambda(rows: Sequence[Row], target: str) -> Claim:
    runs, how = _war_at_the_widest(rows, target)
    difference = {}
    if runs:
        widest, thin = widths(rows)[-1], sorted({row['lambda'] for row in runs.values()})
        how = (
            'Test robust accuracy of WAR minus that of a constant λ equal to the thin network’s, '
            f'from which WAR started ({_listed(thin)}), at width {widest:g}.'
        )
        for seed, ours in runs.items():
            reused = fixed(rows).get((widest, ours['lambda'], seed))
            if reused is not None:
                difference[seed] = _points(ours) - _points(reused)
        if not difference:
            how = 'Not evaluated: no seed has the thin network’s λ among the runs at the widest.'
    name = f'war_{target}_beats_the_thin_lambda'
    statement = f'{TARGETS[target]} is more robust than the thin network’s λ'
    return _claim(name, statement, POINTS, difference, how, lambda x: decide(x, 1))


def _costs_less(rows: Sequence[Row]) -> Claim:
    cost = tuning.cost(rows)
    ratio, verdict = None, UNDECIDED
    how = 'Not evaluated: fewer than two widths have finished runs of constant λ.'
    if len(widths(rows)) > 1:
        how = 'Not evaluated: no WAR run is finished.'
    if cost is not None:
        ratio, count = cost.ratio, cost.num_lambdas
        if ratio > CLEAR_RATIO:
            verdict = SUPPORTED
        elif ratio < 1 / CLEAR_RATIO:
            verdict = CONTRADICTED
        how = (
            f'Device time for one seed: {count} λ at width {cost.widest.widen_factor:g}, over '
            f'{count} λ at width {cost.thinnest.widen_factor:g} and one WAR run at width '
            f'{cost.widest.widen_factor:g}. A run counts as the median of all finished runs of its '
            f'width ({cost.widest.num_runs} and {cost.thinnest.num_runs} here), of constant λ and '
            'with WAR alike: they are the same program and number of steps, but the load of the '
            'machine varies. Compilation, once per width and device, is outside of the medians as '
            'long as most runs are not the first of their width on a device. No effect over seeds, '
            f'hence no interval: supported if the ratio is above {CLEAR_RATIO:g}, contradicted if '
            f'below 1/{CLEAR_RATIO:g}, undecided otherwise. With {count} λ the ratio can be at '
            f'most {count}.'
        )
    statement = 'WAR (thin sweep + one wide run) costs less than the sweep at the widest network'
    return Claim('war_costs_less', statement, ratio, TIMES, None, 0, verdict, how)


def _war_at_the_widest(rows: Sequence[Row], target: str) -> tuple[dict[int, Row], str]:
    """seed -> run; and why there is none, if so."""
    runs = war(rows, target, widths(rows)[-1]) if widths(rows) else {}
    return runs, '' if runs else 'Not evaluated: no WAR run of the widest network is finished.'


def _points(row: Row) -> float:
    return 100.0 * row['robust_accuracy']


def _listed(values: Sequence[float] | Mapping[float, object]) -> str:
    return ', '.join(f'{value:g}' for value in values)
