"""The kernel functions of infinitely wide networks: fully connected ones and WideResNets."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntk.compat import stax
from ntk.infinite.rectifiers import relu, relu2

Get = str | tuple[str, ...]

ACTIVATIONS: dict[str, Callable[[], Any]] = {
    'relu': relu,
    'erf': stax.Erf,
    'gelu': stax.Gelu,
    'relu2': relu2,
}


@dataclass(frozen=True)
class Kernel:
    """kernel(x1, x2=None, get='ntk'): (n1, ...), (n2, ...) -> (n1, n2), floating point.

    x2 = None means x1. get: 'nngp', 'ntk', or a tuple of both, which gives a namedtuple.
    Equal descriptions are equal kernels.

    description: the network, in words and numbers.
    on_images: inputs are (n, h, w, c) and pixels have covariances; else they are flattened.
    """

    description: str
    on_images: bool
    function: Callable[..., Any] = field(repr=False, compare=False)

    def __call__(self, x1: Any, x2: Any = None, get: Get = 'ntk') -> Any:
        """Raises ValueError for another `get` and for inputs of different or unsuitable shapes."""
        kinds_of(get)
        self.check(x1, x2)
        x1 = jnp.asarray(x1)
        x2 = None if x2 is None else jnp.asarray(x2)
        if not self.on_images:
            x1 = x1.reshape(x1.shape[0], -1)
            x2 = None if x2 is None else x2.reshape(x2.shape[0], -1)
        with warnings.catch_warnings(), jax.default_matmul_precision('highest'):
            # Accelerators would round the factors of products to 10 bits or fewer; on the diagonal
            # of a ReLU network's NTK, where angles are 0, the error is the root of that.
            # And the warning is of sums of dependent branches: each block here has new weights.
            warnings.filterwarnings('ignore', message='`FanIn` layers assume independent inputs')
            return self.function(x1, x2, get)

    def check(self, x1: Any, x2: Any) -> None:
        shape = np.shape(x1)
        if len(shape) < 2 or (self.on_images and len(shape) != 4):
            expected = '(n, h, w, c)' if self.on_images else '(n, ...)'
            raise ValueError(f'x1 has shape {shape}: must be {expected}')
        if x2 is not None and np.shape(x2)[1:] != shape[1:]:
            raise ValueError(f'x2 has shape {np.shape(x2)}: must be (n2, *{shape[1:]}) as x1 is')


def kinds_of(get: Get) -> tuple[str, ...]:
    kinds = (get,) if isinstance(get, str) else tuple(get)
    if not kinds or any(kind not in ('nngp', 'ntk') for kind in kinds):
        raise ValueError(f"get = {get!r}: must be 'nngp', 'ntk' or a tuple of these")
    return kinds


def fully_connected(
    num_layers: int,
    activation: str = 'relu',
    weight_variance: float = 2.0,
    output_variance: float = 1.0,
    layer_rates: Sequence[float] | None = None,
) -> Kernel:
    """num_layers weight matrices, all but the last followed by the activation; images flattened.

    layer_rates: what the learning rate of each layer is multiplied by, from the first to the last,
    as parametrizations other than NTK's do. The NTK is then sum_l rate_l Theta_l, Theta_l being the
    part of layer l's weights. None: 1 for all.

    Raises ValueError for fewer than one layer, an unknown activation, variances that are not
    positive, and rates that are negative or not one per layer.
    """
    if num_layers < 1:
        raise ValueError(f'num_layers = {num_layers}: must be at least 1')
    rates = (1.0,) * num_layers if layer_rates is None else tuple(map(float, layer_rates))
    if len(rates) != num_layers or not all(0 <= rate < math.inf for rate in rates):
        rule = f'must be {num_layers} finite numbers, none of them negative'
        raise ValueError(f'layer_rates = {layer_rates}: {rule}')
    phi = _activation(activation)
    hidden, output = _gains(weight_variance, output_variance)
    layers = []
    for rate in rates[:-1]:
        layers += [_at_rate(rate, hidden, stax.Dense(1, hidden)), phi()]
    layers.append(_at_rate(rates[-1], output, stax.Dense(1, output)))
    description = (
        f'fully connected, {num_layers} layers, {activation}, weight variance {weight_variance!r}, '
        f'output variance {output_variance!r}, layer rates {rates}'
    )
    return Kernel(description, False, stax.serial(*layers)[2])


def _at_rate(rate: float, gain: float, dense: Any) -> Any:
    """A dense layer whose own weights learn at `rate`.

    Without a bias, its own part of the NTK is its NNGP kernel, since f is linear in its weights.
    """
    init_fn, apply_fn, kernel_fn = dense

    def scaled(k: Any, **kwargs: Any) -> Any:
        out = kernel_fn(k, **kwargs)
        return out if k.ntk is None else out.replace(ntk=gain**2 * k.ntk + rate * out.nngp)

    return init_fn, apply_fn, scaled


def wide_resnet(
    depth: int,
    strides: Sequence[int] = (1, 2, 2),
    activation: str = 'relu',
    weight_variance: float = 2.0,
    output_variance: float = 1.0,
) -> Kernel:
    """The WideResNet of depth 6n + 4 without BatchNorm (docs/parity.md has the differences).

    Raises ValueError for another depth, strides that are not three positive whole numbers, an
    unknown activation, and variances that are not positive.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f'depth = {depth}: (depth - 4) must be a positive multiple of 6')
    if len(strides) != 3 or any(stride < 1 for stride in strides):
        raise ValueError(f'strides = {strides}: must be three positive whole numbers')
    phi = _activation(activation)
    gain, output = _gains(weight_variance, output_variance)

    def conv(size: int, stride: int) -> Any:
        return stax.Conv(1, (size, size), (stride, stride), 'SAME', W_std=gain)

    def block(stride: int, is_first: bool) -> Any:
        residual = stax.serial(conv(3, stride), phi(), conv(3, 1))
        if is_first:
            both = stax.parallel(residual, conv(1, stride))
            return stax.serial(phi(), stax.FanOut(2), both, stax.FanInSum())
        both = stax.parallel(stax.serial(phi(), residual), stax.Identity())
        return stax.serial(stax.FanOut(2), both, stax.FanInSum())

    layers = [conv(3, 1)]
    for stride in strides:
        for number in range((depth - 4) // 6):
            layers.append(block(stride if number == 0 else 1, number == 0))
    layers += [phi(), stax.GlobalAvgPool(), stax.Dense(1, output)]
    description = (
        f'WideResNet without normalisation, depth {depth}, strides {tuple(strides)}, {activation}, '
        f'weight variance {weight_variance!r}, output variance {output_variance!r}'
    )
    return Kernel(description, True, stax.serial(*layers)[2])


def _activation(name: str) -> Callable[[], Any]:
    if name not in ACTIVATIONS:
        raise ValueError(f'activation = {name!r}: must be one of {", ".join(ACTIVATIONS)}')
    return ACTIVATIONS[name]


def _gains(weight_variance: float, output_variance: float) -> tuple[float, float]:
    values = {'weight_variance': weight_variance, 'output_variance': output_variance}
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f'{name} = {value}: must be positive')
    return math.sqrt(weight_variance), math.sqrt(output_variance)
