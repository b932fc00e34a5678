"""What is measured of a probe, and how it changes with width and over training.

    change = changes(rows)                       # exponents of the width, with intervals
    bands = by_width(rows, 'kernel_drift')       # lambda -> its line, for the figures

Of quantities that differ by factors, means over seeds are geometric and the change with width is an
exponent; of the others (cosines and rates, within [-1, 1]) it is a slope against log2 of the width.

Runs of constant lambda are compared; those with WAR stand in the table of all probes only. An
effect is computed for each seed from that seed's own runs at all widths, and the interval is
Student's over the seeds, at 95 %. Each stands alone: none is widened for the number of quantities.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from war_jax.measures.statistics import geometric_interval, mean_interval
from war_jax.studies.width.claims import EXPONENT, slopes_of_cells
from war_jax.studies.width.figures import Band
from war_jax.studies.width.results import FIXED, fixed, widths
from war_jax.studies.width.series import envelope

Row = dict[str, Any]
Interval = tuple[float, float, float]  # mean, lower, upper
START, END = 'at initialisation', 'after training'
PER_DOUBLING = 'per doubling of the width'


class Quantity(NamedTuple):
    title: str
    by_factors: bool
    from_start: bool  # compared with the first step, where it is 0 or 1 by definition
    meaning: str


_RATIO = 'mean over images of max ‖f(x) − f(x′)‖₁ / ‖x − x′‖ in the run’s ball (Yang et al. 2020)'
_KL = 'mean over images of max ‖∇ KL(f(x) ‖ f(x′))‖₁ over the steps of an attack (Wu et al. 2021)'
_OUTPUT = 'root mean square over images and outputs of ‖∇ₓ f_c(x)‖₂'
_LOSS = 'mean over images of the dual norm of the gradient in x of the label’s cross-entropy'
_RISK = 'mean cross-entropy of the label, in nats'
_NATURAL = 'f(x) = y'
_ROBUST = 'f(x′) = y at x and under one PGD attack on the cross-entropy'

QUANTITIES = {
    'kernel_drift': Quantity(
        'Kernel drift', True, True, '‖Θ_t − Θ_0‖_F / ‖Θ_0‖_F, Θ the empirical NTK'
    ),
    'kernel_alignment': Quantity(
        'Alignment with the first kernel', False, True, 'cosine ⟨Θ_t, Θ_0⟩_F / (‖Θ_t‖ ‖Θ_0‖)'
    ),
    'label_alignment': Quantity(
        'Alignment with the labels', False, False,
        'cosine of Θ_t and Y Yᵀ, Y the one-hot labels, both centred over the images (Cortes, Mohri '
        'and Rostamizadeh 2012)',
    ),
    'kernel_trace': Quantity(
        'Kernel trace per image', True, False, 'tr Θ_t / number of images'
    ),
    'weight_movement': Quantity(
        'Movement of the weights', True, True, '‖w_t − w_0‖₂ / ‖w_0‖₂, all trained parameters'
    ),
    'output_gradient_train': Quantity('Input gradient, train', True, False, _OUTPUT),
    'output_gradient_test': Quantity('Input gradient, test', True, False, _OUTPUT),
    'loss_gradient_train': Quantity('Loss gradient, train', True, False, _LOSS),
    'loss_gradient_test': Quantity('Loss gradient, test', True, False, _LOSS),
    'local_lipschitz_train': Quantity('Lipschitz (ratio), train', True, False, _RATIO),
    'local_lipschitz_test': Quantity('Lipschitz (ratio), test', True, False, _RATIO),
    'local_lipschitz_kl_gradient_train': Quantity('Lipschitz (KL), train', True, False, _KL),
    'local_lipschitz_kl_gradient_test': Quantity('Lipschitz (KL), test', True, False, _KL),
    'spectral_product': Quantity(
        'Product of spectral norms', True, False,
        'upper bound of the logits’ Lipschitz constant (L2), layer by layer (Szegedy et al. 2014)',
    ),
    'natural_risk_train': Quantity('Natural risk, train', True, False, _RISK),
    'natural_risk_test': Quantity('Natural risk, test', True, False, _RISK),
    'natural_accuracy_train': Quantity('Natural accuracy, train', False, False, _NATURAL),
    'natural_accuracy_test': Quantity('Natural accuracy, test', False, False, _NATURAL),
    'robust_accuracy_train': Quantity('Robust accuracy, train', False, False, _ROBUST),
    'robust_accuracy_test': Quantity('Robust accuracy, test', False, False, _ROBUST),
}  # fmt: skip
COLUMNS = (
    'run',
    'method',  # 'fixed' lambda, or by what target WAR moves it
    'depth',
    'widen_factor',
    'seed',
    'lambda',  # at the start of training
    'step',
    'epoch',
    'last_step',  # of the whole training: the probe at it is of the trained network
    *QUANTITIES,
    'num_train',  # images measured on
    'num_test',
    'epsilon',
    'norm',
    'digest',  # of the run and of the settings that the numbers depend on
    'seconds',  # of this measurement, with compilation if it was the first of its kind
    'device',
    'commit',
)


@dataclass(frozen=True)
class Change:
    """Of one quantity with width."""

    quantity: str
    when: str  # START or END
    lam: float | None  # None: at the start, before lambda matters; or the mean over `lams`
    lams: tuple[float, ...]  # over which it is a mean
    effect: Interval
    unit: str
    num_seeds: int


def trained(rows: Iterable[Row]) -> list[Row]:
    """The last probe of each run that was trained to its end."""
    return [row for row in rows if row['step'] == row['last_step']]


def initial(rows: Iterable[Row]) -> list[Row]:
    """One row per width and seed: lambda has not mattered yet, and all its runs begin alike."""
    found: dict[tuple[float, int], Row] = {}
    for row in rows:
        if row['step'] == 0:
            found.setdefault((row['widen_factor'], row['seed']), row)
    return list(found.values())


def over_seeds(rows: Iterable[Row], key: str) -> Interval | None:
    """(mean, lower, upper), geometric for what differs by factors; None if no row has a value."""
    values = [row[key] for row in rows if row[key] is not None]
    if QUANTITIES[key].by_factors:
        values = [value for value in values if value > 0]
        return geometric_interval(values) if values else None
    return mean_interval(values) if values else None


def by_width(rows: Sequence[Row], key: str) -> dict[float, Band]:
    """lambda -> its line over the widths, after training."""
    groups: dict[float, dict[float, list[Row]]] = {}
    for (width, lam, _), row in sorted(fixed(trained(rows)).items()):
        groups.setdefault(lam, {}).setdefault(width, []).append(row)
    return {lam: band for lam, points in groups.items() if (band := _band(points, key))}


def at_start(rows: Sequence[Row], key: str) -> Band | None:
    """The line over the widths before training; None for what is 0 or 1 by definition there."""
    points: dict[float, list[Row]] = {}
    for row in sorted(initial(rows), key=lambda row: row['widen_factor']):
        points.setdefault(row['widen_factor'], []).append(row)
    return None if QUANTITIES[key].from_start else _band(points, key)


def by_epoch(rows: Sequence[Row], width: float, key: str) -> dict[float, Band]:
    """lambda -> its line over the epochs at one width: mean, lowest and highest seed."""
    groups: dict[float, dict[int, list[Row]]] = {}
    for row in rows:
        if row['method'] == FIXED and row['widen_factor'] == width:
            groups.setdefault(row['lambda'], {}).setdefault(row['seed'], []).append(row)
    return {
        lam: envelope(list(runs.values()), key, geometric=QUANTITIES[key].by_factors)
        for lam, runs in sorted(groups.items())
    }


def changes(rows: Sequence[Row]) -> list[Change]:
    """Of every quantity: at the start, after training at each lambda, and there on average."""
    return [change for key in QUANTITIES for change in _changes(rows, key)]


def slopes(
    cells: Mapping[tuple[float, float, int], Row], all_widths: Sequence[float], key: str
) -> dict[float, dict[int, float]]:
    """lambda -> seed -> change with width, for the seeds that have a value at every width.

    What differs by factors: slope of the least-squares line through the logarithms, the exponent;
    else the slope against log2 of the width.
    """
    factor = None if QUANTITIES[key].by_factors else 1.0
    return slopes_of_cells(cells, all_widths, key, factor)


def _changes(rows: Sequence[Row], key: str) -> list[Change]:
    ends = trained(rows)
    by_lambda = slopes(fixed(ends), widths(ends), key)
    found = [_change(key, END, lam, (lam,), by_seed) for lam, by_seed in by_lambda.items()]
    seeds = set.intersection(*map(set, by_lambda.values())) if by_lambda else set()
    if len(by_lambda) > 1 and seeds:
        means = {
            seed: math.fsum(by_seed[seed] for by_seed in by_lambda.values()) / len(by_lambda)
            for seed in sorted(seeds)
        }
        found.append(_change(key, END, None, tuple(by_lambda), means))
    if not QUANTITIES[key].from_start:
        cells = {(row['widen_factor'], 0.0, row['seed']): row for row in initial(rows)}
        all_widths = sorted({width for width, _, _ in cells})
        for by_seed in slopes(cells, all_widths, key).values():
            found.insert(0, _change(key, START, None, (), by_seed))
    return found


def _change(
    key: str, when: str, lam: float | None, lams: tuple[float, ...], by_seed: Mapping[int, float]
) -> Change:
    unit = EXPONENT if QUANTITIES[key].by_factors else PER_DOUBLING
    return Change(
        key, when, lam, lams, mean_interval(list(by_seed.values())), unit, len(by_seed)
    )


def _band(points: Mapping[float, Sequence[Row]], key: str) -> Band | None:
    means = {at: over_seeds(rows, key) for at, rows in points.items()}
    shown = {at: mean for at, mean in means.items() if mean is not None}
    return Band(list(shown), *map(list, zip(*shown.values(), strict=True))) if shown else None
