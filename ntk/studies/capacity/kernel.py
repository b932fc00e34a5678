"""The kernel version of robust interpolation: the smallest RKHS norm of a robust fit.

    found = smallest_norm(kernel, points, labels, epsilon, key, strong, tolerance=0.01)
    found.lower, found.upper            # of ||f||; the minimum lies between them
    found.lower ** 2                    # grows as the caps of a pair approach one another

min ||f||_H subject to y_i f(x) >= 1 for all x in the cap around x_i, H being the space of a kernel
of `ntk.infinite`: the counterpart without a width. Cutting planes: the caps are replaced by the
points met so far; the solution is attacked; what falls short of 1 is added. For finitely many
points the dual is min over a >= 0 of a'Qa/2 - sum(a), with Q = y y' K; with Q = L L' that is the
non-negative least squares problem || L'a - L^-1 1 ||, which SciPy solves. Its norm is a lower bound
for the caps, whatever the attack missed; f divided by the smallest y f(x) that the attack finds is
an upper bound as far as the attack can tell. float64 throughout.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from ntk.infinite import Kernel
from ntk.studies.adversary import Strong, strong_attack
from war_jax.lowering import in_double_precision

_JITTER = 1e-9  # relative to the kernel's diagonal
_POINTS_PER_EXAMPLE = 8  # kept at most; shapes stay the same, for one program
_MAX_ROUNDS = 20


class Norm(NamedTuple):
    lower: float
    upper: float  # infinite if the last fit was broken by the attack
    rounds: int


def smallest_norm(
    kernel: Kernel,
    points: np.ndarray,
    labels: np.ndarray,
    epsilon: float,
    key: Array,
    strong: Strong,
    tolerance: float,
) -> Norm:
    """points (n, d), labels (n,) of -1 and 1. Ends when every y f(x) found is >= 1 - tolerance."""
    with in_double_precision():
        x, y = jnp.asarray(points, jnp.float64), jnp.asarray(labels, jnp.float64)
        capacity = _POINTS_PER_EXAMPLE * len(points)
        centres, signs = np.asarray(x), np.asarray(y)
        lower, upper = 0.0, math.inf
        for number in range(_MAX_ROUNDS):
            # Padded, for one program: rows of weight 0 add nothing.
            used, rest = len(centres), capacity - len(centres)
            padded = np.concatenate([centres, np.repeat(centres[:1], rest, 0)])
            gram = np.asarray(_gram(kernel, padded))[:used, :used]
            weights = solve(signs[:, None] * gram * signs)
            norm = math.sqrt(weights.sum())
            lower = max(lower, norm)
            sums = np.concatenate([weights * signs, np.zeros(rest)])
            worst, margins = _attack(
                kernel, strong, padded, sums, x, y, epsilon, jax.random.fold_in(key, number)
            )
            least = float(margins.min())
            upper = min(upper, norm / least if least > 0 else math.inf)
            short = np.asarray(margins) < 1.0 - tolerance
            if not short.any():
                break
            active = weights > 0
            if active.sum() + short.sum() > capacity:
                break
            centres = np.concatenate([centres[active], np.asarray(worst)[short]])
            signs = np.concatenate([signs[active], np.asarray(labels, float)[short]])
        return Norm(lower, upper, number + 1)


def solve(signed: np.ndarray) -> np.ndarray:
    """a >= 0 (N,), the dual solution; the squared norm of the fit is sum(a). signed: Q (N, N)."""
    size = len(signed)
    root = cholesky(signed + _JITTER * np.trace(signed) / size * np.eye(size), lower=True)
    return nnls(root.T, solve_triangular(root, np.ones(size), lower=True), maxiter=100 * size)[0]


@partial(jax.jit, static_argnums=0)
def _gram(kernel: Kernel, points: Array) -> Array:
    return kernel(points, None, 'ntk')


@partial(jax.jit, static_argnums=(0, 1))
def _attack(
    kernel: Kernel, strong: Strong, centres: Array, weights: Array, x: Array, y: Array,
    epsilon: float, key: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """The worst points (n, d) of f = sum_j weights_j K(., centres_j), and y f there."""

    def model(z: Array) -> Array:
        return kernel(z, centres, 'ntk') @ weights

    worst = strong_attack(model, x, y, epsilon, key, strong)
    return worst, y * model(worst)
