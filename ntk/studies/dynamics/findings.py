"""How what is measured of probes changes with width and over training: claims, tables, the page.

    report = write_report(Path('runs/study/ntk'))           # from study.json and rows.csv there
    claims, provenance = decide(Path('runs/study/ntk'))     # what the page decides, without it

Besides report.md there are verdicts.json, tables/*.csv, *.md, *.tex and figures/*.png. Nothing is
measured here.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ntk.studies.dynamics import pictures
from ntk.studies.dynamics.effects import effects
from ntk.studies.dynamics.settings import Settings
from ntk.studies.dynamics.tabulate import (
    EXPONENT,
    KEYS,
    TABLES,
    Effects,
    by_cell,
    by_step,
    changes_table,
    exponents,
    lambdas,
    listed,
    number,
    shown,
)
from war_jax.families import network_name
from war_jax.lab import page, tables, verdicts
from war_jax.lab.experiment import Results, Row, read_rows
from war_jax.lab.page import Section
from war_jax.lab.probes import HOW_TO
from war_jax.lab.quantities import quantity
from war_jax.lab.settings import read
from war_jax.lab.tables import decimal, write_table
from war_jax.lab.verdicts import ABOVE, BELOW, CONTRADICTED, MIN_SEEDS, SUPPORTED, Claim, judge
from war_jax.records.files import ReportError, read_file, read_json, require
from war_jax.records.pages import write_page
from war_jax.report import conditions

# In the sentences of the answer.
_NAMES = {
    'kernel_drift': 'kernel drift',
    'output_gradient_train': 'the input gradient on training images',
    'output_gradient_test': 'the input gradient on test images',
    'local_lipschitz_train': 'local Lipschitzness (output ratio) on training images',
    'local_lipschitz_test': 'local Lipschitzness (output ratio) on test images',
    'spectral_product': 'the product of spectral norms',
}
_STATISTICS = {
    'batch': 'the moments of the training images measured on, at each probe; the derivatives in '
    'the kernel go through them',
    'inference': 'the running ones; at the first step these are 0 and 1, so that the kernel also '
    'moves because they do',
}


class Probe(NamedTuple):
    """By which rows.csv knows a row."""

    folder: str  # the name of the run
    name: str


def read_results(folder: Path) -> Results[Settings]:
    """From study.json and rows.csv. Raises ReportError, one line, if they cannot be read."""
    path = folder / 'study.json'
    if not path.is_file():
        raise ReportError(f'{folder}: missing study.json, which ntk.main writes')
    study = read_file(path, read_json)
    require(path, study, ('config', 'provenance', 'about'))
    rows = read_file(folder / 'rows.csv', read_rows)
    about = study['about']
    missing = [f'{name}: {why}; {HOW_TO}' for name, why in about['missing'].items()]
    last = {row['run']: row for row in rows.values()}
    missing += [
        f'{name}: its probes end at step {row["step"]} of {row["last_step"]}; let it finish'
        for name, row in last.items()
        if row['step'] < row['last_step']
    ]
    return Results(
        read(Settings, study['config']), study['provenance'], about,
        {Probe(*place): row for place, row in rows.items()}, missing,
    )  # fmt: skip


def decide(folder: Path) -> tuple[list[Claim], Mapping[str, Any]]:
    """The claims and the provenance of a study, from study.json and rows.csv alone."""
    results = read_results(folder)
    return claims(results), results.provenance


def write_report(workdir: Path) -> Path:
    """Writes report.md and what it shows; returns its path."""
    results = read_results(workdir)
    found, command = claims(results), results.provenance['command']
    verdicts.write_verdicts(workdir / 'verdicts.json', found, results.provenance, command)
    parts = list(sections(results, found, workdir))
    smoke = results.settings.smoke
    text = page.text(title(results), parts, results.missing, command, smoke)
    write_page(workdir / 'report.md', text)
    return workdir / 'report.md'


def claims(results: Results[Settings]) -> list[Claim]:
    """Of a study; a single run has one width, of which nothing is claimed."""
    if not results.about['is_study']:
        return []
    rows = list(results.rows.values())
    how = 'Power of the width for each seed: the slope of the least-squares line of logarithms.'
    lipschitz, drift = (effects(rows, key) for key in ('local_lipschitz_test', 'kernel_drift'))
    name, grows = 'local_lipschitz_with_width', f'{_NAMES["local_lipschitz_test"]} grows with width'
    first = f'At initialisation, {grows}'
    found = [
        verdicts.claim(f'{name}_at_start', first, lipschitz['start'], ABOVE, EXPONENT, how)
    ]
    if places := lambdas(drift):
        found += [
            verdicts.claim_at_each(
                claimed, f'After training, at equal λ, {what}',
                {shown(place): effect[place] for place in places},
                effect['mean'], supported, EXPONENT, how,
            )
            for claimed, what, effect, supported in (
                (name, grows, lipschitz, ABOVE),
                ('kernel_drift_with_width', 'kernel drift falls with width', drift, BELOW),
            )
        ]  # fmt: skip
    return found


def title(results: Results[Settings]) -> str:
    rows = list(results.rows.values())
    widths = sorted({row['widen_factor'] for row in rows})
    model = results.about['training']['model']
    network = f'{rows[0]["run"]} ({network_name(model, widths[0])})'
    if results.about['is_study']:
        span = ' … '.join(f'{width:g}' for width in dict.fromkeys((widths[0], widths[-1])))
        count = len({row['run'] for row in rows})
        network = f'{count} run{"s" * (count != 1)} of {network_name(model, "k")}, k = {span},'
    name = results.about['training']['data']['name']
    return f'Kernel, input gradients and Lipschitzness along {network} on {name}'


def sections(
    results: Results[Settings], found: Sequence[Claim], workdir: Path
) -> Iterable[Section]:
    """The page from its answer on; tables and figures are written to the workdir."""
    rows, folder = list(results.rows.values()), workdir / 'tables'
    is_study = results.about['is_study']
    if is_study:
        by_key = {key: effects(rows, key) for key in KEYS}
        columns, lines = exponents(by_key)
        write_table(folder, 'changes', *changes_table(by_key))
        yield page.opening(_ASKED, answer(by_key), found)
        yield page.claims_section(found, folder)
        yield Section('Change with width', [
            write_table(folder, 'exponents', columns, lines)
            if lines
            else 'No quantity has been measured at every width, of several.',
            'Exponents p of ~ k^p, from the least-squares line through the logarithms; of cosines '
            'and rates (+) the change per doubling of the width instead. Computed seed by seed; in '
            'brackets the 95 % interval over seeds (Student’s t).',
        ])  # fmt: skip
    else:
        yield Section('', [answer_of_run(rows)])
    yield from page.picture_sections(pictures.draw(rows, is_study, workdir / 'figures'))
    for name, (heading, keys) in TABLES.items():
        table = by_cell(rows, keys) if is_study else by_step(rows, keys)
        yield Section(heading, [write_table(folder, name, *table)])
    meanings = {quantity(key).title.removesuffix(', train').removesuffix(', test'): quantity(key)
                for key in KEYS}  # fmt: skip
    lines = ''.join(f'- *{name}*: {each.meaning}.\n' for name, each in meanings.items())
    yield Section('What each quantity is', [lines])
    yield page.how_section(how(results))


_ASKED = (
    'What do trained networks’ kernels, gradients and Lipschitzness do as the width grows, at '
    'equal λ and at the start?'
)


def answer(by_key: Effects) -> str:
    """What grows and what falls with width, in a few sentences."""
    lams = listed(by_key['local_lipschitz_test'])
    where = f'the mean over λ = {lams}' if ',' in lams else f'λ = {lams}'
    after = _grouped(by_key, 'mean', list(_NAMES)[:-1])
    before = _grouped(
        by_key, 'start', ('output_gradient_test', 'local_lipschitz_test', 'spectral_product')
    )
    nothing = 'Of trained networks nothing follows: no seed has all widths, or there is one width.'
    after = f'After training, at equal λ ({where}): {after}.' if after else nothing
    return f'{after} At initialisation: {before}.' if before else after


def _grouped(by_key: Effects, place: str, keys: Sequence[str]) -> str:
    """'what **falls** with width: kernel drift (k^−0.31, −0.40 to −0.22); what **grows** ...'."""
    falls, grows = 'what **falls** with width', 'what **grows** with width'
    neither, few = 'not shown to grow or to fall', f'from fewer than {MIN_SEEDS} seeds'
    groups: dict[str, list[str]] = {said: [] for said in (falls, grows, neither, few)}
    for key in keys:
        effect = by_key[key][place]
        if effect is not None:
            said = {SUPPORTED: grows, CONTRADICTED: falls}.get(judge(effect, ABOVE).word, neither)
            interval = f', {tables.decimal_interval(effect.interval)}' * (effect.num_seeds > 1)
            text = f'{_NAMES[key]} (k^{decimal(effect.value)}{interval})'
            groups[few if effect.num_seeds < MIN_SEEDS else said].append(text)
    return '; '.join(f'{said}: {", ".join(texts)}' for said, texts in groups.items() if texts)


def answer_of_run(rows: Sequence[Row]) -> str:
    """What moved from the first probe to the last, in a few sentences."""
    first, last = rows[0], rows[-1]

    def change(key: str) -> str:
        return f'from {number(first[key])} to {number(last[key])}'

    return (
        f'In {last["step"]} steps the kernel moved by {number(last["kernel_drift"])} times its '
        f'norm while the weights moved by {number(last["weight_movement"])} times theirs, and '
        f'the kernel’s alignment with the labels went {change("label_alignment")}. The input '
        f'gradient went {change("output_gradient_train")} on training images and '
        f'{change("output_gradient_test")} on test images; local Lipschitzness (output ratio) '
        f'{change("local_lipschitz_train")} and {change("local_lipschitz_test")}.'
    )


def how(results: Results[Settings]) -> list[tuple[str, object]]:
    """What the numbers of the page depend on."""
    rows, settings, about = list(results.rows.values()), results.settings, results.about
    first, config = rows[0], about['training']
    num_steps = settings.attack_steps or config['evaluation']['num_steps']
    steps = [str(row['step']) for row in rows if row['run'] == first['run']]
    runs, lam = first['run'], f'λ = {first["lambda"]:g}'
    if about['is_study']:
        count = len({row['run'] for row in rows})
        runs, lam = f'{count} in {Path(about["folder"], "runs")}', 'λ as the tables say'
    note = (
        '95 %, Student’s t over seeds: they cover the draw of the seed, not that of the images. '
        'What differs by factors is averaged in logarithms.'
    )
    seconds = tables.duration(sum(row['seconds'] for row in rows))
    return [
        ('Runs', runs),
        ('Data', results.provenance['data']),
        ('Images measured on',
         f'{first["num_train"]} training and {first["num_test"]} test images, balanced over the '
         'classes, the same for all probes'),
        ('Kernel',
         'empirical NTK on the training images: inner products of the derivatives of the logits by '
         'all trained parameters, mean over the logits'),
        ('BatchNorm’s statistics', _STATISTICS[settings.batch_norm]),
        ('Robust accuracy, KL gradient',
         f'one attack each, of {num_steps} PGD steps that together are as long as those of the '
         f'run’s evaluation; {conditions.ball(config["threat"])}'),
        ('Output ratio', '10 steps of ε/4 from a start close to the image; same ball'),
        ('Product of spectral norms',
         'each convolution as the linear map of images that it is, its norm bounded from above '
         'by Fourier transform, BatchNorm’s '
         'gains with the statistics above; an upper bound of the logits’ Lipschitz constant (L2)'),
        ('Training', conditions.training(config, lam)),
        ('Optimizer', conditions.optimizer(config)),
        ('Probes', f'steps {", ".join(steps)} of {first["last_step"]}'),
        *[('Intervals', note)] * about['is_study'],
        ('Commit', results.provenance['commit']),
        ('Devices', ', '.join(sorted({row['device'] for row in rows}))),
        ('Time', f'{seconds} for {len(rows)} probes, with compilation'),
    ]  # fmt: skip
