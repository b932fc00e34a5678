"""What the paper claims about width and lambda, held against a study's runs, and the page about it.

    claims, provenance = decide(Path('docs/studies/width_digits'))  # of study.json and rows.csv
    write_report(Path('runs/study'))    # report.md, rows.csv, verdicts.json, tables/, figures/

Nothing is measured here. An effect is computed for each seed from that seed's own runs; how it
becomes a verdict is the business of war_jax/lab/verdicts.py. A study that is not finished is
reported as far as it is, with what is missing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from war_jax.lab import page, tables
from war_jax.lab.estimates import Estimate, over_seeds, paired
from war_jax.lab.page import Section
from war_jax.lab.quantities import quantity
from war_jax.lab.tables import decimal, decimal_interval, write_table
from war_jax.lab.verdicts import (
    ABOVE,
    BELOW,
    CONTRADICTED,
    MARGIN,
    SUPPORTED,
    UNDECIDED,
    WHY_MARGIN,
    Claim,
    Range,
    claim,
    claim_at_each,
    claim_of_ratio,
    no_worse,
    write_verdicts,
)
from war_jax.measures.statistics import geometric_interval, mean_interval
from war_jax.records.files import write_text
from war_jax.report import conditions
from war_jax.studies.width import pictures, tabulate, tuning
from war_jax.studies.width.results import (
    COLUMNS,
    Row,
    fixed,
    slopes,
    slopes_unit,
    war,
    widths,
)
from war_jax.studies.width.study import TARGETS, Study, read_study

POINTS = 'points'  # percentage points
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
    'risk_ratio': ('At equal λ, natural risk / robust regularization falls with width', BELOW),
}  # fmt: skip
_OUTCOME = {
    SUPPORTED: 'the wider network is the **less** robust one',
    CONTRADICTED: 'the wider network is the **more** robust one',
    UNDECIDED: 'neither the wider nor the thinner network is shown to be the more robust one',
}


def decide(folder: Path) -> tuple[list[Claim], Mapping[str, Any]]:
    """The claims, decided anew from a workdir or from study.json and rows.csv alone, and the
    provenance, with commit, data and command.

    Raises ReportError, one line, for files that cannot be read.
    """
    study = read_study(folder)
    return evaluate(study), study.provenance


def evaluate(study: Study) -> list[Claim]:
    """All claims, in the order of the argument."""
    claims = [_with_width(study, key) for key in WITH_WIDTH]
    claims.append(_best_lambda_grows(study.rows))
    for judged in (_reaches_the_best, _beats_the_thin_lambda):
        claims += [judged(study.rows, target) for target in study.targets]
    return [*claims, _costs_less(study)] if study.targets else claims


def _with_width(study: Study, key: str) -> Claim:
    statement, supported = WITH_WIDTH[key]
    rows, lams = study.rows, study.plan['lams']
    by_lambda = {lam: slopes(rows, key, lam) for lam in lams}
    effects = {f'λ = {lam:g}': over_seeds(list(of.values())) for lam, of in by_lambda.items()}
    found = [of for of in by_lambda.values() if of]
    seeds = sorted(set.intersection(*map(set, found))) if found else []
    pooled = over_seeds([math.fsum(of[seed] for of in found) / len(found) for seed in seeds])
    if len(widths(rows)) < 2:
        how = 'Not evaluated: fewer than two widths have finished runs.'
    elif not found:
        how = 'Not evaluated: no seed has a usable value at every width for any λ.'
    else:
        line = 'log–log slope' if quantity(key).by_factors else 'slope against log2 of the width'
        how = f'Least-squares {line} of each seed, widths {_listed(widths(rows))}.'
    name = f'{key}_with_width'
    return claim_at_each(name, statement, effects, pooled, supported, slopes_unit(key), how)


def _best_lambda_grows(rows: Sequence[Row]) -> Claim:
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
            f'has no peak within the grid. Widths {_listed(growth.widths)}.'
        )
        if growth.at_edge > MOST_AT_EDGE:
            unless = (
                f'in more than {100 * MOST_AT_EDGE:.0f}\u00a0% of the resampled fits the best λ of '
                'some width lies at an edge of the grid or beyond; the grid has to be extended.'
            )
    statement, unit = 'The best λ grows with width', 'exponent of the width'
    return claim('best_lambda_grows', statement, effect, ABOVE, unit, how, unless)


def _reaches_the_best(rows: Sequence[Row], target: str) -> Claim:
    runs, how = _war_at_the_widest(rows, target)
    effect = None
    if runs:
        widest, best = widths(rows)[-1], tuning.best_lambdas(rows)
        how = 'Not evaluated: no seed has all λ of the widest network.'
        if widest in best:
            effect = _difference(rows, runs, dict.fromkeys(runs, best[widest]))
            how = f'Not evaluated: no seed has both its WAR run and λ = {best[widest]:g} there.'
        if effect is not None:
            how = (
                f'Test robust accuracy of WAR minus that of λ = {best[widest]:g}, the best of the '
                f'sweep by validation, at width {widest:g}. {WHY_MARGIN}'
            )
    statement = (
        f'{TARGETS[target]} is as robust as the best λ of the sweep, within {MARGIN:g} points'
    )
    return claim(f'war_{target}_reaches_the_best', statement, effect, no_worse(MARGIN), POINTS, how)


def _beats_the_thin_lambda(rows: Sequence[Row], target: str) -> Claim:
    runs, how = _war_at_the_widest(rows, target)
    effect = None
    if runs:
        started = {seed: row['lambda'] for seed, row in runs.items()}
        effect = _difference(rows, runs, started)
        how = (
            'Test robust accuracy of WAR minus that of a constant λ equal to the thin network’s, '
            f'from which WAR started ({_listed(sorted(set(started.values())))}), at width '
            f'{widths(rows)[-1]:g}.'
            if effect is not None
            else 'Not evaluated: no seed has the thin network’s λ among the runs at the widest.'
        )
    statement = f'{TARGETS[target]} is more robust than the thin network’s λ'
    return claim(f'war_{target}_beats_the_thin_lambda', statement, effect, ABOVE, POINTS, how)


def _costs_less(study: Study) -> Claim:
    cost = tuning.tuning_cost(study.rows, study.num_devices)
    how = 'Not evaluated: fewer than two widths have finished runs of constant λ.'
    if len(widths(study.rows)) > 1:
        how = 'Not evaluated: no WAR run is finished.'
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


def _war_at_the_widest(rows: Sequence[Row], target: str) -> tuple[dict[int, Row], str]:
    """seed -> run; and why there is none, if so."""
    runs = war(rows, target, widths(rows)[-1]) if widths(rows) else {}
    return runs, '' if runs else 'Not evaluated: no WAR run of the widest network is finished.'


def _difference(
    rows: Sequence[Row], runs: Mapping[int, Row], lams: Mapping[int, float]
) -> Estimate | None:
    """Points of robust accuracy of WAR runs over those of constant lambda; lams: by seed."""
    widest = widths(rows)[-1]
    swept = {seed: fixed(rows).get((widest, lam, seed)) for seed, lam in lams.items()}
    return paired(
        {seed: 100.0 * row['robust_accuracy'] for seed, row in runs.items()},
        {seed: 100.0 * row['robust_accuracy'] for seed, row in swept.items() if row},
    )


def answer(study: Study, claims: Sequence[Claim]) -> str:
    """Three sentences, as Markdown: on width, on the best lambda, on WAR. Their numbers stand in
    the tables as well, with how they were obtained."""
    rows, by_name = study.rows, {claim.name: claim for claim in claims}
    if not widths(rows):
        return 'No run of constant λ is finished: there is nothing to say yet.'
    natural, stable, robust = (by_name[f'{key}_with_width'] for key in list(WITH_WIDTH)[:3])
    sentences = ['No seed has been run at every width yet, so nothing follows about width.']
    if natural.effect is not None and stable.effect is not None and robust.effect is not None:
        where = f' ({robust.where})' if robust.where else ''
        sentences = [
            f'With each doubling of the width, at equal λ, natural accuracy changes by '
            f'{_effect(natural)} points, perturbation stability by {_effect(stable)} and robust '
            f'accuracy by {_effect(robust)}: {_OUTCOME[robust.verdict]}{where}.'
        ]
    best = tuning.best_lambdas(rows)
    if best:
        listed = ', '.join(f'{lam:g} at k = {width:g}' for width, lam in best.items())
        grows = by_name['best_lambda_grows']
        known = grows.effect is not None
        power = f'; it goes with k to the power {_effect(grows)}' if known else ''
        sentences.append(f'The best λ of the grid on validation images is {listed}{power}.')
    adjusted = [text for target in study.targets for text in _war_sentence(rows, target)]
    if adjusted:
        sentences.append(f'At k = {widths(rows)[-1]:g}, {"; ".join(adjusted)}.')
    return ' '.join(sentences)


def _war_sentence(rows: Sequence[Row], target: str) -> Iterator[str]:
    widest, best = widths(rows)[-1], tuning.best_lambdas(rows)
    # Of the seeds that have both, so that neither has an advantage from its seeds.
    pairs = [
        (row, fixed(rows)[widest, best[widest], seed])
        for seed, row in war(rows, target, widest).items()
        if widest in best and (widest, best[widest], seed) in fixed(rows)
    ]
    if pairs:
        runs, swept = zip(*pairs, strict=True)
        start, end = (
            geometric_interval([row[key] for row in runs])[0] for key in ('lambda', 'final_lambda')
        )
        ours, theirs = (
            tables.percent(mean_interval([row['robust_accuracy'] for row in some])[0], 1)
            for some in (runs, swept)
        )
        yield (
            f'{TARGETS[target]} moves λ from {start:.3g} to {end:.3g} and reaches {ours} robust '
            f'accuracy, where the best λ of the sweep, {best[widest]:g}, reaches {theirs}'
        )


def _effect(claim: Claim) -> str:
    assert claim.effect is not None and claim.interval is not None
    if not math.isfinite(claim.interval[0]):
        return f'{decimal(claim.effect)} (one seed)'
    return f'{decimal(claim.effect)} ({decimal_interval(claim.interval)})'


def _listed(values: Sequence[float]) -> str:
    return ', '.join(f'{value:g}' for value in values)


def write_report(workdir: Path) -> Path:
    """Draws figures/*, writes rows.csv, verdicts.json, tables/ and report.md; returns its path.

    Raises ReportError, one line, if study.json or the files of a finished run are unreadable.
    """
    study = read_study(workdir)
    claims = evaluate(study)
    command = study.provenance['command'] or ''
    write_text(workdir / 'rows.csv', tables.csv_text(COLUMNS, study.rows))
    write_verdicts(workdir / 'verdicts.json', claims, study.provenance, command)
    drawn = pictures.draw(study, workdir / 'figures') if widths(study.rows) else []
    config = study.config
    objective = conditions.OBJECTIVES[config['objective']['name']]
    networks, data = tabulate.networks(study), config['data']['name']
    title = f'Width and λ: {objective} training of {networks} on {data}'
    sections = [
        Section('', [*_warnings(study), answer(study, claims)]),
        page.claims_section(claims, workdir / 'tables'),
        *page.picture_sections(drawn),
        *_tables(study, workdir / 'tables'),
        page.how_section(tabulate.conditions(study)),
    ]
    smoke = config.get('smoke', False)
    text = page.text(title, sections, study.missing, command, smoke)
    write_text(workdir / 'report.md', text)
    return workdir / 'report.md'


def _tables(study: Study, folder: Path) -> Iterator[Section]:
    """Also written to the folder, those too of which the page has nothing to show."""
    for name, (heading, note, table) in tabulate.all_tables(study, WITH_WIDTH).items():
        text = write_table(folder, name, *table)
        if table[1]:
            yield Section(heading, [text, note])


def _warnings(study: Study) -> Iterator[str]:
    if study.config['evaluation']['select_on'] == 'test':
        yield (
            '> **Warning.** Checkpoints and λ were selected on the test images and measured on '
            'them: every number below is optimistic.'
        )
    thinnest, lams = study.plan['widths'][0], study.plan['lams']
    for name, edge in (('lower', lams[0]), ('upper', lams[-1])):
        at = [width for width, lam in tuning.best_lambdas(study.rows).items() if lam == edge]
        if at and len(lams) > 1:  # else nothing was tuned
            started = f' WAR starts from that of width {thinnest:g}.'
            yield (
                f'> **Warning.** At width {_listed(at)} the best λ, {edge:g}, lies at the {name} '
                'edge of the grid: a better one may lie beyond it, and the grid should be extended '
                f'there.{started if thinnest in at and study.targets else ""}'
            )
