"""The claims of a study of width, decided: exponents against theory, and what training adds.

    exponent(results, 'gradient_rms_test', 'initialisation', 'ntk')     # Estimate of a power
    for claim in claims(results): print(claim.verdict, claim.statement)

Theory says a power of the width m for many quantities: a claim that the measured one is within
TOLERANCE of it. Wu et al. 2021 say that after TRADES local Lipschitzness grows with width and
stability falls. After as many steps at one learning rate, networks of different widths fit
differently; so the same is asked at equal kernel time and at equal risk on the training images, and
of Lipschitzness ÷ margin, which larger outputs alone do not change. And the widest networks are
held against infinite width itself.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from ntk.studies.width.pictures import (
    NAMES,
    Found,
    infinite_width,
    networks,
    quantity_of,
    samples,
)
from ntk.studies.width.settings import INITIALISATION, Phase, Settings
from ntk.studies.width.theory import Shape, expected_power, signed
from war_jax.lab.estimates import Estimate, changes, over_seeds, paired, powers
from war_jax.lab.verdicts import ABOVE, BELOW, Claim, Range, claim, judge, near

TOLERANCE = 0.1  # of an exponent
LIMIT_TOLERANCE = 0.05  # of a gradient's RMS, relative to that of infinite width
_COMPARED = {
    'trades': 'after as many steps at one learning rate',
    'trades_lazy': 'after as many steps at one learning rate, lazy',
    'trades_timed': 'at equal kernel time',
    'trades_matched': 'at equal training risk',
}


def exponent(results: Found, key: str, phase: str, name: str) -> Estimate | None:
    """The power of m, of rates the change in points per doubling; by parametrization and phase.

    None where `by_seed` has no seed.
    """
    return over_seeds(list(by_seed(results, key, phase, name).values()))


def by_seed(results: Found, key: str, phase: str, name: str) -> dict[int, float]:
    """seed -> the slope against width.

    Empty with fewer than two widths, and where a network has no positive, finite value: one that
    diverged must not be left out, since those that did not would speak for it.
    """
    rows = [row for row in networks(results, name) if row['phase'] == phase]
    if any(row.get(key) is None for row in rows):
        return {}
    found, of = samples(results, key, phase, name), quantity_of(key)
    return powers(found) if of.by_factors else changes(found, 100.0 if of.is_rate else 1.0)


def claims(results: Found) -> Iterator[Claim]:
    """In the order of the argument: the start, training, infinite width."""
    names = results.settings.grid.parametrizations
    for key, phase, text in _powers(results.settings):
        for name in names:
            yield from _power(results, key, phase, name, text)
    for phase in results.settings.phases:
        if phase.name.startswith('trades'):
            for name in names:
                yield from _of_trades(results, phase, name)
    if 'standard' in names:
        yield from _survives(results)
    for name in names:
        yield from _meets_limit(results, name)


def _of_trades(results: Found, phase: Phase, name: str) -> Iterator[Claim]:
    """What Wu et al. 2021 say of test images; on training images that their bound suggests."""
    after = f'After TRADES, λ = {phase.lam:g}, {_COMPARED[phase.name]}'
    listed = [
        ('local_lipschitz_test', ABOVE, 'power of m',
         'local Lipschitzness on test images grows with width'),
        ('lipschitz_by_margin_test', ABOVE, 'power of m',
         'local Lipschitzness ÷ margin on test images grows with width'),
        ('perturbation_stability_test', BELOW, 'points per doubling',
         'stability on test images falls with width'),
    ]  # fmt: skip
    if not phase.own_rate:
        text = 'local Lipschitzness on training images grows'
        listed.insert(1, ('local_lipschitz_train', ABOVE, 'power of m', text))
    for key, claimed, unit, text in listed:
        # What they claim is of test images and ordinary training.
        theirs = key.endswith('_test') and not phase.lazy
        source = 'Claimed by' if theirs else 'Suggested by the bound of'
        yield claim(
            f'{key}-{phase.label}-{name}', f'{after}, {text} ({NAMES[name]})',
            exponent(results, key, phase.label, name), claimed, unit,
            how=f'{source} Wu et al. 2021.',
        )  # fmt: skip


def _survives(results: Found) -> Iterator[Claim]:
    """Of what width does at one learning rate, how much goes away once networks fit alike.

    In the standard parametrization, whose kernel grows with the width where its learning rate does
    not: wider networks are further in their training after as many steps.
    """
    for phase in results.settings.phases:
        at_one_rate = Phase('trades', phase.lam)
        if not phase.own_rate or at_one_rate not in results.settings.phases:
            continue
        for key, unit, wanted, text in (
            ('local_lipschitz_test', 'power of m', BELOW,
             'local Lipschitzness on test images grows less with width'),
            ('lipschitz_by_margin_test', 'power of m', BELOW,
             'local Lipschitzness ÷ margin on test images grows less with width'),
            ('perturbation_stability_test', 'points per doubling', BELOW,
             'stability on test images gains less with width'),
        ):  # fmt: skip
            alike, one_rate = (
                by_seed(results, key, label, 'standard')
                for label in (phase.label, at_one_rate.label)
            )
            yield claim(
                f'{key}-{phase.label}-less-than-at-one-rate-standard',
                f'TRADES, λ = {phase.lam:g}: {_COMPARED[phase.name]} {text} than '
                f'{_COMPARED["trades"]} (standard)',
                paired(alike, one_rate), wanted, unit,
                how='Difference of the slopes against width, paired by seed.',
            )  # fmt: skip


def _powers(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """(quantity, phase, statement) of what theory says a power of."""
    yield 'gradient_rms_test', INITIALISATION, 'At the start, the RMS input gradient'
    yield 'spectral_product', INITIALISATION, 'At the start, the product of spectral norms'
    yield 'kernel_error', INITIALISATION, 'At the start, ‖Θ_m − Θ_∞‖ / ‖Θ_∞‖'
    for phase in settings.phases:
        if phase.lazy or phase.own_rate:
            continue
        after = f'After {"TRADES" if phase.lam else "natural"} training'
        after += f', λ = {phase.lam:g}' if phase.lam else ''
        yield 'gradient_rms_test', phase.label, f'{after}, the RMS input gradient'
        yield 'kernel_drift', phase.label, f'{after}, ‖Θ − Θ_0‖ / ‖Θ_0‖'
        yield 'linearisation_error', phase.label, f'{after}, the linearisation error'
        yield 'movement', phase.label, f'{after}, the relative movement of the weights'


def expected(results: Found, key: str, phase: str, name: str) -> tuple[float, str] | None:
    shape = Shape(**results.about['shape'])
    return expected_power(key, phase, name, results.settings, shape)


def _power(results: Found, key: str, phase: str, name: str, text: str) -> Iterator[Claim]:
    theory = expected(results, key, phase, name)
    if theory is None:
        return
    power, source = theory
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
