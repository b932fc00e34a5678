"""The report of a study: its claims and what they rest on, from its finished runs.

    write_report('runs/study')               # runs/study/report.md, study.csv, tables/, figures/

Reads study.json and runs/ in the folder of the study; nothing is measured anew. A study that is not
finished is reported as far as it is, with what is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from war_jax.lab import tables
from war_jax.lab.tables import as_markdown, write_table
from war_jax.lab.verdicts import write_verdicts
from war_jax.records.files import ReportError, read_file, read_json, require, write_text
from war_jax.report import conditions
from war_jax.studies.width import answer, claims, pictures, tabulate
from war_jax.studies.width.claims import Claim
from war_jax.studies.width.results import COLUMNS, FIXED, Row, collect, widths
from war_jax.studies.width.tuning import best_lambdas

# Behind the rule for all claims.
_EXCEPTIONS = (
    'Two kinds of claims are decided otherwise. That WAR is as robust as the best λ is a claim of '
    'no difference, which a wide interval must not support: it is supported if the lower end of '
    f'the interval is above −{claims.MARGIN:g} points, and contradicted if not so and the interval '
    'lies wholly below 0. What tuning costs is a ratio of medians of run times, without an '
    f'interval: the claim is supported if the ratio is above {claims.CLEAR_RATIO:g}, and '
    f'contradicted if it is below 1/{claims.CLEAR_RATIO:g}. '
)


@dataclass(frozen=True)
class Study:
    """What study.json and the runs hold, and what follows from it."""

    config: Mapping[str, Any]  # of every run, but for width, lambda, seed and reference
    plan: Mapping[str, Any]  # widths, lams, seeds, war
    provenance: Mapping[str, Any]
    rows: list[Row]
    claims: list[Claim]


def write_report(workdir: str | Path) -> Path:
    """Draws figures/*.png, writes study.csv, verdicts.json, tables/ and report.md; its path.

    Raises ReportError, one line, if study.json or the files of a finished run are unreadable.
    """
    workdir = Path(workdir)
    if not (workdir / 'study.json').is_file():
        raise ReportError(f'{workdir}: missing study.json; war_jax.studies.width writes it first')
    about = read_file(workdir / 'study.json', read_json)
    require(workdir / 'study.json', about, ('config', 'study', 'provenance'))
    rows, curves = collect(workdir / 'runs')
    rows = planned(rows, about['study'])
    targets = about['study']['war']
    found = claims.evaluate(rows, targets)
    study = Study(about['config'], about['study'], about['provenance'], rows, found)
    write_text(workdir / 'study.csv', tables.csv_text(COLUMNS, rows))
    command = study.provenance['command'] or ''
    write_verdicts(workdir / 'verdicts.json', found, study.provenance, command)
    drawn = pictures.draw(rows, curves, targets, workdir / 'figures') if widths(rows) else []
    write_text(workdir / 'report.md', page(study, drawn, workdir / 'tables'))
    return workdir / 'report.md'


def planned(rows: Sequence[Row], plan: Mapping[str, Any]) -> list[Row]:
    """The rows that belong to the study as it is planned now.

    A study may have been larger before; and its WAR runs hold to its thinnest network at the best
    lambda of that, which further widths, seeds or lambdas can change.
    """

    def kept(row: Row) -> bool:
        return row['widen_factor'] in plan['widths'] and row['seed'] in plan['seeds']

    swept = [r for r in rows if kept(r) and r['method'] == FIXED and r['lambda'] in plan['lams']]
    thin = plan['widths'][0]
    reference = (thin, best_lambdas(swept).get(thin))
    adjusted = [
        row
        for row in rows
        if kept(row)
        and row['method'] in plan['war']
        and (row['reference_width'], row['lambda']) == reference
    ]
    return [row for row in rows if row in swept or row in adjusted]


def page(study: Study, drawn: Sequence[pictures.Picture], folder: Path) -> str:
    """report.md as text; the tables in it are also written to `folder`."""
    config, rows, targets = study.config, study.rows, study.plan['war']
    absent = missing(study.plan, rows)
    objective = conditions.OBJECTIVES[config['objective']['name']]
    title = f'Width and λ: {objective} training of {networks(study)} on {config["data"]["name"]}'
    columns, verdicts = tabulate.verdicts(study.claims)
    write_table(folder, 'claims', columns, verdicts)
    shown = [column for column in columns if column.key not in ('name', 'how')]
    blocks = [
        f'# {tables.markdown_text(title)}',
        *_warnings(study, absent),
        answer.paragraph(rows, study.claims, targets),
        as_markdown(shown, verdicts),
        'Effects are computed seed by seed; the intervals are Student’s t over the seeds. A claim '
        'is *supported* if its interval lies wholly on the claimed side of no effect, '
        '*contradicted* if wholly on the other side, and *undecided* otherwise. '
        + (_EXCEPTIONS if targets else '')
        + 'How each was decided stands [below](#how-each-claim-was-decided).',
    ]
    for picture in drawn:
        blocks += [
            f'## {picture.title}',
            f'![{picture.title}](figures/{picture.file})',
            picture.caption,
        ]
    sections = {
        'accuracy': ('Accuracies by width and λ', tabulate.accuracy(rows)),
        'lipschitz': ('Local Lipschitzness and risks by width and λ', tabulate.lipschitz(rows)),
        'slopes': ('Change with width at each λ', tabulate.slopes(rows)),
        'optima': ('The best λ on validation images, by seed', tabulate.optima(rows)),
        'lambdas': ('λ for the widest network', tabulate.lambdas_at_the_widest(rows, targets)),
        'war': ('Width adjusted regularization', tabulate.adjusted(rows)),
        'costs': ('What tuning costs', tabulate.costs(rows)),
    }
    for name, (heading, table) in sections.items():
        text = write_table(folder, name, *table)
        if table[1]:
            blocks += [f'## {heading}', text, *_notes(name)]
    blocks += [
        '## How each claim was decided',
        ''.join(f'- *{claim.statement}.* {claim.how}\n' for claim in study.claims),
        '## How the numbers were obtained',
        conditions_table(study),
        '## What is missing',
        _listed(absent) if absent else 'Nothing: every run of the study is finished.',
        '## To run it again',
        *_command(study.provenance['command']),
        'The same again skips finished runs, goes on with interrupted ones, and draws this page '
        'again. `study.csv` holds one row per run, `tables/` every table above as CSV, Markdown '
        'and LaTeX, `runs/` a folder for each run.',
    ]
    return '\n\n'.join(block.rstrip('\n') for block in blocks) + '\n'


def networks(study: Study) -> str:
    """'WRN-10-k, k = 0.125 … 1'."""
    planned = study.plan['widths']
    span = f'{planned[0]:g}' + (f' … {planned[-1]:g}' if len(planned) > 1 else '')
    return f'WRN-{study.config["model"]["depth"]}-k, k = {span}'


def missing(plan: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """The planned runs that are not finished, one phrase per width and method."""
    finished = {(row['method'], row['widen_factor'], row['seed'], row['lambda']) for row in rows}
    # A WAR run starts at whatever lambda the thin network's sweep ends with.
    started = {key[:3] for key in finished}
    absent = []
    for width in plan['widths']:
        cells = [
            f'λ = {lam:g} seed {seed}'
            for seed in plan['seeds']
            for lam in plan['lams']
            if (FIXED, width, seed, lam) not in finished
        ]
        if cells:
            absent.append(f'width {width:g}, constant λ: {", ".join(cells)}')
    for width in plan['widths'][1:]:
        for target in plan['war']:
            seeds = [seed for seed in plan['seeds'] if (target, width, seed) not in started]
            if seeds:
                which = ', '.join(f'seed {seed}' for seed in seeds)
                absent.append(f'width {width:g}, {claims.TARGETS[target]}: {which}')
    return absent


def conditions_table(study: Study) -> str:
    """What the numbers of the page depend on, as a Markdown table."""
    config, about, plan, rows = study.config, study.provenance, study.plan, study.rows

    def several(values: Sequence[Any]) -> str:
        return ', '.join(f'{value:g}' for value in values)

    images = {row['num_examples'] for row in rows}
    seconds = sum(row['device_seconds'] for row in rows)
    cells = [
        ('Data', about['data']),
        ('SHA-256 of the data', about['checksum']),
        ('Test images', ' or '.join(f'{number:,}' for number in sorted(images))),
        ('Networks', f'{networks(study)}; k = {several(plan["widths"])}'),
        ('λ', several(plan['lams'])),
        ('Seeds', several(plan['seeds'])),
        ('Training', conditions.training(config, 'λ as the tables say')),
        ('Optimizer', conditions.optimizer(config)),
        (
            'Attack of validation and headline',
            conditions.headline_attack(config['evaluation'], config['threat']),
        ),
        (
            'Checkpoint',
            f'the best robust accuracy on {config["evaluation"]["select_on"]} images over the '
            'epochs; test images are measured once, with it',
        ),
        (
            'Best λ',
            'the highest robust accuracy of those checkpoints on validation images, as a mean '
            'over seeds; of equals, the smallest',
        ),
        (
            'Intervals',
            '95 %, Student’s t over seeds: they cover the draw of the seed (initial weights, '
            'order, augmentation and attack starts), not that of the images; ± is half of one. '
            'What differs by factors is averaged in logarithms. No interval is widened for the '
            'number of claims.',
        ),
        ('Commit', ', '.join(sorted({str(row['commit']) for row in rows}))),
        ('Devices of a run', ', '.join(sorted({row['device'] for row in rows}))),
        ('Versions, of the first process', conditions.versions(about)),
        ('Device time', f'{tables.duration(seconds)} in {len(rows)} runs'),
    ]
    if plan['war']:
        cells.insert(7, ('WAR', conditions.controller(config['war'])))
    return tables.markdown(('What', 'How'), cells, 'll')


def _command(text: str | None) -> list[str]:
    if text is None:
        return ['The study was started from Python.']
    # Indented: a code block that no character of the text can end.
    return ['\n'.join(f'    {line}' for line in text.splitlines())]


def _warnings(study: Study, absent: Sequence[str]) -> list[str]:
    found = []
    if absent:
        found.append(
            f'> **Not finished.** {len(study.rows)} runs are; [what is missing](#what-is-missing) '
            'may change every number below.'
        )
    if study.config['evaluation']['select_on'] == 'test':
        found.append(
            '> **Warning.** Checkpoints and λ were selected on the test images and measured on '
            'them: every number below is optimistic.'
        )
    return found + _edges(study)


def _edges(study: Study) -> list[str]:
    """Warnings of best lambdas at an edge of the grid, behind which better ones may lie."""
    plan, found = study.plan, []
    thinnest, lams = plan['widths'][0], plan['lams']
    if len(lams) < 2:
        return []  # nothing was tuned
    for name, edge in (('lower', lams[0]), ('upper', lams[-1])):
        at = [width for width, lam in best_lambdas(study.rows).items() if lam == edge]
        if at:
            text = (
                f'> **Warning.** At width {", ".join(f"{width:g}" for width in at)} the best λ, '
                f'{edge:g}, lies at the {name} edge of the grid: a better one may lie beyond it, '
                'and the grid should be extended there.'
            )
            started = f' WAR starts from that of width {thinnest:g}.'
            found.append(text + (started if thinnest in at and plan['war'] else ''))
    return found


def _notes(name: str) -> list[str]:
    return {
        'accuracy': ['Mean ± half of the 95 % interval over seeds, in percent of the test images.'],
        'lipschitz': ['Geometric mean over seeds and its 95 % interval.'],
        'slopes': ['The claims above, for each λ alone.'],
        'costs': [
            'Device time of a run: wall time times devices, for training, validation and test. The '
            'median is over all finished runs of the width, of constant λ and with WAR alike.'
        ],
        'optima': [
            'The peak is that of the parabola in log λ through the best λ of the grid and its two '
            'neighbours. At an edge of the grid the best λ may lie beyond it.'
        ],
    }.get(name, [])


def _listed(phrases: Sequence[str]) -> str:
    return ''.join(f'- {phrase}\n' for phrase in phrases)
