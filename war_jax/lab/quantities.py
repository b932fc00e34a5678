"""Every quantity that experiments measure, in one place: its name, its unit, what it means.

    quantity('local_lipschitz_test').title            # 'Local Lipschitzness, output ratio, test'
    band(samples, quantity('robust_accuracy'))        # Band(x, mean, lower, upper), for a line
    centre([2.0, 8.0], quantity('local_lipschitz'))   # (4.0, lower, upper): a geometric mean

A key may end in _train or _test, the images that a quantity was measured on, in _last, of the
network that training ended with, in _all, under all attacks together, or in _matched, at the same
training loss. What differs by factors between networks (norms, risks, their ratio) is averaged in
logarithms, drawn on a logarithmic axis, and changes with width as a power; what is a rate or a
cosine is averaged as it is and changes by so much per doubling.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from war_jax.lab.estimates import BySeed, Estimate, Samples, change, power
from war_jax.measures.statistics import geometric_interval, mean_interval

Interval = tuple[float, float, float]  # mean, lower, upper
RATE, COSINE, NATS, RATIO, NORM = 'share of the images', 'cosine', 'nats', 'ratio', 'norm'
DIFFERENCE = 'difference of two shares'
LOGITS, SLOPE = 'logits', 'logits per unit of input'
NATS_SLOPE, RELATIVE_SLOPE = 'nats per unit of input', 'per unit of input'


class Quantity(NamedTuple):
    key: str
    title: str
    unit: str
    by_factors: bool
    meaning: str

    @property
    def is_rate(self) -> bool:
        return self.unit == RATE


class Band(NamedTuple):
    """A line and what lies around it; NaN is a gap."""

    x: Sequence[float]
    mean: Sequence[float]
    lower: Sequence[float]
    upper: Sequence[float]


_LISTED = (
    Quantity('natural_accuracy', 'Natural accuracy', RATE, False, 'f(x) = y'),
    Quantity(
        'robust_accuracy', 'Robust accuracy', RATE, False,
        'f(x′) = y at x and at every x′ that the attack found in the ball',
    ),
    Quantity(
        'perturbation_stability', 'Perturbation stability', RATE, False,
        'f(x′) = f(x) at every x′ that the attack found in the ball',
    ),
    Quantity(
        'autoattack_accuracy', 'Robust accuracy, AutoAttack', RATE, False,
        'f(x) = y at x and at every x′ that AutoAttack found in the ball (Croce and Hein 2020)',
    ),
    Quantity(
        'local_lipschitz', 'Local Lipschitzness, output ratio', SLOPE, True,
        'mean over images of max ‖f(x) − f(x′)‖₁ / ‖x − x′‖ in the ball (Yang et al. 2020)',
    ),
    Quantity(
        'local_lipschitz_start', 'Local Lipschitzness at the start, output ratio', SLOPE, True,
        'the same before the first step, norms on the moments of one batch of training images',
    ),
    Quantity(
        'local_lipschitz_kl_gradient', 'Local Lipschitzness, KL gradient', NATS_SLOPE, True,
        'mean over images of max ‖∇ KL(f(x) ‖ f(x′))‖₁ over the steps of an attack '
        '(Wu et al. 2021)',
    ),
    Quantity(
        'margin', 'Margin', LOGITS, True,
        'mean over images of the largest logit minus the runner-up',
    ),
    Quantity(
        'lipschitz_by_margin', 'Local Lipschitzness ÷ margin', RELATIVE_SLOPE, True,
        'local Lipschitzness (output ratio) divided by the margin of the logits, both means over '
        'the same images: it does not change if all logits are multiplied by a factor',
    ),
    Quantity(
        'robust_overfitting', 'Robust overfitting', DIFFERENCE, False,
        'robust accuracy of the best network on validation images minus that of the last one',
    ),
    Quantity(
        'matched_loss', 'Training loss', NATS, True,
        'natural risk + λ · robust regularization, the smallest that all networks compared reach',
    ),
    Quantity(
        'natural_risk', 'Natural risk', NATS, True, 'mean cross-entropy of the label, in nats'
    ),
    Quantity(
        'robust_regularization', 'Robust regularization', NATS, True,
        'mean over images of what λ multiplies: for TRADES KL(f(x) ‖ f(x′))',
    ),
    Quantity(
        'risk_ratio', 'Risk ratio', RATIO, True, 'natural risk / robust regularization'
    ),
    Quantity('lambda', 'λ', RATIO, True, 'weight of the robust regularization'),
    Quantity('final_lambda', 'λ at the end', RATIO, True, 'where WAR ended, else λ itself'),
    Quantity(
        'kernel_drift', 'Kernel drift', RATIO, True,
        '‖Θ_t − Θ_0‖_F / ‖Θ_0‖_F, Θ the empirical NTK',
    ),
    Quantity(
        'kernel_error', 'Distance of the kernel to infinite width', RATIO, True,
        '‖Θ_m − Θ_∞‖_F / ‖Θ_∞‖_F at the start',
    ),
    Quantity(
        'kernel_alignment', 'Alignment with the first kernel', COSINE, False,
        'cosine ⟨Θ_t, Θ_0⟩_F / (‖Θ_t‖ ‖Θ_0‖)',
    ),
    Quantity(
        'label_alignment', 'Alignment with the labels', COSINE, False,
        'cosine of Θ_t and Y Yᵀ, Y the one-hot labels, both centred over the images (Cortes, Mohri '
        'and Rostamizadeh 2012)',
    ),
    Quantity(
        'kernel_trace', 'Kernel trace per image', 'squared logits', True,
        'tr Θ_t / number of images',
    ),
    Quantity(
        'weight_movement', 'Movement of the weights', RATIO, True,
        '‖w_t − w_0‖₂ / ‖w_0‖₂, all trained parameters',
    ),
    Quantity(
        'linearisation_error', 'Error of the linearisation', RATIO, True,
        '‖f − f_lin‖ / ‖f − f₀‖, f_lin the first Taylor polynomial in the weights at the start',
    ),
    Quantity(
        'output_gradient', 'Input gradient of the outputs', SLOPE, True,
        'root mean square over images and outputs of ‖∇ₓ f_c(x)‖₂',
    ),
    Quantity(
        'loss_gradient', 'Input gradient of the loss', NATS_SLOPE, True,
        'mean over images of the dual norm of the gradient in x of the label’s cross-entropy',
    ),
    Quantity(
        'loss_gradient_ball', 'Largest gradient of the loss in the ball', NATS_SLOPE, True,
        'mean over images of the largest dual norm of ∇ₓ of the cross-entropy met in the ball',
    ),
    Quantity(
        'spectral_product', 'Product of spectral norms', SLOPE, True,
        'upper bounds of the layers’ norms, multiplied: at least the Lipschitz constant of the '
        'logits, L2 (Szegedy et al. 2014)',
    ),
)  # fmt: skip
QUANTITIES = {listed.key: listed for listed in _LISTED}
# The three rates that an attack gives, in the order of every table.
RATES = ('natural_accuracy', 'robust_accuracy', 'perturbation_stability')


def quantity(key: str) -> Quantity:
    """Raises KeyError for one that is not here."""
    base, _, side = key.rpartition('_')
    if side in ('train', 'test', 'last', 'all', 'matched'):
        found = QUANTITIES[base]
        return found._replace(key=key, title=f'{found.title}, {side}')
    return QUANTITIES[key]


def centre(values: Iterable[float], of: Quantity) -> Interval | None:
    """Mean over seeds with its 95 % interval, geometric for what differs by factors; None without a
    value that counts. That of a rate ends at 0 and 1; that of one value is infinite."""
    listed = list(values)
    if of.by_factors:
        listed = [value for value in listed if value > 0]
        return geometric_interval(listed) if listed else None
    if not listed:
        return None
    mean, lower, upper = mean_interval(listed)
    if of.is_rate and math.isfinite(upper):
        return mean, max(0.0, lower), min(1.0, upper)
    return mean, lower, upper


def band(samples: Mapping[float, BySeed], of: Quantity) -> Band | None:
    """Along x, in order; None where there is nothing to draw."""
    means = {x: centre(by_seed.values(), of) for x, by_seed in sorted(samples.items())}
    shown = {x: mean for x, mean in means.items() if mean is not None}
    return Band(list(shown), *map(list, zip(*shown.values(), strict=True))) if shown else None


def envelope(
    runs: Sequence[Sequence[Mapping[str, Any]]], key: str, geometric: bool = False
) -> Band:
    """Mean, lowest and highest run over the epochs that all runs have; a null is a gap.

    runs: of each its rows, with 'epoch' and perhaps `key`.
    """
    by_run = [{row['epoch']: row.get(key) for row in run} for run in runs]
    epochs = sorted(set.intersection(*map(set, by_run)))
    values = np.array(
        [[math.nan if run[e] is None else run[e] for e in epochs] for run in by_run], float
    ).reshape(len(by_run), len(epochs))
    if geometric:
        values = np.where(values > 0, values, math.nan)
        mean = np.exp(np.log(values).mean(axis=0))
    else:
        mean = values.mean(axis=0)
    return Band(epochs, mean.tolist(), values.min(axis=0).tolist(), values.max(axis=0).tolist())


def with_width(samples: Samples, of: Quantity) -> Estimate | None:
    """How it changes with x: the power of what differs by factors, else the change per doubling, of
    rates in points."""
    if of.by_factors:
        return power(samples)
    return change(samples, 100.0 if of.is_rate else 1.0)
