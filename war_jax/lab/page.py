"""The page of an experiment: report.md from sections, and what all such pages say alike.

    sections = [Section('', [answer]), claims_section(claims, folder), Section('Losses', [table])]
    write_text(workdir / 'report.md', text('Capacity', sections, missing=[], command='python ...'))
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from war_jax.lab import tables
from war_jax.lab.tables import Column, small, small_interval, write_table
from war_jax.lab.verdicts import MIN_SEEDS, WORDS, Claim, counts
from war_jax.records.console import SMOKE_SENTENCE

RULES = (
    'A claim is *supported* if its whole 95 % interval lies in the claimed range, *contradicted* '
    f'if it lies wholly outside, and *undecided* otherwise and with fewer than {MIN_SEEDS} seeds. '
    'Effects are computed seed by seed and intervals are Student’s t over seeds; ranks have none '
    'and are decided by a test. Nothing is corrected for the number of claims here. Each claim’s '
    'own rule, and what it was computed from, stand in the table.'
)


class Section(NamedTuple):
    """heading: without one, the blocks stand on top of the page, or follow the section before."""

    heading: str
    blocks: Sequence[str]  # of Markdown
    level: int = 2


class Picture(NamedTuple):
    file: str  # in figures/
    title: str
    caption: str


def text(
    title: str,
    sections: Sequence[Section],
    missing: Sequence[str],
    command: str,
    smoke: bool = False,
) -> str:
    """report.md. missing: names of what is not there yet; smoke: numbers that mean nothing."""
    blocks = [f'# {tables.markdown_text(title)}']
    if smoke:
        blocks.append(f'> **Warning.** {SMOKE_SENTENCE}')
    if missing:
        blocks.append(
            f'> **Not finished.** {len(missing)} of its parts are missing, see '
            '[below](#what-is-missing); they may change every number.'
        )
    for section in sections:
        if section.heading:
            blocks.append(f'{"#" * section.level} {section.heading}')
        blocks += section.blocks
    listed = ''.join(f'- {name}\n' for name in missing)
    blocks += [
        '## What is missing',
        listed or 'Nothing.',
        '## To run it again',
        again(command),
        'The same again makes what is missing and draws this page again. `rows.csv` has every '
        'number that was measured, `verdicts.json` the claims, `tables/` the tables as CSV, '
        'Markdown and LaTeX.',
    ]
    return join(blocks)


def join(blocks: Sequence[str]) -> str:
    return '\n\n'.join(block.rstrip('\n') for block in blocks if block) + '\n'


def again(command: str | None) -> str:
    """A command as an indented block of code, which no character of it can end."""
    if not command:
        return 'It was started from Python.'
    return '\n'.join(f'    {line}' for line in command.splitlines())


def opening(asked: str, found: str, claims: Sequence[Claim]) -> Section:
    """The first three lines of a page: what was asked, what came out, and how sure that is."""
    seeds = sorted({claim.num_seeds for claim in claims if claim.num_seeds})
    span = ' to '.join(str(number) for number in dict.fromkeys((*seeds[:1], *seeds[-1:])))
    behind = f'Behind each are {span} seeds.' if seeds else 'No seed is whole yet.'
    sure = f'{counts(claims)} {behind}'
    return Section('', [f'- **Asked.** {asked}\n- **Found.** {found}\n- **How sure.** {sure}'])


def claims_section(claims: Sequence[Claim], folder: Path, name: str = 'claims') -> Section:
    """The table of claims, also written to `folder`, and the rules."""
    return Section('', [write_table(folder, name, *claims_table(claims)), RULES])


def claims_table(claims: Sequence[Claim]) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('verdict', 'Verdict', align='l'),
        Column('statement', 'Claim', align='l'),
        Column('effect', 'Effect', small),
        Column('interval', '95 % interval', small_interval),
        Column('unit', 'Unit', align='l'),
        Column('num_seeds', 'Seeds'),
        Column('rule', 'Rule, and how it was computed', align='l'),
    ]
    rows = []
    for claim in claims:
        where = f' ({claim.where})' if claim.where else ''
        rule = ' '.join(filter(None, (claim.rule, claim.how)))
        row = {**vars(claim), 'verdict': f'{claim.verdict}{where}', 'rule': rule}
        rows.append({**row, 'num_seeds': claim.num_seeds or None})
    return columns, rows


def picture_sections(pictures: Sequence[Picture], level: int = 2) -> list[Section]:
    return [
        Section(
            picture.title,
            [f'![{picture.title}](figures/{picture.file})', picture.caption],
            level,
        )
        for picture in pictures
    ]


def how_section(cells: Sequence[tuple[str, object]]) -> Section:
    """What the numbers of the page depend on: (what, how)."""
    return Section(
        'How the numbers were obtained', [tables.markdown(('What', 'How'), cells, 'll')]
    )


def provenance_cells(provenance: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Commit, device and versions, for the end of `how_section`."""
    named = {'Python': provenance['python'], **provenance['versions']}
    versions = ', '.join(f'{name} {version}' for name, version in named.items())
    return [
        ('Commit', provenance['commit']),
        ('Device', f'{provenance["num_devices"]} × {provenance["device"]}'),
        ('Versions', versions),
    ]


def verdict_counts(claims: Sequence[Claim]) -> str:
    """'3 supported, 1 contradicted, 3 undecided'."""
    words = [claim.verdict for claim in claims]
    return ', '.join(f'{words.count(word)} {word}' for word in WORDS)
