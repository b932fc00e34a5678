"""What a study found: claims and the page about them.

    claims, provenance = decide(Path('docs/studies/width_digits'))  # of study.json and rows.csv
    write_report(Path('runs/study'))    # report.md, rows.csv, verdicts.json, tables/, figures/

Nothing is measured here. A study that is not finished is reported as far as it is, with what is
missing. The claims: war_jax/studies/width/claims.py and war_claims.py.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from war_jax.lab import page, tables
from war_jax.lab.page import Section
from war_jax.lab.tables import decimal, decimal_interval, write_table
from war_jax.lab.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED, Claim, write_verdicts
from war_jax.measures.statistics import geometric_interval, mean_interval
from war_jax.records.files import write_text
from war_jax.records.pages import write_page
from war_jax.report.conditions import OBJECTIVES
from war_jax.studies.width import conditions, pictures, tabulate, tuning
from war_jax.studies.width.claims import (
    WITH_WIDTH,
    at_the_best,
    best_lambda_grows,
    listed,
    with_width,
)
from war_jax.studies.width.results import COLUMNS, Row, fixed, of_method, widths
from war_jax.studies.width.study import Study, read_study
from war_jax.studies.width.tasks import TITLES
from war_jax.studies.width.war_claims import war_claims

# Of the table of changes with width, beside what is claimed.
_ALSO = (
    'margin', 'robust_overfitting', 'natural_accuracy_train', 'perturbation_stability_train',
    'natural_accuracy_matched', 'robust_accuracy_matched', 'perturbation_stability_matched',
)  # fmt: skip
_OUTCOME = {
    SUPPORTED: 'the wider network is the **less** robust one',
    CONTRADICTED: 'the wider network is the **more** robust one',
    UNDECIDED: 'neither the wider nor the thinner network is shown to be the more robust one',
}


_ASKED = (
    'Does a wider network help against adversarial examples at equal λ, does the best λ grow with '
    'width, and does width adjusted regularization find it? (Wu et al. 2021)'
)


def decide(folder: Path) -> tuple[list[Claim], Mapping[str, Any]]:
    """The claims, decided anew from a workdir or from study.json and rows.csv alone, and the
    provenance, with commit, data and command.

    Raises ReportError, one line, for files that cannot be read.
    """
    study = read_study(folder)
    return evaluate(study), study.provenance


def evaluate(study: Study) -> list[Claim]:
    """All claims, in the order of the argument."""
    claims = [with_width(study, key) for key in WITH_WIDTH]
    return [*claims, best_lambda_grows(study.rows), *at_the_best(study), *war_claims(study)]


def answer(study: Study, claims: Sequence[Claim]) -> str:
    """Four sentences, as Markdown: on width, the best lambda, WAR's premise and its variants. Their
    numbers stand in the tables as well, with how they were obtained."""
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
        named = ', '.join(f'{lam:g} at k = {width:g}' for width, lam in best.items())
        grows = by_name['best_lambda_grows']
        known = grows.effect is not None
        power = f'; it goes with k to the power {_effect(grows)}' if known else ''
        sentences.append(f'The best λ of the grid on validation images is {named}{power}.')
    at_best = by_name['best_lambda_robust_accuracy']
    if at_best.effect is not None:
        attacked = by_name.get('best_lambda_autoattack_accuracy')
        under = ''
        if attacked is not None and attacked.effect is not None:
            under = f', and under AutoAttack by {_effect(attacked)}'
        sentences.append(
            'Each at its best λ, robust accuracy changes with each doubling of the width by '
            f'{_effect(at_best)} points{under}.'
        )
    if 'war_premise' in by_name and (premise := tuning.fit_premise(rows)) is not None:
        named = ', '.join(
            f'{ratio[0]:.3g} at k = {width:g}'
            for width, ratio in zip(premise.widths, premise.ratios, strict=True)
        )
        claim = by_name['war_premise']
        sentences.append(
            f'The risk ratio at the best λ, which WAR takes for constant, is {named}; it goes with '
            f'k to the power {_effect(claim)}, and that premise is {claim.verdict}.'
        )
    adjusted = [text for method in study.methods for text in _war_sentence(rows, method)]
    if adjusted:
        sentences.append(f'At k = {widths(rows)[-1]:g}, {"; ".join(adjusted)}.')
    return ' '.join(sentences)


def _war_sentence(rows: Sequence[Row], method: str) -> Iterator[str]:
    widest, best = widths(rows)[-1], tuning.best_lambdas(rows)
    # Of the seeds that have both, so that neither has an advantage from its seeds.
    pairs = [
        (row, fixed(rows)[widest, best[widest], seed])
        for seed, row in of_method(rows, method, widest).items()
        if widest in best and (widest, best[widest], seed) in fixed(rows)
    ]
    if pairs:
        runs, swept = zip(*pairs, strict=True)
        ends = [row['final_lambda'] for row in runs if row['final_lambda'] > 0]
        end = f'{geometric_interval(ends)[0]:.3g}' if ends else '0'
        ours, theirs = (
            tables.percent(mean_interval([row['robust_accuracy'] for row in some])[0], 1)
            for some in (runs, swept)
        )
        yield (
            f'{TITLES[method]} ends with λ = {end} and reaches {ours} robust accuracy, where the '
            f'best λ of the sweep, {best[widest]:g}, reaches {theirs}'
        )


def _effect(claim: Claim) -> str:
    assert claim.effect is not None and claim.interval is not None
    if not math.isfinite(claim.interval[0]):
        return f'{decimal(claim.effect)} (one seed)'
    return f'{decimal(claim.effect)} ({decimal_interval(claim.interval)})'


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
    objective = OBJECTIVES[config['objective']['name']]
    networks, data = conditions.networks(study), config['data']['name']
    title = f'Width and λ: {objective} training of {networks} on {data}'
    sections = [
        Section('', list(_warnings(study))),
        page.opening(_ASKED, answer(study, claims), claims),
        page.claims_section(claims, workdir / 'tables'),
        *page.picture_sections(drawn),
        *_tables(study, workdir / 'tables'),
        page.how_section(conditions.conditions(study)),
    ]
    smoke = config.get('smoke', False)
    text = page.text(title, sections, study.missing, command, smoke)
    write_page(workdir / 'report.md', text)
    return workdir / 'report.md'


def _tables(study: Study, folder: Path) -> Iterator[Section]:
    """Also written to the folder, those too of which the page has nothing to show."""
    for name, (heading, note, table) in tabulate.all_tables(study, (*WITH_WIDTH, *_ALSO)).items():
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
                f'> **Warning.** At width {listed(at)} the best λ, {edge:g}, lies at the {name} '
                'edge of the grid: a better one may lie beyond it, and the grid should be extended '
                f'there.{started if thinnest in at and study.methods else ""}'
            )
