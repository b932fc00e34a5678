"""What is claimed of width adjusted regularization, held against a study's runs.

    found = war_claims(study)       # its premise, each variant at the widest network, its cost

Each variant is compared, seed by seed, with the best lambda that the sweep of the widest network
finds, and with the thin network's lambda there. The premise of all that hold a ratio is a claim of
its own: that the risk ratio (natural risk / robust regularization) at the best lambda does not
depend on the width.
"""

from collections.abc import Mapping, Sequence

from war_jax.lab.estimates import Estimate, paired
from war_jax.lab.verdicts import (
    ABOVE,
    MARGIN,
    WHY_MARGIN,
    Claim,
    claim,
    claim_of_ratio,
    near,
    no_worse,
)
from war_jax.studies.width import tuning
from war_jax.studies.width.claims import at_edge
from war_jax.studies.width.costs import tuning_cost
from war_jax.studies.width.results import Row, fixed, of_method, widths
from war_jax.studies.width.study import Study
from war_jax.studies.width.tasks import TITLES

POINTS = 'points'  # percentage points
# Of the power of the width. A doubling then changes the ratio by less than a fifth; and where the
# ratio goes about as the square of lambda, whoever holds it over a factor of 8 in width is off by a
# factor of 1.3 in lambda, less than half a step of any grid here.
RATIO_TOLERANCE = 0.25


def war_claims(study: Study) -> list[Claim]:
    """In the order of the argument; none without a variant."""
    if not study.methods:
        return []
    rows = study.rows
    return [
        _premise(rows),
        *(_reaches_the_best(rows, method) for method in study.methods),
        *(_beats_the_thin_lambda(rows, method) for method in study.methods),
        _costs_less(study),
    ]


def _premise(rows: Sequence[Row]) -> Claim:
    premise = tuning.fit_premise(rows)
    effect, unless = None, ''
    how = (
        'Not evaluated: no seed has all λ of the grid with a risk ratio at every width, of two or '
        'more widths and three or more λ.'
    )
    if premise is not None:
        effect, unless = premise.exponent, at_edge(premise.at_edge)
        ratios = ', '.join(
            f'{ratio[0]:.3g} at k = {width:g}'
            for width, ratio in zip(premise.widths, premise.ratios, strict=True)
        )
        by_lambda = premise.by_lambda
        how = (
            'Log–log slope of the risk ratio at the best λ of each width, which is chosen on '
            f'validation images: {ratios}. The ratio is that of averages at the end of training, '
            'between the λ of the grid linear in logarithms. Interval: seeds and validation '
            'images drawn anew, and with them the best λ.'
        )
        if by_lambda is not None:
            how += f' At one width the ratio goes as λ to the power {by_lambda.value:.2g}.'
        how += (
            f' A power of less than {RATIO_TOLERANCE:g} counts as none: a doubling of the width '
            f'then changes the ratio by less than {100 * (2**RATIO_TOLERANCE - 1):.0f}\u00a0%.'
        )
    statement = 'The risk ratio at the best λ does not depend on the width (the premise of WAR)'
    supported, unit = near(0.0, RATIO_TOLERANCE), 'exponent of the width'
    return claim('war_premise', statement, effect, supported, unit, how, unless)


def _reaches_the_best(rows: Sequence[Row], method: str) -> Claim:
    runs, how = _at_the_widest(rows, method)
    effect = None
    if runs:
        widest, best = widths(rows)[-1], tuning.best_lambdas(rows)
        how = 'Not evaluated: no seed has all λ of the widest network.'
        if widest in best:
            effect = difference(rows, method, widest, best[widest])
            how = f'Not evaluated: no seed has both its run and λ = {best[widest]:g} there.'
        if effect is not None:
            how = (
                f'Test robust accuracy of the variant minus that of λ = {best[widest]:g}, the best '
                f'of the sweep by validation, at width {widest:g}. {WHY_MARGIN}'
            )
    statement = (
        f'{TITLES[method]} is as robust as the best λ of the sweep, within {MARGIN:g} points'
    )
    return claim(f'war_{method}_reaches_the_best', statement, effect, no_worse(MARGIN), POINTS, how)


def _beats_the_thin_lambda(rows: Sequence[Row], method: str) -> Claim:
    runs, how = _at_the_widest(rows, method)
    effect, thin = None, tuning.best_lambdas(rows).get(widths(rows)[0]) if runs else None
    if thin is not None:
        widest = widths(rows)[-1]
        effect = difference(rows, method, widest, thin)
        how = (
            'Test robust accuracy of the variant minus that of a constant λ equal to the thin '
            f'network’s best ({thin:g}), at width {widest:g}.'
            if effect is not None
            else 'Not evaluated: no seed has the thin network’s λ among the runs at the widest.'
        )
    statement = f'{TITLES[method]} is more robust than the thin network’s λ'
    return claim(f'war_{method}_beats_the_thin_lambda', statement, effect, ABOVE, POINTS, how)


def _costs_less(study: Study) -> Claim:
    cost = tuning_cost(study.rows, study.num_devices)
    how = 'Not evaluated: fewer than two widths have finished runs of constant λ.'
    if len(widths(study.rows)) > 1:
        how = 'Not evaluated: no run of a variant is finished.'
    if cost is not None:
        count, thin, wide = cost.num_lambdas, cost.thinnest, cost.widest
        how = (
            f'Device time for one seed: {count} λ at width {wide.widen_factor:g}, over {count} λ '
            f'at width {thin.widen_factor:g} and one WAR run at width {wide.widen_factor:g}. A '
            f'run counts as the median of those of its width ({wide.num_runs} and {thin.num_runs} '
            'here), of constant λ and with WAR alike: they are the same program and number of '
            'steps, but the load of the machine varies. The first run of each width on each '
            'device, by seed and λ, is left out, as it compiles; shards of a study on other '
            f'machines compile too, which a median bears. With {count} λ the ratio can be at most '
            f'{count}.'
        )
    statement = 'WAR (thin sweep + one wide run) costs less than the sweep at the widest network'
    return claim_of_ratio('war_costs_less', statement, cost and cost.ratio, how)


def _at_the_widest(rows: Sequence[Row], method: str) -> tuple[Mapping[int, Row], str]:
    """seed -> run; and why there is none, if so."""
    runs = of_method(rows, method, widths(rows)[-1]) if widths(rows) else {}
    return runs, '' if runs else 'Not evaluated: no run of the variant at the widest is finished.'


def difference(rows: Sequence[Row], method: str, width: float, lam: float) -> Estimate | None:
    """Points of robust accuracy of a variant over a constant lambda of the grid, seed by seed."""
    swept = {seed: row for (k, at, seed), row in fixed(rows).items() if (k, at) == (width, lam)}
    ours, theirs = (
        {seed: 100.0 * row['robust_accuracy'] for seed, row in runs.items()}
        for runs in (of_method(rows, method, width), swept)
    )
    return paired(ours, theirs)
