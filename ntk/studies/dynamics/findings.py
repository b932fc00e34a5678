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
from ntk.studies.dynamics.effects import FROM_START, effects, initial, trained
from ntk.studies.dynamics.settings import Settings
from war_jax.lab import page, tables, verdicts
from war_jax.lab.estimates import Estimate
from war_jax.lab.experiment import Results, Row, read_rows
from war_jax.lab.page import Section
from war_jax.lab.probes import HOW_TO
from war_jax.lab.quantities import centre, quantity
from war_jax.lab.settings import read
from war_jax.lab.tables import Column, decimal, estimated, factor_mean, write_table
from war_jax.lab.verdicts import ABOVE, BELOW, CONTRADICTED, MIN_SEEDS, SUPPORTED, Claim, judge
from war_jax.records.files import ReportError, read_file, read_json, require, write_text
from war_jax.report import conditions

Table = tuple[list[Column], list[dict[str, Any]]]
Effects = Mapping[str, Mapping[str, Estimate | None]]  # quantity -> place -> of the width there
START, END = 'at initialisation', 'after training'
EXPONENT = 'exponent of the width'
# name -> (heading, quantities)
TABLES = {
    'kernel': (
        'The kernel and the weights',
        ('kernel_drift', 'kernel_alignment', 'label_alignment', 'kernel_trace', 'weight_movement'),
    ),
    'gradients': (
        'Input gradients',
        (
            'output_gradient_train', 'output_gradient_test',
            'loss_gradient_train', 'loss_gradient_test', 'spectral_product',
        ),
    ),
    'lipschitz': (
        'Local Lipschitzness',
        (
            'local_lipschitz_train', 'local_lipschitz_test',
            'local_lipschitz_kl_gradient_train', 'local_lipschitz_kl_gradient_test',
        ),
    ),
    'accuracy': (
        'Accuracy and risk on the same images',
        (
            'natural_risk_train', 'natural_risk_test', 'natural_accuracy_train',
            'natural_accuracy_test', 'robust_accuracy_train', 'robust_accuracy_test',
        ),
    ),
}  # fmt: skip
KEYS = tuple(key for _, keys in TABLES.values() for key in keys)
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
    listed = list(sections(results, found, workdir))
    smoke = results.settings.smoke
    text = page.text(title(results), listed, results.missing, command, smoke)
    write_text(workdir / 'report.md', text)
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
    if places := _lambdas(drift):
        found += [
            verdicts.claim_at_each(
                claimed, f'After training, at equal λ, {what}',
                {_shown(place): effect[place] for place in places},
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
    network = f'{rows[0]["run"]} (WRN-{rows[0]["depth"]}-{widths[0]:g})'
    if results.about['is_study']:
        span = ' … '.join(f'{width:g}' for width in dict.fromkeys((widths[0], widths[-1])))
        count = len({row['run'] for row in rows})
        network = f'{count} run{"s" * (count != 1)} of WRN-{rows[0]["depth"]}-k, k = {span},'
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
        yield Section('', [answer(by_key)])
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
    listed = ''.join(f'- *{name}*: {each.meaning}.\n' for name, each in meanings.items())
    yield Section('What each quantity is', [listed])
    yield page.how_section(how(results))


def answer(by_key: Effects) -> str:
    """What grows and what falls with width, in a few sentences."""
    lams = _listed(by_key['local_lipschitz_test'])
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
        return f'from {_number(first[key])} to {_number(last[key])}'

    return (
        f'In {last["step"]} steps the kernel moved by {_number(last["kernel_drift"])} times its '
        f'norm while the weights moved by {_number(last["weight_movement"])} times theirs, and '
        f'the kernel’s alignment with the labels went {change("label_alignment")}. The input '
        f'gradient went {change("output_gradient_train")} on training images and '
        f'{change("output_gradient_test")} on test images; local Lipschitzness (output ratio) '
        f'{change("local_lipschitz_train")} and {change("local_lipschitz_test")}.'
    )


def by_step(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    """Of one run: a row per probe."""
    columns = [Column('step', 'Step'), Column('epoch', 'Epoch', '{:g}'.format)]
    return [*columns, *(Column(key, quantity(key).title, _number) for key in keys)], list(rows)


def by_cell(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    """Of a study: a row per width before training, and per width and lambda after it."""
    columns = [
        Column('when', 'When', align='l'),
        Column('widen_factor', 'Width k', '{:g}'.format),
        Column('lambda', 'λ', '{:g}'.format),
        Column('seeds', 'Seeds'),
        *(Column(key, quantity(key).title, factor_mean) for key in keys),
    ]
    groups: dict[tuple[str, float, float | None], list[Row]] = {}
    for row in initial(rows):
        groups.setdefault((START, row['widen_factor'], None), []).append(row)
    for row in trained(rows):
        groups.setdefault((END, row['widen_factor'], row['lambda']), []).append(row)
    found = []
    for (when, width, lam), group in groups.items():
        about = {'when': when, 'widen_factor': width, 'lambda': lam, 'seeds': len(group)}
        known = [key for key in keys if when == END or key not in FROM_START]
        values = {
            key: centre([row[key] for row in group if row[key] is not None], quantity(key))
            for key in known
        }
        found.append({**dict.fromkeys(keys), **about, **values})
    return columns, found


def exponents(by_key: Effects) -> Table:
    """A row per quantity; a column for the start, for each lambda, and for the mean over them."""
    all_places = next(iter(by_key.values()))
    places = [p for p in all_places if any(found[p] for found in by_key.values())]
    if len(_lambdas(places)) == 1:
        places.remove('mean')
    columns = [Column(place, _shown(place), estimated) for place in places]
    rows = []
    for key, found in by_key.items():
        title = quantity(key).title + ('' if quantity(key).by_factors else ' (+)')
        row = {place: _mean(found[place]) for place in places}
        if any(row.values()):
            rows.append({'title': title, **row})
    return [Column('title', 'Quantity', align='l'), *columns], rows


def changes_table(by_key: Effects) -> Table:
    """The same with a row per number, for programs."""
    columns = [
        Column('quantity', 'Quantity', align='l'),
        Column('when', 'When', align='l'),
        Column('lambda', 'λ', align='l'),
        Column('effect', 'Change', estimated),
        Column('unit', 'Unit', align='l'),
        Column('num_seeds', 'Seeds'),
    ]
    rows = [
        {
            'quantity': key,
            'when': START if place == 'start' else END,
            'lambda': {'start': None, 'mean': f'mean over {_listed(found)}'}.get(
                place, place.removeprefix('lambda_')
            ),
            'effect': _mean(effect),
            'unit': EXPONENT if quantity(key).by_factors else 'per doubling of the width',
            'num_seeds': effect.num_seeds,
        }
        for key, found in by_key.items()
        for place, effect in found.items()
        if effect and (place != 'mean' or ',' in _listed(found))
    ]
    return columns, rows


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


def _number(value: float) -> str:
    return tables.number(value, 3)


def _lambdas(places: Iterable[str]) -> list[str]:
    return [place for place in places if place.startswith('lambda_')]


def _shown(place: str) -> str:
    titles = {'start': START.capitalize(), 'mean': 'Mean over λ'}
    return titles.get(place, place.replace('lambda_', 'λ = '))


def _listed(found: Mapping[str, Estimate | None]) -> str:
    """'1, 9': the lambdas that have an estimate."""
    return ', '.join(p.removeprefix('lambda_') for p in _lambdas(found) if found[p])


def _mean(effect: Estimate | None) -> tuple[float, float, float] | None:
    return None if effect is None else (effect.value, *effect.interval)
