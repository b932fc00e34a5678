"""What a study of width finds: its page, and how to make it.

    report = run(EXPERIMENT, settings, Path('runs/ntk-width'), command)     # war_jax.lab.experiment

Its claims stand in claims.py, its tables in tabulate.py, its figures in pictures.py.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ntk.studies.width.bench import Bench
from ntk.studies.width.claims import claims, exponent
from ntk.studies.width.pictures import NAMES, Found, describe, draw, networks
from ntk.studies.width.settings import INITIALISATION, Limit, Settings
from ntk.studies.width.tabulate import exponents_table, values_table
from war_jax.lab import page
from war_jax.lab.experiment import Experiment
from war_jax.lab.page import Section
from war_jax.lab.tables import estimated, write_table
from war_jax.lab.verdicts import Claim
from war_jax.report import conditions

_ASKED = (
    'Does Lipschitzness grow with width, at the start and after training, in which '
    'parametrization, and does it beside the margin?'
)


def answer(results: Found) -> str:
    """Does Lipschitzness grow with width, and where; and does it beside the margin."""
    sentences = []
    for phase in results.settings.labels:
        after = f'After training ({describe(phase)})'
        when = 'At the start' if phase == INITIALISATION else after
        for key, text in (
            ('local_lipschitz_test', 'local Lipschitzness'),
            ('lipschitz_by_margin_test', 'local Lipschitzness ÷ margin'),
        ):
            parts = []
            for name in results.settings.grid.parametrizations:
                power = exponent(results, key, phase, name)
                if power is not None:
                    parts.append(f'{NAMES[name]} m^{estimated((power.value, *power.interval))}')
            if parts:
                sentences.append(f'{when}, {text} on test images goes as {"; ".join(parts)}.')
    return ' '.join(sentences) or 'Not enough is finished to say.'


def how(results: Found) -> Section:
    settings = results.settings
    training, attack = settings.training, settings.attack
    threat = vars(settings.threat)
    return page.how_section([
        ('Data', results.provenance['data']),
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
        ('Seeds', ', '.join(map(str, settings.grid.seeds))),
        (
            'Training',
            f'{training.num_steps} steps of full-batch gradient descent, momentum '
            f'{training.momentum:g} (0 on the squared loss); learning rate {training.speed:g} × n '
            '/ (largest eigenvalue of the NTK on the training images) at width '
            f'{training.tuned_width:g}, from there on as the parametrization says; divided by '
            '1 + λ in TRADES',
        ),
        (
            'Equal kernel time',
            'as many steps, the largest eigenvalue being each network’s own: the learning rate '
            'times it times the steps is the same',
        ),
        (
            'Equal training risk',
            'so trained until the mean cross-entropy of the training images is at most '
            f'{training.matched_risk:g}, for at most {training.most_steps} steps',
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
        *page.provenance_cells(results.provenance),
    ])  # fmt: skip


def title(results: Found) -> str:
    network = results.settings.network
    kind = f'{network.num_layers}-layer' if network.kind == 'fcn' else f'WRN-{network.depth}-k,'
    return f'Width scaling: {kind} {network.activation} networks on {results.settings.data.name}'


def sections(results: Found, found: Sequence[Claim], workdir: Path) -> Iterable[Section]:
    tables = workdir / 'tables'
    yield Section('', list(_warnings(results)))
    yield page.opening(_ASKED, answer(results), found)
    yield page.claims_section(found, tables)
    yield Section('', [
        'Powers of theory are those of m → ∞, except for spectral products and movements, where '
        'they are the slope of a formula for finite m.'
    ])  # fmt: skip
    yield from page.picture_sections(draw(results, workdir / 'figures'))
    yield Section('All exponents', [write_table(tables, 'exponents', *exponents_table(results))])
    yield Section('Lipschitzness by width', [
        write_table(tables, 'lipschitz', *values_table(results)),
        'Geometric mean over seeds and its 95 % interval (Student’s t), test images but for the '
        'risk.',
    ])  # fmt: skip
    yield how(results)


def _warnings(results: Found) -> list[str]:
    diverged = [row for row in networks(results) if row['natural_risk_test'] is None]
    if not diverged:
        return []
    listed = sorted({(row['parametrization'], row['phase']) for row in diverged})
    where = ', '.join(f'{NAMES[name]} ({describe(phase)})' for name, phase in listed)
    return [
        f'> **Warning.** {len(diverged)} trainings diverged or did not come down to the wanted '
        f'risk, of {where}: nothing is fitted there. A lower training.speed may help.'
    ]


def is_complete(settings: Settings, cell: Any, found: Any) -> bool:
    """Whether a network has a row for each phase of the grid, which may have grown since. Rows of
    before `lipschitz_by_margin` had that name do not count."""
    if isinstance(cell, Limit):
        return True
    of_today = [row for row in found if 'lipschitz_by_margin_test' in row]
    return set(settings.labels) <= {row['phase'] for row in of_today}


EXPERIMENT = Experiment(
    'ntk.studies.width.findings', Settings, lambda settings: settings.cells, Bench, claims, title,
    sections, is_complete, {'limits': 'infinite width', 'cells': 'networks'},
)  # fmt: skip
