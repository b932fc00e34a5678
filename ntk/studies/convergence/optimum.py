"""The best robust loss of the linearised network in B(R): a convex problem, with a certificate.

    found = best_in_ball(programs, start, x, y, epsilon, radius, key, tolerance=0.002)
    found.lower, found.upper                  # the optimum lies between, found.upper is reached

f_lin(x) = sum_l <phi_l(x), U_l> is linear in the movement U, and the largest loss over a cap is a
maximum of convex functions of U. Cutting planes: the cap of each example is replaced by the points
met so far, the problem with these finitely many is solved, the solution is attacked, and what the
attack finds is added. What is solved is the dual: with signed features, l the logistic loss and
H(s) = -s log s - (1 - s) log(1 - s), of which l(z) = max_s H(s) - s z,

    min over B(R) of (1/n) sum_i max_j l(y_i f_lin(x_ij))
      = max over c_ij >= 0 of (1/n) sum_i H(sum_j c_ij)
                              - (R/n) sum_l || sum_ij c_ij y_i phi_l(x_ij) ||

which needs the kernels of the layers alone. Each of its values is a lower bound of the optimum over
all of the caps, whatever the attack missed. The upper bound is the loss of a solution under attack;
where the attack misses the worst point (a linearised ReLU network is not continuous), it can be the
lower of the two.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.optimize import minimize

from ntk.studies.convergence.network import Start, at_start
from ntk.studies.convergence.training import Programs

_EDGE = 1e-9  # H is continued by its Taylor polynomial beyond: L-BFGS-B may look there
_MAX_ROUNDS = 12
# Of L-BFGS-B, as at a kink: a layer's length is 0 where the best movement lies inside of the ball.
_LINE_SEARCH_FAILED = 2


class Best(NamedTuple):
    lower: float
    upper: float
    rounds: int


def best_in_ball(
    programs: Programs,
    start: Start,
    x: Array,
    y: Array,
    epsilon: float,
    radius: float,
    key: Array,
    tolerance: float,
) -> Best:
    """x (n, d), y (n,) of -1 and 1. Ends with the bounds within `tolerance`, or after 12 rounds."""
    n = x.shape[0]
    signs = np.asarray(y, float)
    shapes = [u.shape for u in at_start(start)]
    rows: list[list[np.ndarray]] = [[] for _ in shapes]  # signed features of each layer
    weights = np.zeros(0)
    lower, upper = 0.0, float(np.log(2.0))  # no movement at all: the loss is log 2
    points = x
    for number in range(_MAX_ROUNDS):
        for layer, found in enumerate(programs.features(start, points)):
            rows[layer].append(signs[:, None] * np.asarray(found, float).reshape(n, -1))
        stacked = [np.concatenate(layer) for layer in rows]
        kernels = np.stack([layer @ layer.T for layer in stacked])
        owners = np.tile(np.arange(n), number + 1)
        guess = np.concatenate([weights, np.full(n, 1e-3)])
        weights, value = solve_dual(kernels, owners, n, radius, guess)
        lower = max(lower, value)
        movement = tuple(
            jnp.asarray(radius * _unit(weights @ layer).reshape(shape), jnp.float32)
            for layer, shape in zip(stacked, shapes, strict=True)
        )
        points, losses = programs.cut(
            start, movement, x, y, epsilon, jax.random.fold_in(key, number)
        )
        upper = min(upper, float(losses.mean()))
        if upper - lower <= tolerance:
            break
    return Best(lower, upper, number + 1)


def solve_dual(
    kernels: np.ndarray, owners: np.ndarray, num_examples: int, radius: float, guess: np.ndarray
) -> tuple[np.ndarray, float]:
    """c (N,), and the dual's value there: at most the optimum of the problem with these N points.

    kernels: (layers, N, N), inner products of the signed features. owners: (N,), whose point each
    is. guess: (N,), where to begin.
    """
    n = num_examples

    def negative(c: np.ndarray) -> tuple[float, np.ndarray]:
        entropy, slope = _entropy(np.bincount(owners, c, n))
        products = kernels @ c  # (layers, N)
        lengths = np.sqrt(np.maximum(products @ c, 0.0) + 1e-16)
        value = entropy.sum() / n - radius * lengths.sum() / n
        gradient = slope[owners] / n - radius / n * (products / lengths[:, None]).sum(0)
        return -value, -gradient

    bounds = [(0.0, 1.0)] * len(guess)
    options = {'maxiter': 1000, 'maxfun': 2000, 'ftol': 1e-11, 'gtol': 1e-8}
    found = minimize(negative, guess, jac=True, method='L-BFGS-B', bounds=bounds, options=options)
    if found.status == _LINE_SEARCH_FAILED:
        options = {'maxiter': 300, 'ftol': 1e-12}
        slower = minimize(
            negative, found.x, jac=True, method='SLSQP', bounds=bounds, options=options
        )
        found = min(found, slower, key=lambda result: result.fun)
    return found.x, -float(found.fun)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-30)


def _entropy(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H and its derivative, concave on all numbers and equal to H in [1e-9, 1 - 1e-9]."""
    inside = np.clip(s, _EDGE, 1.0 - _EDGE)
    value = -inside * np.log(inside) - (1.0 - inside) * np.log1p(-inside)
    slope = np.log1p(-inside) - np.log(inside)
    bend = -1.0 / (inside * (1.0 - inside))
    beyond = s - inside
    return value + slope * beyond + 0.5 * bend * beyond**2, slope + bend * beyond
