"""What theory says of each quantity: powers of the width, and the values at infinite width.

    power = expected_power('gradient_rms_test', 'initialisation', 'sqrt_m_unit')      # 0.5
    kernel_fn = limit_kernel(settings, scales, learning_rate)
    limits = gradient_limits(kernel_fn, TrainingData(x_train, targets, x_test, True), num_steps)

A network of width m in any parametrization starts as `output_scale` times one in the NTK
parametrization, and its NTK is sum_l rate_l Theta_l (`ntk.parametrization`). With Theta_l at its
infinite-width value this is the limit to which width m is compared, for all parametrizations alike:
at the start, and after lazy training on the squared loss, which solves a linear equation in Theta.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from ntk.infinite import Kernel, fully_connected, wide_resnet
from ntk.parametrization import PARAMETRIZATIONS, Scales
from ntk.predictions import initial_mean_square, trained_gradients
from ntk.width.settings import Settings

INITIALISATION = 'initialisation'
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


class GradientLimits(NamedTuple):
    """RMS over examples and outputs of ||grad_x f_c||_2, at infinite width."""

    initial: float
    # After lazy training on the squared loss; None where that diverges at infinite width, as it can
    # with a learning rate tuned at a very small one.
    trained: float | None


def limit_kernel(
    settings: Settings, scales: Scales, learning_rate: float = 1.0
) -> LimitKernel | None:
    """Its NTK times learning_rate; None for a WideResNet unless all its layers learn alike.

    Kernels that differ by rounding only are equal.
    """
    network = settings.network
    variances = (network.weight_variance, network.output_variance)
    rates = {name: float(f'{learning_rate * scales.rate(name):.9g}') for name in scales.stds}
    if network.kind == 'fcn':
        inner = [f'layer{number}' for number in range(1, network.num_layers)]
        in_order = tuple(rates[layer] for layer in (*inner, 'head'))
        kernel = fully_connected(network.num_layers, network.activation, *variances, in_order)
        return LimitKernel(kernel, 1.0, scales.output_scale)
    if len(set(rates.values())) > 1:
        return None
    kernel = wide_resnet(network.depth, network.strides, network.activation, *variances)
    return LimitKernel(kernel, rates['head'], scales.output_scale)


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
    quantity: str, phase: str, parametrization: str, smooth: bool
) -> tuple[float, str] | None:
    """(power of the width, where it is from), or None where theory says nothing.

    quantity: a column of the rows, with '_train' or '_test' at its end where it has a split. phase:
    'initialisation' or the name of a `Phase`. smooth: the activation has no kink. Powers are those
    of m -> infinity.
    """
    base = quantity.removesuffix('_train').removesuffix('_test')
    if phase == INITIALISATION:
        return _at_initialisation(base, parametrization)
    if base in ('movement', 'kernel_drift', 'linearisation_error'):
        return _of_change(base, phase, parametrization, smooth)
    lazy = phase.endswith('_lazy')
    if parametrization in _KERNEL_LIMIT and base in _OF_OUTPUTS:
        return 0.0, 'the outputs have a limit of infinite width, kernel regression or its like'
    if parametrization in _FEATURE_LIMIT and not lazy and base in _OF_OUTPUTS:
        return 0.0, 'the outputs have a limit of infinite width (Yang & Hu 2021)'
    return None


def _at_initialisation(base: str, parametrization: str) -> tuple[float, str] | None:
    power = PARAMETRIZATIONS[parametrization].gradient_power
    if base == 'gradient_rms':
        return power, 'E‖∇f‖² = tr ∂²K/∂x∂x′ with the variance of the outputs'
    if base == 'local_lipschitz':
        return power, 'outputs are a Gaussian process whose scale is that of the gradient'
    if base == 'spectral_product':
        # Of an m x d, an m x m and a k x m Gaussian matrix as m grows: sqrt(m), 1, and 1 in the
        # standard parametrization.
        return power + 0.5, 'norms of Gaussian matrices: the first layer’s grows as √m'
    if base == 'kernel_error':
        return -0.5, 'fluctuations of sums of m terms'
    return None


def _of_change(
    base: str, phase: str, parametrization: str, smooth: bool
) -> tuple[float, str] | None:
    lazy = phase.endswith('_lazy')
    if base == 'movement':
        if parametrization in _KERNEL_LIMIT:
            return -1.0, '‖Δw‖ = O(1) against ‖w₀‖ of order m (with a hidden layer)'
        if parametrization in _FEATURE_LIMIT and not lazy:
            return -0.5, '‖Δw‖ = O(1) against ‖w₀‖ of order √m'
        return None
    if parametrization in _KERNEL_LIMIT and not lazy and smooth:
        return -1.0, 'Dyer & Gur-Ari 2020; a bound of −½: Lee et al. 2019'
    if parametrization in _FEATURE_LIMIT and not lazy:
        return 0.0, 'features are learned at any width (Yang & Hu 2021)'
    return None


def is_smooth(activation: str) -> bool:
    return activation in ('erf', 'gelu', 'relu2')


