"""The report of a study of width, from the rows of its networks.

    write_report(Path('runs/ntk-width'))      # report.md, rows.csv, tables/, figures/ in the folder

Nothing is measured anew; a study that is not finished is reported as far as it is.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ntk.studies.width import pictures
from ntk.studies.width.claims import (
    LIMIT_TOLERANCE,
    RATES,
    TOLERANCE,
    Claim,
    Fit,
    Study,
    compare,
    evaluate,
    exponent,
    read_study,
)
from ntk.studies.width.measure import MEASURED
from ntk.studies.width.pictures import NAMES, describe
from ntk.studies.width.theory import INITIALISATION, expected_power, signed
from war_jax.lab import tables
from war_jax.lab.tables import (
    Column,
    decimal,
    decimal_interval,
    factor_mean,
    write_table,
)
from war_jax.lab.verdicts import write_verdicts
from war_jax.measures.statistics import geometric_interval
from war_jax.records.files import write_text
from war_jax.report import conditions
from war_jax.studies.width.claims import CONTRADICTED, SUPPORTED, UNDECIDED

_OF_NETWORK = (
    'spectral_product', 'kernel_error', 'kernel_drift', 'linearisation_error', 'movement',
)  # fmt: skip
QUANTITIES = (*(f'{name}_{side}' for name in MEASURED for side in ('train', 'test')), *_OF_NETWORK)
COLUMNS = (
    'parametrization', 'width', 'features', 'seed', 'phase', 'lambda', *QUANTITIES, 'first_loss',
    'last_loss',
)  # fmt: skip


def write_report(workdir: Path) -> Path:
    """Returns the path of report.md. Raises ReportError, one line, for unreadable files."""
    study = read_study(workdir)
    rows = [{column: row.get(column) for column in COLUMNS} for row in study.rows]
    write_text(workdir / 'rows.csv', tables.csv_text(COLUMNS, rows))
    drawn = pictures.draw(study, workdir / 'figures') if study.rows else []
    write_verdicts(
        workdir / 'verdicts.json',
        map(_Named, evaluate(study)),
        study.provenance,
        study.provenance['command'],
    )
    write_text(workdir / 'report.md', page(study, drawn, workdir / 'tables'))
    return workdir / 'report.md'


class _Named:
    """A claim as verdicts.json has it: its parametrization is a part of what it says."""

    def __init__(self, claim: Claim):
        fit = claim.fit
        self.name = f'{claim.name}-{claim.parametrization}'
        self.statement = f'{claim.statement} ({NAMES[claim.parametrization]})'
        self.effect = fit and fit.value
        self.interval = fit and (fit.lower, fit.upper)
        self.unit, self.verdict = claim.unit, claim.verdict
        self.num_seeds = fit.num_seeds if fit else 0


def page(study: Study, drawn: Sequence[pictures.Picture], folder: Path) -> str:
    """report.md as text; its tables are also written to `folder`."""
    claims = evaluate(study)
    network = study.settings.network
    kind = f'{network.num_layers}-layer' if network.kind == 'fcn' else f'WRN-{network.depth}-k,'
    title = f'Width scaling: {kind} {network.activation} networks on {study.settings.data.name}'
    blocks = [f'# {title}', *_warnings(study), answer(study, claims)]
    blocks += [
        write_table(folder, 'claims', *claims_table(claims)),
        'Exponents are slopes of log(quantity), averaged over seeds, against log(m), with a '
        'bootstrap 95 % interval over seeds. A power of theory is *supported* if the interval lies '
        f'within {TOLERANCE:g} of it, *contradicted* if it lies wholly outside of that, and '
        '*undecided* otherwise; growth and fall are decided by the sign of the whole interval; '
        f'meeting infinite width by whether the interval lies within {100 * LIMIT_TOLERANCE:g} %. '
        'Powers of theory are those of m → ∞, except for spectral products and movements, where '
        'they are the slope of a formula for finite m. Fewer than three seeds decide nothing, and '
        'no interval is widened for the number of claims.',
    ]
    for picture in drawn:
        blocks += [
            f'## {picture.title}', f'![{picture.title}](figures/{picture.file})', picture.caption,
        ]  # fmt: skip
    blocks += [
        '## All exponents',
        write_table(folder, 'exponents', *exponents_table(study)),
        '## Lipschitzness by width',
        write_table(folder, 'lipschitz', *values_table(study)),
        'Geometric mean over seeds and its 95 % interval (Student’s t), test images.',
        '## How the numbers were obtained',
        how(study),
        '## What is missing',
        ''.join(f'- {cell.name}\n' for cell in study.missing) or 'Nothing.',
        '## To run it again',
        f'    {study.provenance["command"]}',
        'The same again makes what is missing and draws this page again. `rows.csv` has a row per '
        'network and phase with all quantities, `tables/` the tables above as CSV, Markdown and '
        'LaTeX.',
    ]
    return '\n\n'.join(block.rstrip('\n') for block in blocks) + '\n'


def answer(study: Study, claims: Sequence[Claim]) -> str:
    """A paragraph: does Lipschitzness grow with width, and where."""
    sentences = []
    for phase in study.phases:
        parts = []
        for name in study.settings.grid.parametrizations:
            fit = exponent(study, 'local_lipschitz_test', phase, name)
            if fit is not None:
                parts.append(f'{NAMES[name]} m^{_with_interval(fit)}')
        if parts:
            after = f'After training ({describe(phase)})'
            when = 'At the start' if phase == INITIALISATION else after
            listed = '; '.join(parts)
            sentences.append(f'{when}, local Lipschitzness on test images goes as {listed}.')
    verdicts = [claim.verdict for claim in claims]
    sentences.append(
        f'Of {len(claims)} claims, {verdicts.count(SUPPORTED)} are supported, '
        f'{verdicts.count(CONTRADICTED)} contradicted and {verdicts.count(UNDECIDED)} undecided.'
    )
    return '\n\n'.join(sentences)


def claims_table(claims: Sequence[Claim]) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('verdict', 'Verdict', align='l'),
        Column('statement', 'Claim', align='l'),
        Column('parametrization', 'Parametrization', lambda name: NAMES[name], 'l'),
        Column('value', 'Measured', decimal),
        Column('interval', '95 % interval', decimal_interval),
        Column('unit', 'Unit', align='l'),
        Column('num_seeds', 'Seeds'),
        Column('expected', 'Expected, and by what', align='l'),
    ]
    rows = [{**vars(claim), **_fit(claim.fit)} for claim in claims]
    return columns, rows


def exponents_table(study: Study) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('quantity', 'Quantity', align='l'),
        Column('phase', 'Phase', align='l'),
        Column('parametrization', 'Parametrization', lambda name: NAMES[name], 'l'),
        Column('value', 'Exponent', decimal),
        Column('interval', '95 % interval', decimal_interval),
        Column('theory', 'Theory', signed),
        Column('verdict', 'Verdict', align='l'),
    ]
    rows = []
    for key in QUANTITIES:
        if key.rpartition('_')[0] in RATES:
            continue
        for phase in study.phases:
            for name in study.settings.grid.parametrizations:
                fit = exponent(study, key, phase, name)
                if fit is None:
                    continue
                expected = expected_power(key, phase, name, study.settings, study.shape)
                rows.append({
                    'quantity': key, 'phase': phase, 'parametrization': name, **_fit(fit),
                    'theory': expected and expected[0],
                    'verdict': expected and compare(fit, expected[0]),
                })  # fmt: skip
    return columns, rows


def values_table(study: Study) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('phase', 'Phase', align='l'),
        Column('parametrization', 'Parametrization', lambda name: NAMES[name], 'l'),
        Column('m', 'm'),
        Column('gradient', 'RMS ‖∇f‖₂', factor_mean),
        Column('limit', 'at infinite width', '{:.3g}'.format),
        Column('lipschitz', 'Local Lipschitzness', factor_mean),
        Column('kl', 'KL gradient', factor_mean),
    ]
    rows = []
    for phase in study.phases:
        which = {INITIALISATION: 'initial', 'natural_lazy': 'trained'}.get(phase, '')
        for name in study.settings.grid.parametrizations:
            keys = ('gradient_rms_test', 'local_lipschitz_test', 'local_lipschitz_kl_gradient_test')
            by_width = [study.samples(key, phase, name) for key in keys]
            widths = {row['features']: row['width'] for row in study.rows}
            for m in by_width[0]:
                means = [_mean(samples.get(m, [])) for samples in by_width]
                limit = study.limits.get((name, widths[m]), {}).get(which)
                rows.append({
                    'phase': phase, 'parametrization': name, 'm': m, 'gradient': means[0],
                    'limit': limit, 'lipschitz': means[1], 'kl': means[2],
                })  # fmt: skip
    return columns, rows


def how(study: Study) -> str:
    """What the numbers depend on, as a Markdown table."""
    settings, about = study.settings, study.provenance
    grid, training, attack = settings.grid, settings.training, settings.attack
    threat = vars(settings.threat)
    cells = [
        ('Data', about['data']),
        (
            'Images',
            f'{settings.data.num_train} to train on, {settings.data.num_test} to test on, balanced '
            f'over classes; kernels on {settings.data.num_kernel} of each',
        ),
        (
            'Weights at the start',
            f'Gaussian; fan-in times variance {settings.network.weight_variance:g}, of the last '
            f'layer {settings.network.output_variance:g}; no biases',
        ),
        ('Seeds', ', '.join(map(str, grid.seeds))),
        (
            'Training',
            f'{training.num_steps} steps of full-batch gradient descent, momentum '
            f'{training.momentum:g} (0 on the squared loss); learning rate {training.speed:g} × n '
            '/ (largest eigenvalue of the NTK on the training images) at width '
            f'{training.tuned_width:g}, from there on as the parametrization says; divided by '
            '1 + λ in TRADES',
        ),
        (
            'Lazy',
            f'f₀ + α (f − f₀) with α = {training.lazy_scale:g} (Chizat et al. 2019); with α = 1 '
            'that is the network itself',
        ),
        (
            'TRADES',
            f'{conditions.ball(threat)}, PGD-{attack.num_steps}, step size {attack.step_size:g}',
        ),
        (
            'Measures in the ball',
            f'{attack.measure_steps} steps of {2.5 * threat["epsilon"] / attack.measure_steps:g}; '
            'the largest value met, thus a lower bound',
        ),
        ('Precision', 'float32; linear algebra of infinite width in float64'),
        ('Commit', about['commit']),
        ('Device', f'{about["num_devices"]} × {about["device"]}'),
        ('Versions', conditions.versions(about)),
    ]
    return tables.markdown(('What', 'How'), cells, 'll')


def _warnings(study: Study) -> list[str]:
    found = []
    if study.missing:
        found.append(f'> **Not finished.** {len(study.missing)} networks are missing, see below.')
    diverged = [row for row in study.rows if row['natural_risk_test'] is None]
    if diverged:
        listed = sorted({(row['parametrization'], row['phase']) for row in diverged})
        where = ', '.join(f'{NAMES[name]} ({describe(phase)})' for name, phase in listed)
        found.append(
            f'> **Warning.** {len(diverged)} trainings diverged, of {where}: nothing is fitted '
            'there. A lower training.speed may help.'
        )
    return found


def _mean(values: Sequence[float]) -> tuple[float, float, float] | None:
    """None where one of them vanishes: the mean of the logarithms would, too."""
    return geometric_interval(values) if values and min(values) > 0 else None


def _fit(fit: Fit | None) -> dict[str, Any]:
    if fit is None:
        return {'value': None, 'interval': None, 'num_seeds': None}
    return {'value': fit.value, 'interval': (fit.lower, fit.upper), 'num_seeds': fit.num_seeds}


def _with_interval(fit: Fit) -> str:
    interval = decimal_interval((fit.lower, fit.upper))
    return decimal(fit.value) + (f' ({interval})' if math.isfinite(fit.upper) else '')


