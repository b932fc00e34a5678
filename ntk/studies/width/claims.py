"""The rows of a study of width: exponents with intervals, held against theory and the papers.

    study = read_study(Path('runs/ntk-width'))
    fit = exponent(study, 'gradient_rms_test', 'initialisation', 'ntk')      # Fit(0.01, -0.02, ...)
    for claim in evaluate(study): print(claim.verdict, claim.statement, claim.fit)

An exponent is the slope of log(quantity), averaged over seeds, against log(m), with the bootstrap
interval of `war_jax.measures.statistics.bootstrap_slope` over seeds. It agrees with a power of
theory if its interval lies within TOLERANCE of it, contradicts it if wholly outside of that, and is
undecided otherwise. A claim of growth or fall is decided as in `war_jax.studies.width.claims`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ntk.studies.width.settings import Cell, Settings, resolve_width
from ntk.studies.width.theory import INITIALISATION, Shape, expected_power, signed
from war_jax.measures.statistics import bootstrap_slope, mean_interval
from war_jax.records.files import ReportError, read_file, read_json, require
from war_jax.studies.width.claims import CONTRADICTED, SUPPORTED, UNDECIDED, decide

Row = dict[str, Any]
TOLERANCE = 0.1  # of an exponent
MIN_SEEDS = 3  # for a verdict: the bootstrap interval of two is much too narrow
LIMIT_TOLERANCE = 0.05  # of a gradient's RMS, relative to that of infinite width
RATES = ('natural_accuracy', 'robust_accuracy', 'perturbation_stability')


class Fit(NamedTuple):
    """The power of m, or for rates the change in points per doubling of m; and its interval."""

    value: float
    lower: float
    upper: float
    num_seeds: int


@dataclass(frozen=True)
class Study:
    settings: Settings
    provenance: Mapping[str, Any]
    rows: list[Row]  # of the cells in the grid that are finished
    limits: dict[tuple[str, float], dict[str, float | None]]  # parametrization, width
    missing: list[Cell]
    shape: Shape

    @property
    def phases(self) -> list[str]:
        return [INITIALISATION, *(phase.label for phase in self.settings.phases)]

    def samples(self, key: str, phase: str, name: str) -> dict[int, list[float]]:
        """m -> the seeds' finite values, for each m that has any."""
        found: dict[int, list[float]] = {}
        for row in self.of(phase, name):
            if row.get(key) is not None:
                found.setdefault(row['features'], []).append(row[key])
        return dict(sorted(found.items()))

    def of(self, phase: str, name: str) -> list[Row]:
        return [r for r in self.rows if (r['phase'], r['parametrization']) == (phase, name)]


@dataclass(frozen=True)
class Claim:
    name: str
    statement: str
    parametrization: str
    fit: Fit | None  # of what is claimed; None if it could not be computed
    unit: str
    expected: str
    verdict: str


def read_study(workdir: Path) -> Study:
    """Raises ReportError, one line, for files that cannot be read."""
    if not (workdir / 'study.json').is_file():
        raise ReportError(f'{workdir}: missing study.json; ntk.main writes it first')
    about = read_file(workdir / 'study.json', read_json)
    require(workdir / 'study.json', about, ('config', 'grid', 'provenance', 'shape'))
    settings = resolve_width({**about['config'], 'grid': about['grid']})
    rows, missing, limits = [], [], {}
    for cell in settings.cells:
        path = workdir / 'cells' / f'{cell.name}.json'
        if path.exists():
            rows += read_file(path, read_json)
        else:
            missing.append(cell)
        path = workdir / 'limits' / f'{cell.parametrization}-m{cell.width:g}.json'
        if path.exists():
            limits[cell.parametrization, cell.width] = read_file(path, read_json)
    order = {name: number for number, name in enumerate(settings.grid.parametrizations)}
    rows.sort(key=lambda row: (order[row['parametrization']], row['features'], row['seed']))
    shape = Shape(tuple(about['shape']['image']), about['shape']['num_outputs'])
    return Study(settings, about['provenance'], rows, limits, missing, shape)


def exponent(study: Study, key: str, phase: str, name: str) -> Fit | None:
    """None with fewer than two widths, and where a network has no positive, finite value.

    A network that diverged must not be left out: those that did not would speak for it.
    """
    rate = key.rpartition('_')[0] in RATES
    samples = study.samples(key, phase, name)
    if sum(map(len, samples.values())) < len(study.of(phase, name)):
        return None
    if len(samples) < 2 or (not rate and any(min(v) <= 0 for v in samples.values())):
        return None
    x = [math.log2(m) for m in samples]
    y = [100.0 * np.asarray(v) if rate else np.log2(v) for v in samples.values()]
    value, lower, upper = bootstrap_slope(x, [list(values) for values in y])
    return Fit(value, lower, upper, min(map(len, samples.values())))


def compare(fit: Fit | None, power: float) -> str:
    """Of the claim that an exponent is `power`."""
    if fit is None or fit.num_seeds < MIN_SEEDS:
        return UNDECIDED
    if power - TOLERANCE <= fit.lower and fit.upper <= power + TOLERANCE:
        return SUPPORTED
    outside = fit.upper < power - TOLERANCE or fit.lower > power + TOLERANCE
    return CONTRADICTED if outside else UNDECIDED


def evaluate(study: Study) -> list[Claim]:
    """In the order of the argument: the start, training, infinite width."""
    names = study.settings.grid.parametrizations
    claims = [claim for key, phase, text in _powers(study) for name in names
              for claim in _power(study, key, phase, name, text)]  # fmt: skip
    for phase in study.settings.phases:
        if phase.name.startswith('trades'):
            lam = f'TRADES training, λ = {phase.lam:g}{", lazy" if phase.lazy else ""}'
            for key, sign, text in (
                ('local_lipschitz_test', 1, 'local Lipschitzness on test images grows with width'),
                ('local_lipschitz_train', 1, 'local Lipschitzness on training images grows'),
                ('perturbation_stability_test', -1, 'stability on test images falls with width'),
            ):
                claims += [
                    _trend(study, key, sign, phase.label, name, f'After {lam}, {text}')
                    for name in names
                ]
    return claims + [claim for name in names for claim in _meets_limit(study, name)]


def _powers(study: Study) -> Iterator[tuple[str, str, str]]:
    """(quantity, phase, statement) of what theory says a power of."""
    yield 'gradient_rms_test', INITIALISATION, 'At the start, the RMS input gradient'
    yield 'spectral_product', INITIALISATION, 'At the start, the product of spectral norms'
    yield 'kernel_error', INITIALISATION, 'At the start, ‖Θ_m − Θ_∞‖ / ‖Θ_∞‖'
    for phase in study.settings.phases:
        if phase.lazy:
            continue
        after = f'After {"TRADES" if phase.lam else "natural"} training'
        after += f', λ = {phase.lam:g}' if phase.lam else ''
        yield 'gradient_rms_test', phase.label, f'{after}, the RMS input gradient'
        yield 'kernel_drift', phase.label, f'{after}, ‖Θ − Θ_0‖ / ‖Θ_0‖'
        yield 'linearisation_error', phase.label, f'{after}, the linearisation error'
        yield 'movement', phase.label, f'{after}, the relative movement of the weights'


def _power(study: Study, key: str, phase: str, name: str, text: str) -> Iterator[Claim]:
    expected = expected_power(key, phase, name, study.settings, study.shape)
    if expected is None:
        return
    power, source = expected
    fit = exponent(study, key, phase, name)
    verdict = compare(fit, power)
    statement = f'{text} goes as m^{signed(power)}'
    yield Claim(
        f'{key}-{phase}', statement, name, fit, 'power of m', f'{signed(power)}: {source}', verdict
    )


def _trend(study: Study, key: str, sign: int, phase: str, name: str, text: str) -> Claim:
    fit = exponent(study, key, phase, name)
    verdict = UNDECIDED
    if fit is not None and fit.num_seeds >= MIN_SEEDS:
        verdict = decide((fit.lower, fit.upper), sign)
    unit = 'points per doubling' if key.rpartition('_')[0] in RATES else 'power of m'
    # What they claim is of test images and ordinary training.
    theirs = key.endswith('_test') and '_lazy' not in phase
    source = 'Wu et al. 2021' if theirs else 'what the bound of Wu et al. 2021 suggests'
    expected = f'{"above" if sign > 0 else "below"} 0: {source}'
    return Claim(f'{key}-{phase}', text, name, fit, unit, expected, verdict)


def _meets_limit(study: Study, name: str) -> Iterator[Claim]:
    """How far the widest network's RMS gradient is from that of infinite width, in percent."""
    widest = study.settings.grid.widths[-1]
    limit = study.limits.get((name, widest), {})
    for phase, key, text in (
        (INITIALISATION, 'initial', 'At the start'),
        ('natural_lazy', 'trained', 'After lazy training on the squared loss'),
    ):
        values = list(study.samples('gradient_rms_test', phase, name).values())
        predicted = limit.get(key)
        if not values or predicted is None or len(values[-1]) < 2:
            continue
        # Squares, whose expectation is what is predicted.
        mean, lower, upper = mean_interval([(value / predicted) ** 2 for value in values[-1]])
        value, lower, upper = (
            100.0 * (math.sqrt(max(0.0, v)) - 1.0) if math.isfinite(v) else v
            for v in (mean, lower, upper)
        )
        fit = Fit(value, lower, upper, len(values[-1]))
        statement = (
            f'{text}, the RMS input gradient at width {widest:g} is that of infinite width, '
            f'within {100 * LIMIT_TOLERANCE:g} %'
        )
        percent = 100.0 * LIMIT_TOLERANCE
        within = -percent <= fit.lower and fit.upper <= percent
        excluded = fit.lower > percent or fit.upper < -percent
        verdict = SUPPORTED if within else CONTRADICTED if excluded else UNDECIDED
        yield Claim(
            f'limit-{phase}', statement, name, fit, 'percent', f'0 (RMS {predicted:.4g})', verdict
        )


