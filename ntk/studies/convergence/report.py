"""The report of a study of convergence, from the rows of its trainings.

    write_report(Path('runs/convergence'))   # report.md, verdicts.json, rows.csv, tables/, figures/

Nothing is measured anew; a study that is not finished is reported as far as it is.
"""

from pathlib import Path
from typing import Any

from ntk.studies.claims import claims_table, fitted, mean_fit, power_law, three
from ntk.studies.convergence import pictures
from ntk.studies.convergence.claims import (
    LINEARISATION,
    NAMES,
    TOLERANCE,
    Study,
    evaluate,
    read_study,
)
from war_jax.lab import tables
from war_jax.lab.tables import Column, write_table
from war_jax.lab.verdicts import write_verdicts
from war_jax.records.files import write_text
from war_jax.report import conditions
from war_jax.studies.width.claims import CONTRADICTED, SUPPORTED, UNDECIDED, Claim

COLUMNS = (
    'design', 'width', 'radius', 'epsilon', 'attack', 'seed', 'attacked_loss', 'robust_loss',
    'robust_error', 'least', 'best', 'gap', 'movement', 'row_movement', 'linearisation_error',
)  # fmt: skip


def write_report(workdir: Path) -> Path:
    """Returns the path of report.md. Raises ReportError, one line, for unreadable files."""
    study = read_study(workdir)
    rows = [
        {**vars(cell), **{key: study.value(cell, key) for key in COLUMNS[6:]}}
        for cell in study.rows
    ]
    write_text(workdir / 'rows.csv', tables.csv_text(COLUMNS, rows))
    claims = evaluate(study)
    write_verdicts(
        workdir / 'verdicts.json', claims, study.provenance, study.provenance['command']
    )
    drawn = pictures.draw(study, workdir / 'figures') if study.rows else []
    write_text(workdir / 'report.md', page(study, claims, drawn, workdir / 'tables'))
    return workdir / 'report.md'


def page(study: Study, claims: list[Claim], drawn: list[pictures.Picture], folder: Path) -> str:
    """report.md as text; its tables are also written to `folder`."""
    blocks = ['# Convergence of adversarial training near its start (Gao et al. 2019)']
    if study.missing:
        blocks.append(f'> **Not finished.** {len(study.missing)} pieces are missing.')
    blocks += [
        answer(claims),
        write_table(folder, 'claims', *claims_table(claims)),
        'A claim is *supported* if the whole interval lies in the claimed range, *contradicted* if '
        'the whole interval lies outside, and *undecided* otherwise. Exponents are slopes of '
        'log(quantity), averaged over seeds, with a bootstrap interval; means have Student’s '
        'interval. No interval is widened for the number of claims.',
    ]
    for picture in drawn:
        blocks += [
            f'## {picture.title}', f'![{picture.title}](figures/{picture.file})', picture.caption,
        ]  # fmt: skip
    blocks += [
        '## Losses at the widest network',
        write_table(folder, 'losses', *losses_table(study)),
        'Mean over seeds and its 95 % interval. `best` is the certified lower bound of the best '
        'robust loss of the linearised network in the ball; at the start the loss is log 2.',
        '## Exponents',
        write_table(folder, 'exponents', *exponents_table(study)),
        'Against m in each ball; against R at the widest network; against ε at the base network '
        f'({describe_base(study)}); against the number of steps at the widest, for min L_A − best '
        'as long as it exceeds the tolerance to which the best is known.',
        '## How the numbers were obtained',
        how(study),
        '## To run it again',
        f'    {study.provenance["command"]}',
        'The same again makes what is missing and draws this page again. `rows.csv` has a row per '
        'training, `verdicts.json` the claims, `tables/` the tables as CSV, Markdown and LaTeX.',
    ]
    return '\n\n'.join(block.rstrip('\n') for block in blocks) + '\n'


def answer(claims: list[Claim]) -> str:
    """A paragraph: how many of which claims hold."""
    sentences = []
    for kind, text in (
        ('converges', f'that training comes within {TOLERANCE:g} of the best in the ball'),
        ('attack', 'that it does so with any attack'),
        ('movement', 'that movement does not depend on width'),
        ('linearisation', f'that the linearisation error falls as m^{LINEARISATION[0]:g} to '
                          f'm^{LINEARISATION[1]:g}'.replace('-', '−')),
    ):  # fmt: skip
        found = [claim.verdict for claim in claims if claim.name.split('-')[0] == kind]
        counts = ', '.join(
            f'{found.count(verdict)} {verdict}' for verdict in (SUPPORTED, CONTRADICTED, UNDECIDED)
        )
        sentences.append(f'Of {len(found)} claims {text}: {counts}.')
    return ' '.join(sentences)


def losses_table(study: Study) -> tuple[list[Column], list[dict[str, Any]]]:
    keys = {'least': 'min L_A', 'best': 'Best in the ball', 'gap': 'Gap',
            'robust_loss': 'L_* at the end', 'movement': '‖U‖',
            'linearisation_error': 'Linearisation error'}  # fmt: skip
    columns = [
        Column('design', 'Design', align='l'),
        Column('m', 'm'),
        Column('ball', 'R', align='l'),
        *(Column(key, title, fitted) for key, title in keys.items()),
    ]
    rows = []
    for design in study.settings.grid.designs:
        width = study.settings.widths(design)[-1]
        for radius in study.settings.grid.radii:
            row = {'design': NAMES[design], 'm': width, 'ball': f'{radius:g}' if radius else 'none'}
            for key in keys:
                values = study.samples(design, key, radius=radius).get(width, [])
                row[key] = three(mean_fit(values))
            rows.append({**row, **({} if radius else {'best': None})})
    return columns, rows


def exponents_table(study: Study) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('design', 'Design', align='l'),
        Column('quantity', 'Quantity', align='l'),
        Column('against', 'Against', align='l'),
        Column('where', 'Where', align='l'),
        Column('power', 'Power (95 % interval)', fitted),
    ]
    rows: list[dict[str, Any]] = []

    def add(design: str, quantity: str, against: str, where: str, samples: Any) -> None:
        fit = power_law(samples)
        if fit is not None:
            rows.append({
                'design': NAMES[design], 'quantity': quantity, 'against': against, 'where': where,
                'power': three(fit),
            })  # fmt: skip

    base, grid = study.settings.base, study.settings.grid
    for design in grid.designs:
        for radius in grid.radii:
            ball = f'R = {radius:g}' if radius else 'no projection'
            for key in ('least', 'movement', 'row_movement', 'linearisation_error'):
                add(design, key, 'm', ball, study.samples(design, key, radius=radius))
        m = study.settings.widths(design)[-1]
        for key in ('best', 'least', 'movement', 'linearisation_error'):
            by_radius = study.samples(design, key, over='radius', width=m)
            by_radius.pop(0.0, None)
            add(design, key, 'R', f'm = {m}', by_radius)
        for radius in grid.radii:
            ball = f'R = {radius:g}' if radius else 'no projection'
            over_time = study.gaps_over_time(design, radius)
            add(design, 'gap', 'steps', f'm = {m}, {ball}', over_time)
    for key in ('best', 'least', 'movement', 'linearisation_error'):
        by_cap = study.samples(base.design, key, over='epsilon', width=base.width)
        add(base.design, key, 'ε', f'm = {base.width}, R = {base.radius:g}', by_cap)
    return columns, rows


def describe_base(study: Study) -> str:
    base = study.settings.base
    return f'{NAMES[base.design]}, m = {base.width}, R = {base.radius:g}, A = {base.attack}'


def how(study: Study) -> str:
    """What the numbers depend on, as a Markdown table."""
    settings, about = study.settings, study.provenance
    training, strong = settings.training, settings.strong
    cells = [
        ('Data', about['data']),
        ('Seeds', ', '.join(map(str, settings.grid.seeds))),
        ('Base', f'{describe_base(study)}, ε = {settings.base.epsilon:g}'),
        ('Start', 'Two halves of equal weights, subtracted: f is 0'),
        ('Deep', f'{training.deep_layers} trained layers between fixed ones'),
        (
            'Training',
            f'{training.num_steps} steps of full-batch gradient descent on the logistic loss, '
            f'learning rate {training.learning_rate:g} (deep: {training.deep_learning_rate:g}) in '
            'units of U',
        ),
        (
            'L_*, and the linearised optimum’s cuts',
            f'PGD-{strong.num_steps} from x and {strong.restarts} random starts',
        ),
        (
            'Best in the ball',
            f'cutting planes, dual by L-BFGS-B; bounds within {strong.tolerance:g} or 12 rounds',
        ),
        ('Precision', 'float32; the convex problem in float64'),
        ('Commit', about['commit']),
        ('Device', f'{about["num_devices"]} × {about["device"]}'),
        ('Versions', conditions.versions(about)),
    ]
    return tables.markdown(('What', 'How'), cells, 'll')
