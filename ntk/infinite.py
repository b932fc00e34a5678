"""Kernels of infinitely wide networks: covariance at the start (NNGP), and of its training (NTK).

    kernel = fully_connected(num_layers=3)                  # or wide_resnet(depth=10)
    kernel(x1, x2, 'ntk')                                   # (n1, n2)
    kernel(x1, None, ('nngp', 'ntk')).nngp                  # (n1, n1)
    compute(kernel, images, get='ntk', cache=Path('runs/kernels'), bar=progress_bar)

NNGP is E f(x) f(x') over weights, per output; NTK is E sum_w df(x)/dw df(x')/dw (Jacot et al. 2018;
Lee et al. 2019). The networks are those of `ntk.networks`, in NTK parametrization: a layer is
gain / sqrt(fan-in) times weights drawn from N(0, 1), gain^2 being `weight_variance`, and
`output_variance` for the last layer; no biases. neural-tangents does the recursion, in float64
where jax_enable_x64 is set and else in float32, which accelerators do not round further.

Traps
- The NTK of a ReLU network has a cusp at x = x'. Its mixed derivative d^2 / dx dx' there is NaN
  here (neural-tangents' own ReLU returns a finite, wrong number: `ntk.rectifiers`), and its first
  derivative is the mean of those on the two sides. The NNGP kernel has both derivatives. Evaluate
  off the training set, or take 'erf', 'gelu' or 'relu2'.
- 'relu2' keeps no scale: a layer's variance is 3/2 weight_variance times the square of that before.
- A WideResNet needs the covariances of all pairs of pixels, (h w)^2 numbers for a pair of images:
  4 MB at 32x32. `compute` chooses its blocks accordingly; a direct call does not.
"""

import math
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntk import kernel_cache
from ntk.compat import stax
from ntk.rectifiers import relu, relu2

Get = str | tuple[str, ...]

ACTIVATIONS: dict[str, Callable[[], Any]] = {
    'relu': relu,
    'erf': stax.Erf,
    'gelu': stax.Gelu,
    'relu2': relu2,
}
# Covariances in one block of `compute` where it chooses the size: 4 MB in float32, of which 60 may
# be alive at a time (measured, depth 10 and 16). Larger blocks were not faster on two cores.
BLOCK_NUMBERS = 2**20
# Part of the name of a cached kernel: to be raised when a change of this package changes numbers.
REVISION = 1


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
        _kinds(get)
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


def _kinds(get: Get) -> tuple[str, ...]:
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


def compute(
    kernel: Kernel,
    x1: np.ndarray,
    x2: np.ndarray | None = None,
    get: Get = 'ntk',
    *,
    block_size: int | None = None,
    cache: Path | None = None,
    name: str = 'kernel',
    bar: Callable[[str, int], AbstractContextManager[Any]] | None = None,
) -> Any:
    """The kernel of large sets, block by block: a NumPy array (n1, n2), or a namedtuple of them.

    Of a symmetric kernel (x2 = None) only the blocks on and above the diagonal are computed. One
    program is compiled, for one shape of block. Memory: the result, and for a WideResNet up to some
    60 (block_size h w)^2 numbers. The size of the blocks changes no more than the rounding of
    matrix products.

    Args:
      x1, x2: float32 or float64, which is also the type of the result.
      block_size: rows and columns of a block. None: 1024, for a WideResNet 1024 / (h w).
      cache: folder of kernels already computed. A file is `name`, and a SHA-256 over the network's
        description, `get`, the types, the versions of JAX and neural-tangents, and all numbers of
        x1 and x2. A file that is torn or holds something else is computed again.
      name: of the file and of the bar.
      bar: makes a progress bar, as `war_jax.records.console.progress_bar` does.

    Raises ValueError as `Kernel` does, and for other types and empty inputs.
    """
    x1 = np.asarray(x1)
    x2 = None if x2 is None else np.asarray(x2)
    kernel.check(x1, x2)
    _check_types(x1, x2)
    if block_size is not None and block_size < 1:
        raise ValueError(f'block_size = {block_size}: must be at least 1')
    kinds = _kinds(get)
    shape = (len(x1), len(x1 if x2 is None else x2))
    blocks = _blocks(shape, block_size or _block_size(kernel, x1.shape), symmetric=x2 is None)

    def compute_all() -> dict[str, np.ndarray]:
        arrays = {kind: np.empty(shape, x1.dtype) for kind in kinds}
        with nullcontext() if bar is None else bar(name, len(blocks)) as shown:
            for _ in _fill(arrays, kernel, x1, x2, blocks):
                if shown is not None:
                    shown.update()
        return arrays

    if cache is None:
        arrays = compute_all()
    else:
        key = kernel_cache.digest([REVISION, kernel.description, kinds, _computed_in()], x1, x2)
        arrays = kernel_cache.load_or_make(cache / f'{name}_{key}.npz', key, compute_all)
    return arrays[get] if isinstance(get, str) else namedtuple('Kernels', kinds)(**arrays)


def _check_types(x1: np.ndarray, x2: np.ndarray | None) -> None:
    for name, x in (('x1', x1), ('x2', x1 if x2 is None else x2)):
        if x.dtype not in (np.float32, np.float64):
            raise ValueError(f'{name} is of type {x.dtype}: must be float32 or float64')
        if x.dtype != x1.dtype:
            raise ValueError(f'x2 is of type {x.dtype}: must be {x1.dtype} as x1 is')
        if not x.size:
            raise ValueError(f'{name} has shape {x.shape}: must not be empty')
    if x1.dtype == np.float64 and _computed_in() != np.float64:
        rule = "float64 needs jax.config.update('jax_enable_x64', True)"
        raise ValueError(f'x1 is of type float64, and JAX computes in float32: {rule}')


def _computed_in() -> np.dtype:
    """float64 where jax_enable_x64 is set, whatever the inputs' type; neural-tangents has it so."""
    return jnp.zeros(()).dtype


def _block_size(kernel: Kernel, shape: tuple[int, ...]) -> int:
    per_pair = math.prod(shape[1:-1]) ** 2 if kernel.on_images else 1
    return max(1, math.isqrt(BLOCK_NUMBERS // per_pair))


def _blocks(shape: tuple[int, int], size: int, symmetric: bool) -> list[tuple[range, range]]:
    """Rows and columns of blocks of one shape; the last ones may reach over the edge."""

    def split(length: int) -> list[range]:
        width = math.ceil(length / math.ceil(length / size))
        return [range(start, start + width) for start in range(0, length, width)]

    rows, columns = map(split, shape)
    return [(r, c) for r in rows for c in columns if not symmetric or r.start <= c.start]


def _fill(
    arrays: Mapping[str, np.ndarray],
    kernel: Kernel,
    x1: np.ndarray,
    x2: np.ndarray | None,
    blocks: Sequence[tuple[range, range]],
) -> Iterator[None]:
    """Writes one block of all arrays at each step."""
    program = _program(kernel, tuple(arrays))
    for rows, columns in blocks:
        values = program(_rows_of(x1, rows), _rows_of(x1 if x2 is None else x2, columns))
        for array, value in zip(arrays.values(), values, strict=True):
            here = array[rows.start : rows.stop, columns.start : columns.stop]
            value = np.asarray(value)[: here.shape[0], : here.shape[1]]
            if x2 is None and rows == columns:
                # Rounding need not be symmetric; the result is.
                value = np.triu(value) + np.triu(value, 1).T
            elif x2 is None:
                array[columns.start : columns.stop, rows.start : rows.stop] = value.T
            here[...] = value
        yield


@lru_cache(maxsize=8)
def _program(kernel: Kernel, kinds: tuple[str, ...]) -> Callable[..., Any]:
    """Kept, so that a second call of `compute` compiles nothing new."""
    return jax.jit(lambda x1, x2: tuple(kernel(x1, x2, kinds)))


def _rows_of(x: np.ndarray, rows: range) -> np.ndarray:
    """Over the edge the last row is repeated."""
    return x[np.minimum(rows, len(x) - 1)]
