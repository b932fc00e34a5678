"""The smallest RKHS norm. Oracles: SLSQP on the primal, and a dense QP over a grid of the caps."""

import jax
import numpy as np
import pytest
from scipy.optimize import minimize

from ntk.infinite import fully_connected
from ntk.studies.adversary import Strong
from ntk.studies.capacity.kernel import smallest_norm, solve
from ntk.studies.sphere import pairs

KERNEL = fully_connected(2, 'gelu')  # smooth, so that 9 points of an arc stand for all of it


def generic(signed: np.ndarray) -> float:
    """min ||w|| with <w, x_j> >= 1 for points x_j whose inner products are these."""
    points = np.linalg.cholesky(signed)
    found = minimize(
        lambda w: (w @ w, 2 * w), np.linalg.solve(points, np.ones(len(points))), jac=True,
        method='SLSQP', options={'maxiter': 1000, 'ftol': 1e-12},
        constraints={'type': 'ineq', 'fun': lambda w: points @ w - 1, 'jac': lambda _: points},
    )  # fmt: skip
    assert found.success, found.message
    return float(np.sqrt(found.fun))


def test_the_dual_has_the_norm_of_the_primal():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 9)) + 1.0
    signed = rows @ rows.T
    weights = solve(signed)
    assert weights.min() >= 0 and (weights == 0).any()
    assert np.sqrt(weights.sum()) == pytest.approx(generic(signed), rel=1e-5)
    assert (signed @ weights).min() == pytest.approx(1.0, abs=1e-6)


def test_a_single_point_needs_one_over_the_root_of_the_kernel():
    assert solve(np.array([[4.0]])) == pytest.approx([0.25], rel=1e-6)  # norm 1 / 2


@pytest.fixture(scope='module')
def norms() -> dict[float, tuple[float, float]]:
    points, labels = pairs(np.random.default_rng(1), 2, 3, 0.2)
    found = {}
    for rho in (0.0, 0.5, 0.9):
        best = smallest_norm(
            KERNEL, points, labels, rho * 0.2, jax.random.key(0), Strong(10, 1), 0.005
        )
        assert best.lower <= best.upper <= best.lower / 0.99
        found[rho] = (best.lower, best.upper)
    return found


@pytest.mark.parametrize('rho', [0.0, 0.5])
def test_cutting_planes_reach_the_dense_problem(norms: dict, rho: float):
    """In three dimensions a cap is an arc."""
    points, labels = pairs(np.random.default_rng(1), 2, 3, 0.2)
    largest = 2 * np.arcsin(rho * 0.1 / np.sqrt(0.75))
    arcs = []
    for angle in np.linspace(-largest, largest, 9 if rho else 1):
        c, s = np.cos(angle), np.sin(angle)
        turned = points.copy()
        turned[:, :2] = points[:, :2] @ np.array([[c, s], [-s, c]])
        arcs.append(turned)
    dense, signs = np.concatenate(arcs), np.tile(labels, len(arcs))
    with jax.enable_x64(True):
        gram = np.asarray(KERNEL(dense, None, 'ntk'), float)
    signed = signs[:, None] * gram * signs
    expected = generic(signed + 1e-8 * np.eye(len(signed)))
    lower, upper = norms[rho]
    assert lower * 0.99 <= expected <= upper * 1.01


def test_the_norm_grows_as_the_caps_of_a_pair_approach_one_another(norms: dict):
    assert norms[0.0][1] < norms[0.5][0] and norms[0.5][1] < norms[0.9][0]
