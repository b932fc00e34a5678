"""What theory says of each quantity: powers of the width, and the values at infinite width.

    power, source = expected_power('gradient_rms_test', 'initialisation', 'mup', settings, shape)
    kernel_fn = limit_kernel(settings, scales, learning_rate)
    limits = gradient_limits(kernel_fn, TrainingData(x_train, targets, x_test, True), num_steps)

A network of width m in any parametrization starts as `output_scale` times one in the NTK
parametrization, and its NTK is sum_l rate_l Theta_l (`ntk.networks.parametrization`). With Theta_l
at its infinite-width value this is the limit to which width m is compared, for all parametrizations
alike: at the start, and after lazy training on the squared loss, which solves a linear equation in
Theta.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntk.infinite import Kernel, fully_connected, wide_resnet
from ntk.infinite.predictions import initial_mean_square, trained_gradients
from ntk.networks import weight_shapes
from ntk.networks.parametrization import PARAMETRIZATIONS, Scales
from ntk.studies.width.settings import INITIALISATION, Settings
from ntk.studies.width.training import make_model
from war_jax.measures.statistics import slope

# Parametrizations whose training has a limit of infinite width, frozen (lazy) or not.
_KERNEL_LIMIT, _FEATURE_LIMIT = ('ntk', 'sqrt_m'), ('mup',)
_OF_GRADIENTS = (
    'gradient_rms', 'loss_gradient', 'loss_gradient_ball', 'local_lipschitz',
    'local_lipschitz_kl_gradient',
)  # fmt: skip
_OF_OUTPUTS = (*_OF_GRADIENTS, 'natural_risk')


@dataclass(frozen=True)
class LimitKernel:
    """NNGP kernel and NTK that networks of these scales approach; called as neural-tangents' are.

    kernel: of the network in the NTK parametrization; rate: what its NTK is multiplied by, beyond
    the rates of its layers.
    """

    kernel: Kernel
    rate: float
    output_scale: float

    def __call__(self, x1: Array, x2: Array | None = None, get: str = 'ntk') -> Array:
        """(n, ...), (m, ...) -> (n, m); get is 'nngp' or 'ntk'."""
        factor = self.output_scale**2 if get == 'nngp' else self.rate
        return factor * self.kernel(x1, x2, get)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What networks are trained and measured on; smooth: their activation has no kink."""

    x_train: np.ndarray
    targets: np.ndarray  # (n, outputs)
    x_test: np.ndarray
    smooth: bool


class Shape(NamedTuple):
    """Of the data."""

    image: tuple[int, ...]  # (h, w, c)
    num_outputs: int


class GradientLimits(NamedTuple):
    """RMS over examples and outputs of ||grad_x f_c||_2, at infinite width."""

    initial: float
    # After lazy training on the squared loss; None where that diverges at infinite width, as it can
    # with a learning rate tuned at a very small one.
    trained: float | None


def scales_of(settings: Settings, name: str, width: float, shape: Shape) -> Scales:
    """Of the networks of a width in the parametrization of that name."""
    network = settings.network
    model = make_model(network, width, shape.num_outputs)
    return PARAMETRIZATIONS[name].scales(
        model, shape.image, network.weight_variance, network.output_variance
    )


def features_of(scales: Scales) -> int:
    """m: how many units or channels the last layer sees."""
    return round(scales.fan_ins['head']['kernel'])


def limit_kernel(
    settings: Settings, scales: Scales, learning_rate: float = 1.0
) -> LimitKernel | None:
    """Its NTK times learning_rate; None for a WideResNet unless all its layers learn alike.

    Kernels that differ by rounding only are equal.
    """
    network = settings.network
    variances = (network.weight_variance, network.output_variance)
    rates = {name: float(f'{learning_rate * scales.rate(name):.9g}') for name in scales.stds}
    output_scale = float(f'{scales.output_scale:.9g}')
    if network.kind == 'fcn':
        inner = [f'layer{number}' for number in range(1, network.num_layers)]
        in_order = tuple(rates[layer] for layer in (*inner, 'head'))
        kernel = fully_connected(network.num_layers, network.activation, *variances, in_order)
        return LimitKernel(kernel, 1.0, output_scale)
    if len(set(rates.values())) > 1:
        return None
    kernel = wide_resnet(network.depth, network.strides, network.activation, *variances)
    return LimitKernel(kernel, rates['head'], output_scale)


@lru_cache(maxsize=64)
def gradient_limits(kernel: LimitKernel, data: TrainingData, num_steps: int) -> GradientLimits:
    """kernel: that of `limit_kernel` with the learning rate in it."""
    initial = _rms(initial_mean_square(kernel, data.x_test))
    largest = np.linalg.eigvalsh(np.asarray(kernel(jnp.asarray(data.x_train)), np.float64))[-1]
    if largest >= 2 * len(data.x_train):
        return GradientLimits(initial, None)
    trained = trained_gradients(
        kernel, data.x_train, data.targets, data.x_test, 1.0, num_steps, smooth=data.smooth
    )
    return GradientLimits(initial, _rms(trained.mean_square))


def _rms(squares: np.ndarray) -> float:
    return float(np.sqrt(squares.mean()))


def expected_power(
    key: str, phase: str, name: str, settings: Settings, shape: Shape
) -> tuple[float, str] | None:
    """(power of the width m, where it is from), or None where theory says nothing.

    key: a column of the rows, with '_train' or '_test' at its end where it has a split. phase:
    'initialisation' or the label of a `Phase`. name: of the parametrization. Powers are those of
    m -> infinity, but where a formula for finite m is known: then they are the slope of it at the
    widths of the study.
    """
    base = key.removesuffix('_train').removesuffix('_test')
    phase = phase.partition('-')[0]
    if phase == INITIALISATION:
        return _at_initialisation(base, name, settings, shape)
    if base in ('movement', 'kernel_drift', 'linearisation_error'):
        return _of_change(base, phase, name, settings, shape)
    lazy = phase.endswith('_lazy')
    if name in _KERNEL_LIMIT and base in _OF_OUTPUTS:
        return 0.0, 'the outputs have a limit of infinite width, kernel regression or its like'
    if name in _FEATURE_LIMIT and not lazy and base in _OF_OUTPUTS:
        return 0.0, 'the outputs have a limit of infinite width (Yang & Hu 2021)'
    return None


def _at_initialisation(
    base: str, name: str, settings: Settings, shape: Shape
) -> tuple[float, str] | None:
    power = PARAMETRIZATIONS[name].gradient_power
    if base == 'gradient_rms':
        return power, 'E‖∇f‖² = tr ∂²K/∂x∂x′ with the variance of the outputs'
    if base == 'local_lipschitz':
        return power, 'outputs are a Gaussian process whose scale is that of the gradient'
    if base == 'spectral_product' and settings.network.kind == 'fcn':
        # Norms of Gaussian matrices m x d, m x m and k x m in the standard parametrization.
        size = math.prod(shape.image)
        norms = [
            m**power * (1 + math.sqrt(m / size)) * (1 + math.sqrt(shape.num_outputs / m))
            for m in settings.grid.widths
        ]
        at_last = signed(power + 0.5)
        return _slope(settings, norms), f'norms of Gaussian matrices; m^{at_last} as m → ∞'
    if base == 'kernel_error':
        return -0.5, 'fluctuations of sums of m terms'
    return None


def _of_change(
    base: str, phase: str, name: str, settings: Settings, shape: Shape
) -> tuple[float, str] | None:
    lazy = phase.endswith('_lazy')
    if name not in (*_KERNEL_LIMIT, *(() if lazy else _FEATURE_LIMIT)):
        return None
    if base == 'movement':
        # Of f by O(1), along gradients whose length in the trained weights is of order m^power.
        power = {'ntk': 0.0, 'sqrt_m': -0.5, 'mup': 0.0}[name]
        lengths = _lengths(name, settings, shape)
        shares = [m**power / length for m, length in lengths]
        return _slope(settings, shares), '‖Δw‖ of order m^' + signed(power) + ', over ‖w₀‖'
    if lazy:
        return None
    if name in _FEATURE_LIMIT:
        return 0.0, 'features are learned at any width (Yang & Hu 2021)'
    if is_smooth(settings.network.activation):
        return -1.0, 'Dyer & Gur-Ari 2020; a bound of −½: Lee et al. 2019'
    return None


def _lengths(name: str, settings: Settings, shape: Shape) -> list[tuple[int, float]]:
    """(m, root of E ||w_0||^2), at the widths of the study."""
    found = []
    for width in settings.grid.widths:
        model = make_model(settings.network, width, shape.num_outputs)
        scales = scales_of(settings, name, width, shape)
        sizes = jax.tree.map(lambda leaf: leaf.size, weight_shapes(model, shape.image))
        squares = jax.tree.map(lambda std, size: std**2 * size, scales.stds, sizes)
        length = math.sqrt(sum(jax.tree.leaves(squares)))
        found.append((features_of(scales), length))
    return found


def _slope(settings: Settings, values: Sequence[float]) -> float:
    """Against the width, which is proportional to m up to rounding."""
    if len(values) < 2:
        return 0.0
    return slope(np.log2(settings.grid.widths).tolist(), np.log2(values).tolist())


def signed(value: float) -> str:
    """-0.5 -> '−0.5'."""
    return f'{value:.3g}'.replace('-', '−')


def is_smooth(activation: str) -> bool:
    return activation in ('erf', 'gelu', 'relu2')


