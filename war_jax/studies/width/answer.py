"""What a study found, in a short paragraph.

    print(paragraph(rows, claims.evaluate(rows, ['trajectory']), ['trajectory']))

Every number in it stands in a table of the report as well, with how it was obtained.
"""

import math
from collections.abc import Sequence

from war_jax.lab.tables import decimal, decimal_interval
from war_jax.measures.statistics import geometric_interval, mean_interval
from war_jax.studies.width import claims, tuning
from war_jax.studies.width.claims import Claim
from war_jax.studies.width.results import Row, fixed, war, widths

_OUTCOME = {
    claims.SUPPORTED: 'at equal λ the wider network is the **less** robust one',
    claims.CONTRADICTED: 'at equal λ the wider network is the **more** robust one',
    claims.UNDECIDED: 'at equal λ neither the wider nor the thinner network is shown to be the '
    'more robust one',
}


def paragraph(rows: Sequence[Row], found: Sequence[Claim], targets: Sequence[str]) -> str:
    """As Markdown."""
    if not widths(rows):
        return 'No run of constant λ is finished: there is nothing to say yet.'
    sentences = [*_with_width(found), *_best(rows), *_adjusted(rows, targets), _counts(found)]
    return ' '.join(sentences)


def _with_width(found: Sequence[Claim]) -> list[str]:
    by_name = {claim.name: claim for claim in found}
    natural, stable, robust = (
        by_name[f'{key}_with_width']
        for key in ('natural_accuracy', 'perturbation_stability', 'robust_accuracy')
    )
    if natural.effect is None or stable.effect is None or robust.effect is None:
        return ['No seed has been run at every width yet, so nothing follows about width.']
    return [
        f'With each doubling of the width, at equal λ, natural accuracy changes by '
        f'{_effect(natural)} points, perturbation stability by {_effect(stable)} and robust '
        f'accuracy by {_effect(robust)}: {_OUTCOME[robust.verdict]}.'
    ]


def _effect(claim: Claim) -> str:
    assert claim.effect is not None and claim.interval is not None
    if not math.isfinite(claim.interval[0]):
        return f'{decimal(claim.effect)} (one seed)'
    return f'{decimal(claim.effect)} ({decimal_interval(claim.interval)})'


def _best(rows: Sequence[Row]) -> list[str]:
    best = tuning.best_lambdas(rows)
    if not best:
        return []
    listed = ', '.join(f'{lam:g} at k = {width:g}' for width, lam in best.items())
    return [f'The best λ on validation images is {listed}.']


def _adjusted(rows: Sequence[Row], targets: Sequence[str]) -> list[str]:
    widest = widths(rows)[-1]
    best = tuning.best_lambdas(rows)
    sentences = []
    for target in targets:
        # Of the seeds that have both, so that neither has an advantage from its seeds.
        pairs = [
            (row, fixed(rows)[widest, best[widest], seed])
            for seed, row in war(rows, target, widest).items()
            if widest in best and (widest, best[widest], seed) in fixed(rows)
        ]
        if not pairs:
            continue
        runs, swept = zip(*pairs, strict=True)
        start, end = (
            geometric_interval([row[key] for row in runs])[0]
            for key in ('lambda', 'final_lambda')
        )
        sentences.append(
            f'At k = {widest:g}, {claims.TARGETS[target]} moves λ from {start:.3g} to {end:.3g} '
            f'and reaches {_robust(runs)} robust accuracy; the best λ of the sweep, '
            f'{best[widest]:g}, reaches {_robust(swept)}.'
        )
    return sentences


def _robust(rows: Sequence[Row]) -> str:
    return f'{100.0 * mean_interval([row["robust_accuracy"] for row in rows])[0]:.1f}\u00a0%'


def _counts(found: Sequence[Claim]) -> str:
    verdicts = [claim.verdict for claim in found]
    counts = [
        f'{verdicts.count(verdict)} are {verdict}'
        for verdict in (claims.SUPPORTED, claims.CONTRADICTED, claims.UNDECIDED)
    ]
    return f'Of {len(found)} claims, {counts[0]}, {counts[1]} and {counts[2]}.'
