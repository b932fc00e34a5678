"""Kernels in float64 NumPy, and finite differences of what comes of them."""

import math
from collections.abc import Callable

import numpy as np

from ntk.compat import stax
from tests.ntk.closed_forms import erf_expectations, kernels, relu_kernels

NUM_TRAIN, DIMENSION = 6, 4
Kernel = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # NNGP, NTK


def serial(activation, num_layers: int, weight_variance: float, output_variance: float):
    """neural-tangents' own layers."""
    hidden = [stax.Dense(1, math.sqrt(weight_variance)), activation()] * (num_layers - 1)
    return stax.serial(*hidden, stax.Dense(1, math.sqrt(output_variance)))[2]


def relu_oracle(num_layers: int, weight_variance: float, output_variance: float) -> Kernel:
    def both(x1, x2):
        variances = (weight_variance, output_variance)
        nngp, parts = relu_kernels(x1, x2, num_layers, *variances, [1.0] * num_layers)
        return nngp, np.sum(parts, 0)

    return both


def erf_oracle(num_layers: int, weight_variance: float, output_variance: float) -> Kernel:
    return lambda x1, x2: kernels(
        erf_expectations, x1, x2, num_layers, weight_variance, output_variance
    )


def around(x: np.ndarray, step: float) -> np.ndarray:
    """(2 d, d): x + step along each axis, then x - step."""
    steps = step * np.eye(len(x))
    return np.concatenate([x + steps, x - steps])


def mixed_trace(covariance: Callable[[np.ndarray], np.ndarray], x: np.ndarray, step: float):
    """tr d^2 C(x, x') / dx dx' at x' = x by central differences; (m, d) -> (m, m) covariance."""
    values = covariance(around(x, step))
    plus, minus = np.split(np.arange(2 * len(x)), 2)
    total = values[plus, plus] + values[minus, minus] - 2 * values[plus, minus]
    return total.sum() / (4 * step**2)


def extrapolated_trace(covariance: Callable[[np.ndarray], np.ndarray], x: np.ndarray):
    """Without the error that is linear in the step, which cubes of angles cause."""
    step = 1e-3 * float(np.linalg.norm(x))
    return 2 * mixed_trace(covariance, x, step / 2) - mixed_trace(covariance, x, step)


def points(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimension))
