"""The tables of a study of width: all exponents, and Lipschitzness by width."""

from typing import Any

from ntk.studies.width.claims import TOLERANCE, expected, exponent
from ntk.studies.width.measure import MEASURED
from ntk.studies.width.pictures import (
    NAMES,
    Found,
    infinite_width,
    networks,
    quantity_of,
    samples,
)
from ntk.studies.width.theory import signed
from war_jax.lab.quantities import centre
from war_jax.lab.tables import Column, factor_mean, small, small_interval
from war_jax.lab.verdicts import judge, near

_OF_NETWORK = (
    'spectral_product', 'kernel_error', 'kernel_drift', 'linearisation_error', 'movement',
)  # fmt: skip
QUANTITIES = (*(f'{name}_{side}' for name in MEASURED for side in ('train', 'test')), *_OF_NETWORK)


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
                theory, _ = expected(results, key, phase, name) or (None, '')
                verdict = None if theory is None else judge(power, near(theory, TOLERANCE)).word
                rows.append({
                    'quantity': key, 'phase': phase, 'parametrization': name,
                    'value': power.value, 'interval': power.interval, 'theory': theory,
                    'verdict': verdict,
                })  # fmt: skip
    return columns, rows


def values_table(results: Found) -> tuple[list[Column], list[dict[str, Any]]]:
    """Geometric means over seeds; test images but for the risk."""
    keys = (
        'natural_risk_train', 'gradient_rms_test', 'local_lipschitz_test', 'margin_test',
        'lipschitz_by_margin_test',
    )  # fmt: skip
    columns = [
        Column('phase', 'Phase', align='l'),
        Column('parametrization', 'Parametrization', lambda name: NAMES[name], 'l'),
        Column('m', 'm'),
        Column('natural_risk_train', 'Training risk', factor_mean),
        Column('gradient_rms_test', 'RMS ‖∇f‖₂', factor_mean),
        Column('limit', 'at infinite width', '{:.3g}'.format),
        Column('local_lipschitz_test', 'Local Lipschitzness', factor_mean),
        Column('margin_test', 'Margin', factor_mean),
        Column('lipschitz_by_margin_test', 'Lipschitzness ÷ margin', factor_mean),
    ]
    rows = []
    for phase in results.settings.labels:
        for name in results.settings.grid.parametrizations:
            by_width = [samples(results, key, phase, name) for key in keys]
            width = {row['features']: row['width'] for row in networks(results, name)}
            for m in by_width[0]:
                means = {
                    key: centre(some.get(m, {}).values(), quantity_of(key))
                    for key, some in zip(keys, by_width, strict=True)
                }
                limit = infinite_width(results, name, width[m], phase)
                rows.append({
                    'phase': phase, 'parametrization': name, 'm': m, 'limit': limit, **means,
                })  # fmt: skip
    return columns, rows
