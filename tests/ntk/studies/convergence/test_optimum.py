"""The best loss in the linearised ball. Oracle: SciPy's generic solver on the primal problem."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import LinearConstraint, NonlinearConstraint, minimize

from ntk.studies.adversary import Strong
from ntk.studies.convergence.network import Design, draw
from ntk.studies.convergence.optimum import best_in_ball, solve_dual
from ntk.studies.convergence.training import Programs
from ntk.studies.sphere import random_points


def primal(rows: list[np.ndarray], owners: np.ndarray, n: int, radius: float) -> float:
    """min over U, t of mean log(1 + exp(-t)): t_i <= sum_l <phi_l, U_l>, ||U_l|| <= R."""
    sizes = [layer.shape[1] for layer in rows]
    edges = np.cumsum([0, *sizes])
    total = edges[-1]
    owner_rows = np.eye(n)[owners]
    inequality = LinearConstraint(np.hstack([*rows, -owner_rows]), 0.0, np.inf)
    balls: Any = [
        NonlinearConstraint(
            lambda v, a=a, b=b: v[a:b] @ v[a:b], -np.inf, radius**2,
            jac=lambda v, a=a, b=b: np.where(  # pyright: ignore[reportArgumentType]
                (np.arange(len(v)) >= a) & (np.arange(len(v)) < b), 2 * v, 0.0
            ),
        )
        for a, b in itertools.pairwise(edges)
    ]  # fmt: skip

    def loss(v: np.ndarray) -> tuple[float, np.ndarray]:
        t = v[total:]
        slope = np.zeros_like(v)
        slope[total:] = -1.0 / (1.0 + np.exp(t)) / n
        return float(np.logaddexp(0.0, -t).mean()), slope

    found = minimize(
        loss, np.zeros(total + n), jac=True, method='SLSQP', constraints=[inequality, *balls],
        options={'maxiter': 500, 'ftol': 1e-12},
    )  # fmt: skip
    assert found.success, found.message
    return float(found.fun)


@pytest.mark.parametrize('radius', [0.5, 3.0])
@pytest.mark.parametrize('layers', [1, 2])
def test_the_dual_has_the_value_of_the_primal(radius: float, layers: int):
    rng = np.random.default_rng(layers)
    n, owners = 4, np.array([0, 1, 2, 3, 0, 0, 2])
    rows = [rng.normal(size=(len(owners), 5)) for _ in range(layers)]
    kernels = np.stack([layer @ layer.T for layer in rows])
    weights, value = solve_dual(kernels, owners, n, radius, np.full(len(owners), 1e-3))
    assert weights.min() >= 0
    assert value == pytest.approx(primal(rows, owners, n, radius), abs=1e-5)


def test_contradictory_points_leave_log_two():
    """One point with both labels: no movement is better than none."""
    signed = np.array([[1.0, 2.0], [-1.0, -2.0]])
    _, value = solve_dual((signed @ signed.T)[None], np.array([0, 1]), 2, 5.0, np.full(2, 1e-3))
    assert value == pytest.approx(np.log(2.0), abs=1e-6)


def test_cutting_planes_enclose_the_optimum_over_a_dense_set_of_the_caps():
    """Two layers in three dimensions, where a cap is an arc: SLSQP on 9 points of each."""
    design = Design('two_layer', 'softplus', 1)
    start = draw(jax.random.key(0), design, 4, 3)
    points, labels = random_points(np.random.default_rng(3), 4, 3)
    x, y = jnp.asarray(points, jnp.float32), jnp.asarray(labels, jnp.float32)
    programs = Programs(design, Strong(10, 1), 1.0)
    best = best_in_ball(programs, start, x, y, 0.3, 4.0, jax.random.key(1), 1e-4)
    largest = 2 * np.arcsin(0.15 / np.sqrt(0.75))
    arcs = []
    for angle in np.linspace(-largest, largest, 9):
        turned = points.copy()
        c, s = np.cos(angle), np.sin(angle)
        turned[:, :2] = points[:, :2] @ np.array([[c, s], [-s, c]])
        arcs.append(turned)
    phi = [np.asarray(programs.features(start, jnp.asarray(arc, jnp.float32))[0]) for arc in arcs]
    rows = np.concatenate([labels[:, None] * layer.reshape(4, -1) for layer in phi])
    expected = primal([rows], np.tile(np.arange(4), 9), 4, 4.0)
    assert best.lower <= best.upper + 1e-6 and best.upper - best.lower < 1e-3
    assert best.lower - 1e-3 <= expected <= best.upper + 1e-3
