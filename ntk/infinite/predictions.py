"""What infinite width predicts for input gradients: at initialisation, and after training.

    kernel = fully_connected(num_layers=3)                            # of ntk.infinite
    relu_mean_square(3), initial_mean_square(kernel, x)               # 1.0, (n,) of ones
    with in_double_precision():                                       # of war_jax.lowering
        trained = trained_gradients(kernel, x_train, y_train, x, learning_rate=1.0, num_steps=None)
    rms = np.sqrt(trained.mean_square)                                # (n, k)

A kernel function follows neural-tangents: kernel_fn(x1, x2, 'nngp' or 'ntk') -> (n1, n2). It has to
be hashable and is compiled once per function object: make it once, and pass the same one.

Two kinds of derivatives are taken: the mixed one of the NNGP kernel K at x' = x, and the first ones
of K and of the NTK Theta off the training set. The mixed derivative of a ReLU network's NTK at
x' = x would be a trap: Theta has a cusp there, finite differences grow without bound as their step
shrinks, and neural-tangents' own ReLU returns a finite number. Its mixed derivative of K is no
better, rounding noise (`ntk.infinite.rectifiers`): take the kernels of `ntk.infinite`.

Kernels are computed in float32, or in float64 under `jax.enable_x64` whatever the type of x; what
follows from them always in float64. In float32 the smallest eigenvalues of Theta are noise.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

KernelFn = Callable[[Array, Array, str], Any]  # 'nngp' or 'ntk' -> (n1, n2)


class TrainedGradients(NamedTuple):
    """Of f_T(x), over initialisations: input gradients of each of the k outputs."""

    mean: np.ndarray  # (n, k, ...)
    variance: np.ndarray  # (n,) expected squared length of (gradient - mean), the same for each k
    mean_square: np.ndarray  # (n, k) expected squared length: |mean|^2 + variance


def relu_mean_square(
    num_layers: int, weight_variance: float = 2.0, output_variance: float = 1.0
) -> float:
    """E ||grad_x f||_2^2 per output of a fully connected ReLU network at initialisation.

    output_variance * (weight_variance / 2)^(num_layers - 1), for num_layers matrices without biases
    whose entries have the variances weight_variance / fan-in and, in the last one, output_variance
    / fan-in. Exact at every x != 0 and every width: a hidden unit is active with probability 1/2
    whatever the ones before it.
    """
    return output_variance * (weight_variance / 2) ** (num_layers - 1)


def initial_mean_square(kernel_fn: KernelFn, x: Any, batch_size: int = 256) -> np.ndarray:
    """(n, ...) -> (n,): E ||grad_x f||_2^2 per output at initialisation, of infinite width.

    trace of d^2 K(x, x') / dx dx' at x' = x, K the NNGP kernel: the covariance of the Gaussian
    process f, hence of its derivatives.

    Costs a second derivative of the kernel per point and input dimension; batch_size: how many of
    them are in memory at a time, each some ten times what a pair of inputs takes in the kernel.
    """
    x = jnp.asarray(x, float)
    size = math.prod(x.shape[1:])
    units = jnp.eye(size, dtype=x.dtype).reshape(-1, *x.shape[1:])
    parts = [
        _mixed_derivatives(kernel_fn, x[pairs // size], units[pairs % size])
        for pairs in _blocks(len(x) * size, batch_size)
    ]
    diagonals = np.concatenate(jax.device_get(parts))[: len(x) * size]
    return diagonals.reshape(len(x), size).sum(1, dtype=np.float64)


def trained_gradients(
    kernel_fn: KernelFn,
    x_train: Any,
    y_train: Any,
    x: Any,
    learning_rate: float,
    num_steps: int | None,
    jitter: float = 0.0,
    smooth: bool = False,
    batch_size: int = 256,
) -> TrainedGradients:
    """Input gradients at x (n, ...) after training on x_train (N, ...), y_train (N, k).

    The network of infinite width is trained by `num_steps` steps of full-batch gradient descent of
    rate eta = `learning_rate` on 1/(2 N) sum ||f(x_i) - y_i||_2^2 (mean over examples, sum over
    outputs): each moves f by -(eta / N) Theta(., X) (f(X) - y). num_steps None: infinitely many.
    From f_0, a Gaussian process of covariance K for each output,

        f_T(x) = f_0(x) + Theta(x, X) A (y - f_0(X)),   A = Theta^-1 (I - (I - eta Theta / N)^T),

    whose derivative in x has mean and covariance in closed form (Jacot et al. 2018; Lee et al. 2019
    for the covariance, in continuous time). Outputs are independent of each other.

    Finite networks come close at different rates. With erf the RMS of ensembles was off by 1 /
    width (9 % at 128, 2 % at 512; L = 3, d = 8, N = 16). With ReLU it is too large by 1 /
    sqrt(width), since units that training switched on or off move the gradient at random; and lazy
    training of f_0 + a (f - f_0) multiplies that: the mean square exceeded the prediction by a
    factor of about 1 + 2.8 a / sqrt(width). Only with a smooth activation is it lazy training's.

    jitter: added to the diagonal of Theta(X, X), in units of its mean.
    smooth: your word that Theta(x, X) can be differentiated where x is a training point. It can for
    erf, GELU and the square of ReLU. For ReLU and other activations with a kink the gradient jumps
    there and has no value; without biases, on the whole line through a training point. The same
    jump is met by convolutional networks wherever a patch of x is a multiple of one of a training
    image, as in flat regions; this is not looked for, and ntk.infinite's ReLU then gives the mean
    of both sides.
    batch_size: pairs of points of which kernel derivatives are in memory at a time. On top of that
    come two arrays of N times the input dimension, and N x N kernels.

    Raises ValueError for shapes that do not fit and negative num_steps; for an evaluation point
    that is a multiple of a training point (to 1e-6), unless smooth; for a rate at which training
    diverges (eta / N times the largest eigenvalue of Theta >= 2); and for infinitely many steps on
    a kernel whose smallest eigenvalue is below its rounding error.
    """
    x_train, x = jnp.asarray(x_train, float), jnp.asarray(x, float)
    y_train = np.asarray(y_train, np.float64)
    _check_shapes(x_train, y_train, x)
    if num_steps is not None and num_steps < 0:
        raise ValueError(f'num_steps = {num_steps}: expected 0 or more, or None')
    if not smooth:
        _refuse_training_lines(np.asarray(x_train, np.float64), np.asarray(x, np.float64))
    nngp, ntk = (_gram(kernel_fn, x_train, get, batch_size) for get in ('nngp', 'ntk'))
    solver = _solver(ntk, learning_rate, num_steps, jitter, np.finfo(x_train.dtype).eps)
    targets, spread = solver @ y_train, solver @ nngp @ solver
    means, variances = [], []
    for point, initial in zip(x, initial_mean_square(kernel_fn, x, batch_size), strict=True):
        slopes, ntk_slopes = _slopes(kernel_fn, point, x_train, batch_size)
        means.append((targets.T @ ntk_slopes).reshape(-1, *x.shape[1:]))
        # Of f_0(x) - Theta(x, X) A f_0(X): the covariances of the parts, twice the mixed one.
        correction = spread @ ntk_slopes - 2 * (solver @ slopes)
        variances.append(initial + np.vdot(ntk_slopes, correction))
    mean, variance = np.stack(means), np.stack(variances)
    squares = np.sum(np.square(mean), tuple(range(2, mean.ndim)))
    return TrainedGradients(mean, variance, squares + variance[:, None])


def _solver(
    ntk: np.ndarray, learning_rate: float, num_steps: int | None, jitter: float, epsilon: float
) -> np.ndarray:
    """A of `trained_gradients`; epsilon: the relative rounding error of the kernel."""
    count = len(ntk)
    ntk = ntk + jitter * np.mean(np.diag(ntk)) * np.eye(count)
    values, vectors = np.linalg.eigh(ntk)
    rates = learning_rate / count * values
    if not 0 < rates[-1] < 2:
        raise ValueError(
            f'learning_rate = {learning_rate}: expected one between 0 and '
            f'{2 * count / values[-1]:.6g} (2 N / largest eigenvalue), or training diverges'
        )
    if num_steps is None:
        floor = count * epsilon * values[-1]
        if values[0] <= floor:
            raise ValueError(
                f'smallest eigenvalue of the NTK {values[0]:.3g}: expected more than its rounding '
                f'error, {floor:.3g}; enable float64, raise jitter = {jitter}, or train for a '
                'finite number of steps'
            )
        return vectors / values @ vectors.T
    rates = np.maximum(rates, np.finfo(float).tiny)  # what rounding made 0 or negative is 0
    # 1 - (1 - rate)^T, without the cancellation at small rates.
    slow = -np.expm1(num_steps * np.log1p(-np.minimum(rates, 0.5)))
    done = np.where(rates < 0.5, slow, 1 - (1 - rates) ** num_steps)
    return vectors * (learning_rate / count * done / rates) @ vectors.T


def _gram(kernel_fn: KernelFn, x: Array, get: str, batch_size: int) -> np.ndarray:
    """(N, ...) -> (N, N) in float64, by blocks of rows."""
    blocks = _blocks(len(x), max(1, batch_size // len(x)))
    rows = [np.asarray(_kernel(kernel_fn, x[block], x, get), np.float64) for block in blocks]
    gram = np.concatenate(rows)[: len(x)]
    return (gram + gram.T) / 2


def _slopes(
    kernel_fn: KernelFn, point: Array, x: Array, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """d K(point, x_i) / d point and the same of Theta: (...), (N, ...) -> twice (N, size)."""
    blocks = [_pair_slopes(kernel_fn, point, x[block]) for block in _blocks(len(x), batch_size)]
    nngp, ntk = zip(*jax.device_get(blocks), strict=True)

    def joined(parts: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.concatenate(parts)[: len(x)].reshape(len(x), -1).astype(np.float64)

    return joined(nngp), joined(ntk)


def _blocks(count: int, batch_size: int) -> list[np.ndarray]:
    """Indices in blocks of one size; behind the last index it is repeated."""
    size = min(batch_size, count)
    return [np.minimum(np.arange(i, i + size), count - 1) for i in range(0, count, size)]


def _of_pair(kernel_fn: KernelFn, get: str) -> Callable[[Array, Array], Array]:
    """The kernel of two points: (...), (...) -> ()."""
    return lambda a, b: kernel_fn(a[None], b[None], get)[0, 0]


@partial(jax.jit, static_argnums=(0, 3))
def _kernel(kernel_fn: KernelFn, x1: Array, x2: Array, get: str) -> Array:
    return kernel_fn(x1, x2, get)


@partial(jax.jit, static_argnums=0)
def _pair_slopes(kernel_fn: KernelFn, point: Array, x: Array) -> tuple[Array, Array]:
    # One gradient per pair: those of a whole row of the kernel would cost as much per entry of it.
    def slopes(get: str) -> Array:
        return jax.vmap(jax.grad(_of_pair(kernel_fn, get)), (None, 0))(point, x)

    return slopes('nngp'), slopes('ntk')


@partial(jax.jit, static_argnums=0)
def _mixed_derivatives(kernel_fn: KernelFn, x: Array, u: Array) -> Array:
    """(m, ...) points, (m, ...) directions -> (m,): d^2 K(x + s u, x + t u) / ds dt at 0."""
    kernel = _of_pair(kernel_fn, 'nngp')

    def of_one(x: Array, u: Array) -> Array:
        def slope(left: Array) -> Array:
            return jax.jvp(partial(kernel, left), (x,), (u,))[1]

        return jax.jvp(slope, (x,), (u,))[1]

    return jax.vmap(of_one)(x, u)


def _check_shapes(x_train: Array, y_train: np.ndarray, x: Array) -> None:
    if y_train.ndim != 2 or len(y_train) != len(x_train) or not len(y_train):
        raise ValueError(
            f'y_train of shape {y_train.shape}: expected (N, k) for x_train of shape '
            f'{x_train.shape}, N >= 1'
        )
    if x.shape[1:] != x_train.shape[1:] or not len(x):
        raise ValueError(f'x of shape {x.shape}: expected (n, *{x_train.shape[1:]}), n >= 1')


def _refuse_training_lines(x_train: np.ndarray, x: np.ndarray) -> None:
    """Raises ValueError where the angle between x and x_train is 0 or pi, to 1e-6."""
    lines, points = x_train.reshape(len(x_train), -1), x.reshape(len(x), -1)
    squares = np.sum(points**2, 1)[:, None] * np.sum(lines**2, 1)
    found = np.argwhere(squares - (points @ lines.T) ** 2 <= 1e-12 * squares)
    if len(found):
        raise ValueError(
            f'evaluation point {found[0, 0]} is a multiple of training point {found[0, 1]}, where '
            'the NTK of a network with kinks has no gradient: expected other points, or '
            'smooth=True for a smooth activation (erf, GELU, squared ReLU)'
        )
