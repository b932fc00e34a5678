"""What the paper claims of width at equal lambda, and of the best lambda, held against the runs.

    found = [with_width(study, key) for key in WITH_WIDTH]
    found += [best_lambda_grows(study.rows), *at_the_best(study)]

An effect is computed for each seed from that seed's own runs; how it becomes a verdict is the
business of war_jax/lab/verdicts.py. The claims on WAR: war_jax/studies/width/war_claims.py.
"""

from collections.abc import Iterator, Sequence

from war_jax.lab.estimates import changes, over_seeds, pooled
from war_jax.lab.quantities import quantity
from war_jax.lab.verdicts import ABOVE, BELOW, Claim, Range, claim, claim_at_each
from war_jax.studies.width import tuning
from war_jax.studies.width.results import Row, slopes, slopes_unit, widths
from war_jax.studies.width.study import Study

# Of the resampled fits: with more at an edge of the grid, the growth of the best lambda is unknown.
MOST_AT_EDGE = 0.25
# What changes with width at equal lambda: key of the rows -> statement, claimed range.
WITH_WIDTH: dict[str, tuple[str, Range]] = {
    'natural_accuracy': ('At equal λ, natural accuracy rises with width', ABOVE),
    'perturbation_stability': ('At equal λ, perturbation stability falls with width', BELOW),
    'robust_accuracy': ('At equal λ, robust accuracy falls with width', BELOW),
    'local_lipschitz': ('At equal λ, local Lipschitzness (output ratio) grows with width', ABOVE),
    'local_lipschitz_kl_gradient': (
        'At equal λ, local Lipschitzness (KL gradient) grows with width', ABOVE,
    ),
    'lipschitz_by_margin': (
        'At equal λ, local Lipschitzness (output ratio) divided by the margin grows with width',
        ABOVE,
    ),
    'risk_ratio': ('At equal λ, natural risk / robust regularization falls with width', BELOW),
}  # fmt: skip


def with_width(study: Study, key: str) -> Claim:
    statement, supported = WITH_WIDTH[key]
    rows, lams = study.rows, study.plan['lams']
    by_lambda = {lam: slopes(rows, key, lam) for lam in lams}
    effects = {f'λ = {lam:g}': over_seeds(list(of.values())) for lam, of in by_lambda.items()}
    mean = pooled(by_lambda.values())
    if len(widths(rows)) < 2:
        how = 'Not evaluated: fewer than two widths have finished runs.'
    elif not any(by_lambda.values()):
        how = 'Not evaluated: no seed has a usable value at every width for any λ.'
    else:
        line = 'log–log slope' if quantity(key).by_factors else 'slope against log2 of the width'
        how = f'Least-squares {line} of each seed, widths {listed(widths(rows))}.'
    name = f'{key}_with_width'
    return claim_at_each(name, statement, effects, mean, supported, slopes_unit(key), how)


def at_the_best(study: Study) -> Iterator[Claim]:
    """Of robust accuracy with width, each network at its own width's best lambda."""
    chosen, count = tuning.at_best(study.rows), study.plan.get('autoattack_examples')
    commits = ', '.join(sorted({row['autoattack_commit'] for row in chosen} - {None}))
    attacks = [('robust_accuracy', '', '', 'no seed has the best λ of every width, of two or more')]
    if count:
        attacks.append((
            'autoattack_accuracy', ' under AutoAttack',
            f' The standard version, on {count} of the test images by commit {commits}.',
            'no seed has been attacked at every width yet',
        ))  # fmt: skip
    for key, under, on, reason in attacks:
        found: dict[float, dict[int, float]] = {}
        for row in chosen:
            if row[key] is not None:
                found.setdefault(row['widen_factor'], {})[row['seed']] = row[key]
        slopes_of = changes(found, 100.0) if list(found) == widths(study.rows) else {}
        how = f'Not evaluated: {reason}.'
        if slopes_of:
            lams = {row['widen_factor']: row['lambda'] for row in chosen}
            how = (
                f'Least-squares slope of each seed against log2 of the width, widths '
                f'{listed(list(found))} at λ = {listed(list(lams.values()))}, the best of the grid '
                f'on validation images.{on}'
            )
        yield claim(
            f'best_lambda_{key}',
            f'Each at its best λ, wider networks have more robust accuracy{under}',
            over_seeds(list(slopes_of.values())), ABOVE, slopes_unit(key), how,
        )  # fmt: skip


def best_lambda_grows(rows: Sequence[Row]) -> Claim:
    growth = tuning.fit_growth(rows)
    effect, unless = None, ''
    how = (
        'Not evaluated: no seed has all λ of the grid at every width, of two or more widths and '
        'three or more λ.'
    )
    if growth is not None:
        effect = growth.exponent
        images = (
            f', and the {growth.num_images} validation images of each accuracy,'
            if growth.num_images is not None
            else ''
        )
        how = (
            'Log–log slope of the λ with the highest validation robust accuracy: at each width the '
            'peak of one parabola in log λ, with a level for each seed. Interval: seeds'
            f'{images} drawn anew; in {100 * growth.at_edge:.0f}\u00a0% of these fits some width '
            f'has no peak within the grid. Widths {listed(growth.widths)}.'
        )
        unless = at_edge(growth.at_edge)
    statement, unit = 'The best λ grows with width', 'exponent of the width'
    return claim('best_lambda_grows', statement, effect, ABOVE, unit, how, unless)


def at_edge(share: float) -> str:
    """Why nothing follows from the best lambdas, if so; share: of fits without a peak inside."""
    if share <= MOST_AT_EDGE:
        return ''
    return (
        f'in more than {100 * MOST_AT_EDGE:.0f}\u00a0% of the resampled fits the best λ of some '
        'width lies at an edge of the grid or beyond; the grid has to be extended.'
    )


def listed(values: Sequence[float]) -> str:
    return ', '.join(f'{value:g}' for value in values)
