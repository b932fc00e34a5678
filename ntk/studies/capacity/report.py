"""The report of a study of capacity, from the rows of its searches.

    write_report(Path('runs/capacity'))      # report.md, verdicts.json, rows.csv, tables/, figures/

Nothing is measured anew; a study that is not finished is reported as far as it is.
"""

from pathlib import Path
from typing import Any

from ntk.studies.capacity import pictures
from ntk.studies.capacity.claims import Study, evaluate, read_study
from ntk.studies.claims import claims_table, fitted, power_law, three
from war_jax.lab import tables
from war_jax.lab.tables import Column, factor_mean, write_table
from war_jax.lab.verdicts import write_verdicts
from war_jax.measures.statistics import geometric_interval
from war_jax.records.files import write_text
from war_jax.report import conditions
from war_jax.studies.width.claims import Claim

COLUMNS = (
    'num_pairs', 'dimension', 'radius', 'seed', 'smallest_width', 'tried_widths', 'standing',
    'norm_lower', 'norm_upper', 'rounds',
)  # fmt: skip


def write_report(workdir: Path) -> Path:
    """Returns the path of report.md. Raises ReportError, one line, for unreadable files."""
    study = read_study(workdir)
    rows = []
    for cell in study.settings.cells:
        row = {**vars(cell), **study.widths.get(cell, {}), **study.norms.get(cell, {})}
        rows.append({column: row.get(column) for column in COLUMNS})
    write_text(workdir / 'rows.csv', tables.csv_text(COLUMNS, rows))
    claims = evaluate(study)
    write_verdicts(
        workdir / 'verdicts.json', claims, study.provenance, study.provenance['command']
    )
    drawn = pictures.draw(study, workdir / 'figures')
    write_text(workdir / 'report.md', page(study, claims, drawn, workdir / 'tables'))
    return workdir / 'report.md'


def page(study: Study, claims: list[Claim], drawn: list[pictures.Picture], folder: Path) -> str:
    """report.md as text; its tables are also written to `folder`."""
    blocks = ['# Capacity that robust interpolation needs (Gao et al. 2019)']
    if study.missing:
        blocks.append(f'> **Not finished.** {len(study.missing)} pieces are missing.')
    not_found = [cell.name for cell, row in study.widths.items() if row['smallest_width'] is None]
    if not_found:
        blocks.append(
            f'> **Warning.** No width up to {study.settings.search.widest} interpolates '
            f'{", ".join(not_found)}: nothing is fitted there.'
        )
    blocks += [
        answer(study, claims),
        write_table(folder, 'claims', *claims_table(claims)),
        'A claim is *supported* if the whole interval lies in the claimed range, *contradicted* if '
        'the whole interval lies outside, and *undecided* otherwise. Powers are slopes of '
        'log(quantity), averaged over seeds, with a bootstrap interval; no interval is widened for '
        'the number of claims. A width that was found is an upper bound of the smallest there is: '
        'a thinner network may exist that training does not find. So what is compared is what '
        'training by one procedure needs, not the proven capacity.',
    ]
    for picture in drawn:
        blocks += [
            f'## {picture.title}', f'![{picture.title}](figures/{picture.file})', picture.caption,
        ]  # fmt: skip
    blocks += [
        '## Smallest widths and norms',
        write_table(folder, 'values', *values_table(study)),
        'Geometric mean over seeds and its 95 % interval (Student’s t).',
        '## Powers',
        write_table(folder, 'powers', *powers_table(study)),
        '## How the numbers were obtained',
        how(study),
        '## To run it again',
        f'    {study.provenance["command"]}',
        'The same again makes what is missing and draws this page again. `rows.csv` has a row per '
        'set of pairs and radius with every width tried, `verdicts.json` the claims, `tables/` the '
        'tables as CSV, Markdown and LaTeX.',
    ]
    return '\n\n'.join(block.rstrip('\n') for block in blocks) + '\n'


def answer(study: Study, claims: list[Claim]) -> str:
    """A paragraph: does robust interpolation need more width, and more so in higher dimension."""
    first = claims[0]
    ratios = study.samples('width_ratio', 'dimension')
    if first.effect is None or not ratios:
        return 'Not enough is finished to compare robust with plain interpolation.'
    listed = ', '.join(
        f'{geometric_interval(values)[0]:.3g} at d = {d}' for d, values in ratios.items()
    )
    return (
        f'Robust interpolation (ρ = {study.settings.base.radius:g}) needs more width than plain '
        f'interpolation of the same points by a factor of {listed}. That this ratio grows with the '
        f'dimension is {first.verdict}.'
    )


def values_table(study: Study) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('n', 'Pairs n'),
        Column('d', 'd'),
        Column('radius', 'ρ', '{:g}'.format),
        Column('width', 'm*', factor_mean),
        Column('ratio', 'm* / plain m*', factor_mean),
        Column('norm', 'RKHS norm', factor_mean),
    ]
    rows = []
    for n, d, rho in dict.fromkeys(
        (cell.num_pairs, cell.dimension, cell.radius) for cell in study.settings.cells
    ):
        row: dict[str, Any] = {'n': n, 'd': d, 'radius': rho}
        for name, key in (('width', 'width'), ('ratio', 'width_ratio'), ('norm', 'norm')):
            values = study.samples(key, 'radius', num_pairs=n, dimension=d, radius=rho)
            row[name] = geometric_interval(values[rho]) if values.get(rho) else None
        rows.append(row)
    return columns, rows


def powers_table(study: Study) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('quantity', 'Quantity', align='l'),
        Column('radius', 'ρ', '{:g}'.format),
        Column('over', 'Against', align='l'),
        Column('power', 'Power (95 % interval)', fitted),
    ]
    base = study.settings.base
    rows = [
        {
            'quantity': key, 'radius': radius, 'over': letter,
            'power': three(power_law(study.samples(key, over, radius=radius))),
        }
        for key in ('width', 'norm')
        for over, letter in (('num_pairs', 'n'), ('dimension', 'd'))
        for radius in (0.0, base.radius)
    ]  # fmt: skip
    return columns, rows


def how(study: Study) -> str:
    """What the numbers depend on, as a Markdown table."""
    settings, about = study.settings, study.provenance
    search, verify = settings.search, settings.verify
    base = settings.base
    cells = [
        ('Data', about['data']),
        ('Seeds', ', '.join(map(str, settings.grid.seeds))),
        ('Base', f'n = {base.num_pairs} pairs, d = {base.dimension}, ρ = {base.radius:g}'),
        ('Network', 'two-layer ReLU, all weights trained; no biases but the last coordinate'),
        (
            'Training',
            f'Adam, {search.num_steps} steps, learning rate {search.learning_rate:g} to 0 along a '
            f'cosine, PGD-{search.attack_steps}, ρ growing from 0 in the first half; '
            f'{search.restarts} restarts, of which one has to interpolate',
        ),
        (
            'Search',
            f'doubling, then bisection to a factor of {search.ratio:g}, at most {search.widest}',
        ),
        (
            'Verified by',
            f'PGD-{verify.num_steps} from x and {verify.restarts} random starts, and the point of '
            'the cap nearest to the partner',
        ),
        (
            'RKHS norm',
            f'NTK of the two-layer {settings.kernel.activation} network; cutting planes until '
            f'y f ≥ 1 − {settings.kernel.tolerance:g} under that attack; float64',
        ),
        ('Commit', about['commit']),
        ('Device', f'{about["num_devices"]} × {about["device"]}'),
        ('Versions', conditions.versions(about)),
    ]
    return tables.markdown(('What', 'How'), cells, 'll')
