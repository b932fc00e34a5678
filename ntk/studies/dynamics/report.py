"""The page on the probes of a run or of a study: what moved, and how it depends on the width.

    write_report(workdir, found, settings, rows, command)      # workdir/report.md

Also writes ntk_run.csv (a row per probe), tables/*.csv, *.md, *.tex and figures/*.png. Nothing is
measured here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ntk.studies.dynamics import figures, findings, tabulate
from ntk.studies.dynamics.findings import COLUMNS, END, QUANTITIES, START, Change, Row
from ntk.studies.dynamics.runs import HOW_TO, Found
from ntk.studies.dynamics.settings import Settings
from war_jax.lab import tables
from war_jax.lab.tables import decimal, write_table
from war_jax.records.files import write_text
from war_jax.studies.width.pictures import Picture
from war_jax.studies.width.results import widths

WIDTH_PANELS = (
    'kernel_drift', 'label_alignment', 'kernel_trace', 'weight_movement',
    'output_gradient_train', 'output_gradient_test', 'loss_gradient_train', 'loss_gradient_test',
    'local_lipschitz_train', 'local_lipschitz_test',
    'local_lipschitz_kl_gradient_train', 'local_lipschitz_kl_gradient_test',
)  # fmt: skip
EPOCH_PANELS = (
    'kernel_drift', 'label_alignment', 'output_gradient_test', 'local_lipschitz_test',
)  # fmt: skip
# In sentences.
_NAMES = {
    'kernel_drift': 'kernel drift',
    'output_gradient_train': 'the input gradient on training images',
    'output_gradient_test': 'the input gradient on test images',
    'local_lipschitz_train': 'local Lipschitzness (output ratio) on training images',
    'local_lipschitz_test': 'local Lipschitzness (output ratio) on test images',
    'spectral_product': 'the product of spectral norms',
}


@dataclass(frozen=True)
class Page:
    """Everything that the page is about."""

    found: Found
    settings: Settings
    rows: Sequence[Row]
    changes: Sequence[Change]  # of a study
    command: str


def write_report(
    workdir: Path, found: Found, settings: Settings, rows: Sequence[Row], command: str
) -> Path:
    """rows: of all probes of the runs that were found, with the keys of COLUMNS."""
    page = Page(found, settings, rows, findings.changes(rows) if found.is_study else (), command)
    write_text(workdir / 'ntk_run.csv', tables.csv_text(COLUMNS, rows))
    drawn = draw(rows, found.is_study, workdir / 'figures')
    write_text(workdir / 'report.md', text(page, drawn, workdir / 'tables'))
    return workdir / 'report.md'


def draw(rows: Sequence[Row], is_study: bool, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the report."""
    if not is_study:
        figures.along_run(folder / 'curves.png', rows)
        caption = 'Solid: test images, dashed: training images, where both are shown.'
        return [Picture('curves.png', 'Along the run', caption)]
    pictures = []
    if widths(findings.trained(rows)):
        panels = {
            key: (findings.by_width(rows, key), findings.at_start(rows, key))
            for key in WIDTH_PANELS
        }
        figures.against_width(folder / 'width.png', panels)
        caption = (
            'Solid: after training, at constant λ; dotted: before it. Means over seeds, bars: 95 % '
            'intervals (Student’s t). Training and test images share the scale.'
        )
        pictures.append(Picture('width.png', 'Against width', caption))
    if all_widths := widths(rows):
        curves = {
            width: {key: findings.by_epoch(rows, width, key) for key in EPOCH_PANELS}
            for width in dict.fromkeys((all_widths[0], all_widths[-1]))
        }
        figures.against_epoch(folder / 'epochs.png', curves)
        title = 'Over training, at the thinnest and the widest network'
        caption = 'Constant λ. Means over seeds; bands reach from the lowest to the highest.'
        pictures.append(Picture('epochs.png', title, caption))
    return pictures


def text(page: Page, drawn: Sequence[Picture], folder: Path) -> str:
    """report.md; the tables in it are also written to `folder`."""
    found, rows = page.found, page.rows
    unfinished = _unfinished(rows)
    blocks = [f'# {tables.markdown_text(_title(found))}']
    if found.missing or unfinished:
        incomplete = '[what is missing](#what-is-missing) may change the numbers below.'
        blocks.append(f'> **Not complete.** {incomplete}')
    if found.is_study:
        table = write_table(folder, 'exponents', *tabulate.exponents(page.changes))
        write_table(folder, 'changes', *tabulate.changes_table(page.changes))
        blocks += [
            answer(page.changes),
            '## Change with width',
            table if page.changes else 'No quantity has been measured at every width, of several.',
            'Exponents p of ~ k^p, from the least-squares line through the logarithms; of cosines '
            'and rates (+) the change per doubling of the width instead. Computed seed by seed; in '
            'brackets the 95 % interval over seeds (Student’s t).',
        ]
    else:
        blocks.append(answer_of_run(rows))
    for picture in drawn:
        link = f'![{picture.title}](figures/{picture.file})'
        blocks += [f'## {picture.title}', link, picture.caption]
    for name, (heading, keys) in tabulate.TABLES.items():
        table = tabulate.by_cell(rows, keys) if found.is_study else tabulate.by_step(rows, keys)
        blocks += [f'## {heading}', write_table(folder, name, *table)]
    absent = [f'{name}: {why}; {HOW_TO}' for name, why in found.missing.items()]
    absent += unfinished
    blocks += [
        '## What each quantity is',
        meanings(),
        '## How the numbers were obtained',
        tabulate.conditions_table(found, page.settings, rows),
        '## What is missing',
        ''.join(f'- {line}\n' for line in absent) or 'Nothing: every run has all its probes.',
        '## To run it again',
        # Indented: a code block that no character of the text can end.
        '\n'.join(f'    {line}' for line in page.command.splitlines()),
        'The same again measures what is not measured yet, and draws this page again. '
        '`ntk_run.csv` holds one row per probe, `measured.jsonl` also those of other settings, '
        '`tables/` every table above as CSV, Markdown and LaTeX.',
    ]
    return '\n\n'.join(block.rstrip('\n') for block in blocks) + '\n'


def answer(changes: Sequence[Change]) -> str:
    """What grows and what falls with width, in a few sentences."""
    # Of a quantity, the mean over lambda comes behind the single ones, and alone there is none.
    chosen = {(change.quantity, change.when): change for change in changes}

    def sentence(when: str, opening: str, *keys: str) -> str:
        found = [chosen[key, when] for key in keys if (key, when) in chosen]
        return f'{opening}: {_grouped(found)}.' if found else ''

    lams = next((c.lams for c in reversed(changes) if c.when == END), ())
    listed = ', '.join(f'{lam:g}' for lam in lams)
    where = f'the mean over λ = {listed}' if len(lams) > 1 else f'λ = {listed}'
    sentences = [
        sentence(
            END, f'After training, at equal λ ({where})', 'kernel_drift', 'output_gradient_train',
            'output_gradient_test', 'local_lipschitz_train', 'local_lipschitz_test',
        )
        or 'Of trained networks nothing follows: no seed has all widths, or there is one width.',
        sentence(
            START, START.capitalize(), 'output_gradient_test', 'local_lipschitz_test',
            'spectral_product',
        ),
    ]  # fmt: skip
    return ' '.join(filter(None, sentences))


def answer_of_run(rows: Sequence[Row]) -> str:
    """What moved from the first probe to the last, in a few sentences."""
    first, last = rows[0], rows[-1]

    def change(key: str) -> str:
        return f'from {tables.number(first[key], 3)} to {tables.number(last[key], 3)}'

    return (
        f'In {last["step"]} steps the kernel moved by {tables.number(last["kernel_drift"], 3)} '
        f'times its norm while the weights moved by {tables.number(last["weight_movement"], 3)} '
        f'times theirs, and the kernel’s alignment with the labels went '
        f'{change("label_alignment")}. The input gradient went {change("output_gradient_train")} '
        f'on training images and {change("output_gradient_test")} on test images; local '
        f'Lipschitzness (output ratio) {change("local_lipschitz_train")} and '
        f'{change("local_lipschitz_test")}.'
    )


def meanings() -> str:
    """A list of what the quantities are; once for training and test images."""
    found = {}
    for quantity in QUANTITIES.values():
        found.setdefault(quantity.meaning, quantity.title.removesuffix(', train'))
    return ''.join(f'- *{title}*: {meaning}.\n' for meaning, title in found.items())


def _grouped(changes: Sequence[Change]) -> str:
    """'what **falls** with width: kernel drift (k^−0.31, −0.40 to −0.22); what **grows** ...'."""
    falls, grows = 'what **falls** with width', 'what **grows** with width'
    neither, single = 'not shown to grow or to fall', 'from one seed, without an interval'
    groups: dict[str, list[str]] = {said: [] for said in (falls, grows, neither, single)}
    for change in changes:
        mean, lower, upper = change.effect
        has_interval = math.isfinite(upper)
        said = grows if lower > 0 else falls if upper < 0 else neither if has_interval else single
        interval = f', {decimal(lower)} to {decimal(upper)}' if has_interval else ''
        groups[said].append(f'{_NAMES[change.quantity]} (k^{decimal(mean)}{interval})')
    return '; '.join(f'{said}: {", ".join(names)}' for said, names in groups.items() if names)


def _title(found: Found) -> str:
    run, widest = found.runs[0], found.runs[-1].config.model.widen_factor
    depth, width = run.config.model.depth, run.config.model.widen_factor
    network = f'{run.name} (WRN-{depth}-{width:g})'
    if found.is_study:
        span = ' … '.join(dict.fromkeys((f'{width:g}', f'{widest:g}')))
        count = f'{len(found.runs)} run{"s" * (len(found.runs) != 1)}'
        network = f'{count} of WRN-{depth}-k, k = {span},'
    return f'Kernel, input gradients and Lipschitzness along {network} on {run.config.data.name}'


def _unfinished(rows: Sequence[Row]) -> list[str]:
    last = {row['run']: row for row in rows}
    return [
        f'{name}: its probes end at step {row["step"]} of {row["last_step"]}; let it finish'
        for name, row in last.items()
        if row['step'] < row['last_step']
    ]
