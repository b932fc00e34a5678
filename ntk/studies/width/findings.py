"""What a study of width finds: its claims, its tables and its page.

    report = run(EXPERIMENT, settings, Path('runs/ntk-width'), command)     # war_jax.lab.experiment
    exponent(results, 'gradient_rms_test', 'initialisation', 'ntk')         # Estimate of a power

Theory says a power of the width m for many quantities: a claim that the measured one is within
TOLERANCE of it. Wu et al. 2021 say that after TRADES local Lipschitzness grows with width and
stability falls; and the widest networks are held against infinite width itself.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ntk.studies.width.bench import Bench
from ntk.studies.width.measure import MEASURED
from ntk.studies.width.pictures import (
    NAMES,
    Found,
    describe,
    draw,
    infinite_width,
    networks,
    quantity_of,
    samples,
)
from ntk.studies.width.settings import INITIALISATION, Limit, Settings
from ntk.studies.width.theory import Shape, expected_power, signed
from war_jax.lab import page
from war_jax.lab.estimates import Estimate, over_seeds
from war_jax.lab.experiment import Experiment
from war_jax.lab.page import Section
from war_jax.lab.quantities import centre, with_width
from war_jax.lab.tables import (
    Column,
    estimated,
    factor_mean,
    small,
    small_interval,
    write_table,
)
from war_jax.lab.verdicts import ABOVE, BELOW, Claim, Range, claim, counts, judge, near
from war_jax.report import conditions

TOLERANCE = 0.1  # of an exponent
LIMIT_TOLERANCE = 0.05  # of a gradient's RMS, relative to that of infinite width
_OF_NETWORK = (
    'spectral_product', 'kernel_error', 'kernel_drift', 'linearisation_error', 'movement',
)  # fmt: skip
QUANTITIES = (*(f'{name}_{side}' for name in MEASURED for side in ('train', 'test')), *_OF_NETWORK)


def exponent(results: Found, key: str, phase: str, name: str) -> Estimate | None:
    """The power of m, of rates the change in points per doubling; by parametrization and phase.

    None with fewer than two widths, and where a network has no positive, finite value: one that
    diverged must not be left out, since those that did not would speak for it.
    """
    rows = [row for row in networks(results, name) if row['phase'] == phase]
    if any(row.get(key) is None for row in rows):
        return None
    return with_width(samples(results, key, phase, name), quantity_of(key))


def claims(results: Found) -> Iterator[Claim]:
    """In the order of the argument: the start, training, infinite width."""
    names = results.settings.grid.parametrizations
    for key, phase, text in _powers(results.settings):
        for name in names:
            yield from _power(results, key, phase, name, text)
    for phase in results.settings.phases:
        if not phase.name.startswith('trades'):
            continue
        after = f'After TRADES training, λ = {phase.lam:g}{", lazy" if phase.lazy else ""}'
        for key, claimed, unit, text in (
            ('local_lipschitz_test', ABOVE, 'power of m',
             'local Lipschitzness on test images grows with width'),
            ('local_lipschitz_train', ABOVE, 'power of m',
             'local Lipschitzness on training images grows'),
            ('perturbation_stability_test', BELOW, 'points per doubling',
             'stability on test images falls with width'),
        ):  # fmt: skip
            # What they claim is of test images and ordinary training.
            theirs = key.endswith('_test') and not phase.lazy
            source = 'Claimed by' if theirs else 'Suggested by the bound of'
            for name in names:
                yield claim(
                    f'{key}-{phase.label}-{name}', f'{after}, {text} ({NAMES[name]})',
                    exponent(results, key, phase.label, name), claimed, unit,
                    how=f'{source} Wu et al. 2021.',
                )  # fmt: skip
    for name in names:
        yield from _meets_limit(results, name)


def _powers(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """(quantity, phase, statement) of what theory says a power of."""
    yield 'gradient_rms_test', INITIALISATION, 'At the start, the RMS input gradient'
    yield 'spectral_product', INITIALISATION, 'At the start, the product of spectral norms'
    yield 'kernel_error', INITIALISATION, 'At the start, ‖Θ_m − Θ_∞‖ / ‖Θ_∞‖'
    for phase in settings.phases:
        if phase.lazy:
            continue
        after = f'After {"TRADES" if phase.lam else "natural"} training'
        after += f', λ = {phase.lam:g}' if phase.lam else ''
        yield 'gradient_rms_test', phase.label, f'{after}, the RMS input gradient'
        yield 'kernel_drift', phase.label, f'{after}, ‖Θ − Θ_0‖ / ‖Θ_0‖'
        yield 'linearisation_error', phase.label, f'{after}, the linearisation error'
        yield 'movement', phase.label, f'{after}, the relative movement of the weights'


def _expected(results: Found, key: str, phase: str, name: str) -> tuple[float, str] | None:
    shape = Shape(**results.about['shape'])
    return expected_power(key, phase, name, results.settings, shape)


def _power(results: Found, key: str, phase: str, name: str, text: str) -> Iterator[Claim]:
    expected = _expected(results, key, phase, name)
    if expected is None:
        return
    power, source = expected
    yield claim(
        f'{key}-{phase}-{name}', f'{text} goes as m^{signed(power)} ({NAMES[name]})',
        exponent(results, key, phase, name), near(power, TOLERANCE), 'power of m',
        how=f'Theory, {signed(power)}: {source}.',
    )  # fmt: skip


def _meets_limit(results: Found, name: str) -> Iterator[Claim]:
    """How far the widest networks' RMS gradient is from that of infinite width, in percent."""
    widest = results.settings.grid.widths[-1]
    bound = Range(1.0 - LIMIT_TOLERANCE, 1.0 + LIMIT_TOLERANCE)
    for phase, text in (
        (INITIALISATION, 'At the start'),
        ('natural_lazy', 'After lazy training on the squared loss'),
    ):
        predicted = infinite_width(results, name, widest, phase)
        if predicted is None or phase not in results.settings.labels:
            continue
        rows = [row for row in networks(results, name, widest) if row['phase'] == phase]
        values = [row['gradient_rms_test'] for row in rows]
        # Squares, whose expectation is what is predicted; none of them if a network diverged.
        squares = None
        if None not in values:
            squares = over_seeds([(value / predicted) ** 2 for value in values])
        made = claim(
            f'limit-{phase}-{name}',
            f'{text}, the RMS input gradient at width {widest:g} is that of infinite width, '
            f'within {100 * LIMIT_TOLERANCE:g} % ({NAMES[name]})',
            squares and _of_roots(squares), near(0.0, 100.0 * LIMIT_TOLERANCE), 'percent',
            how=f'RMS over seeds, against {predicted:.4g}; the interval is that of the squares.',
        )  # fmt: skip
        yield replace(made, p_value=judge(squares, Range(*(end**2 for end in bound))).p_value)


def _of_roots(squares: Estimate) -> Estimate:
    """Of the root of a mean square, as its distance from 1 in percent."""
    value, low, high = (
        100.0 * (math.sqrt(max(0.0, end)) - 1.0) if math.isfinite(end) else end
        for end in (squares.value, *squares.interval)
    )
    return Estimate(value, low, high, squares.num_seeds)


def answer(results: Found, found: Sequence[Claim]) -> list[str]:
    """Does Lipschitzness grow with width, and where."""
    sentences = []
    for phase in results.settings.labels:
        parts = []
        for name in results.settings.grid.parametrizations:
            power = exponent(results, 'local_lipschitz_test', phase, name)
            if power is not None:
                parts.append(f'{NAMES[name]} m^{estimated((power.value, *power.interval))}')
        if parts:
            after = f'After training ({describe(phase)})'
            when = 'At the start' if phase == INITIALISATION else after
            listed = '; '.join(parts)
            sentences.append(f'{when}, local Lipschitzness on test images goes as {listed}.')
    return [*sentences, counts(found)]


def exponents_table(results: Found) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('quantity', 'Quantity', align='l'),
        Column('phase', 'Phase', align='l'),
        Column('parametrization', 'Parametrization', lambda name: NAMES[name], 'l'),
        Column('value', 'Exponent', small),
        Column('interval', '95 % interval', small_interval),
        Column('theory', 'Theory', signed),
        Column('verdict', 'Verdict', align='l'),
    ]
    rows = []
    for key in QUANTITIES:
        if quantity_of(key).is_rate:
            continue
        for phase in results.settings.labels:
            for name in results.settings.grid.parametrizations:
                power = exponent(results, key, phase, name)
                if power is None:
                    continue
                theory, _ = _expected(results, key, phase, name) or (None, '')
                verdict = None if theory is None else judge(power, near(theory, TOLERANCE)).word
                rows.append({
                    'quantity': key, 'phase': phase, 'parametrization': name,
                    'value': power.value, 'interval': power.interval, 'theory': theory,
                    'verdict': verdict,
                })  # fmt: skip
    return columns, rows


def values_table(results: Found) -> tuple[list[Column], list[dict[str, Any]]]:
    """Geometric means over seeds, test images."""
    keys = ('gradient_rms_test', 'local_lipschitz_test', 'local_lipschitz_kl_gradient_test')
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
    for phase in results.settings.labels:
        for name in results.settings.grid.parametrizations:
            by_width = [samples(results, key, phase, name) for key in keys]
            width = {row['features']: row['width'] for row in networks(results, name)}
            for m in by_width[0]:
                means = [
                    centre(some.get(m, {}).values(), quantity_of(key))
                    for key, some in zip(keys, by_width, strict=True)
                ]
                limit = infinite_width(results, name, width[m], phase)
                rows.append({
                    'phase': phase, 'parametrization': name, 'm': m, 'gradient': means[0],
                    'limit': limit, 'lipschitz': means[1], 'kl': means[2],
                })  # fmt: skip
    return columns, rows


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
    yield Section('', [*_warnings(results), *answer(results, found)])
    yield page.claims_section(found, tables)
    yield Section('', [
        'Powers of theory are those of m → ∞, except for spectral products and movements, where '
        'they are the slope of a formula for finite m.'
    ])  # fmt: skip
    yield from page.picture_sections(draw(results, workdir / 'figures'))
    yield Section('All exponents', [write_table(tables, 'exponents', *exponents_table(results))])
    yield Section('Lipschitzness by width', [
        write_table(tables, 'lipschitz', *values_table(results)),
        'Geometric mean over seeds and its 95 % interval (Student’s t), test images.',
    ])  # fmt: skip
    yield how(results)


def _warnings(results: Found) -> list[str]:
    diverged = [row for row in networks(results) if row['natural_risk_test'] is None]
    if not diverged:
        return []
    listed = sorted({(row['parametrization'], row['phase']) for row in diverged})
    where = ', '.join(f'{NAMES[name]} ({describe(phase)})' for name, phase in listed)
    return [
        f'> **Warning.** {len(diverged)} trainings diverged, of {where}: nothing is fitted there. '
        'A lower training.speed may help.'
    ]


def is_complete(settings: Settings, cell: Any, found: Any) -> bool:
    """Whether a network has a row for each phase of the grid, which may have grown since."""
    return isinstance(cell, Limit) or set(settings.labels) <= {row['phase'] for row in found}


EXPERIMENT = Experiment(
    'ntk.studies.width.findings', Settings, lambda settings: settings.cells, Bench, claims, title,
    sections, is_complete, {'limits': 'infinite width', 'cells': 'networks'},
)  # fmt: skip
