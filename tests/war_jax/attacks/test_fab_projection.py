"""`to_hyperplane`. Oracle: SciPy's solvers of the same problems, posed literally."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from war_jax.attacks.fab import to_hyperplane


def problem(seed: int, size: int, reach: float) -> tuple[np.ndarray, np.ndarray, float]:
    """x in the box, a normal with a zero in it, and an offset that lies `reach` of the way."""
    rng = np.random.default_rng(seed)
    x, normal = rng.uniform(size=size), rng.normal(size=size)
    normal[0] = 0
    x[1] = round(x[1])  # one pixel at an edge
    sign = 1 if seed % 2 else -1
    corner = (sign * normal > 0).astype(float)
    farthest = normal @ np.where(normal == 0, x, corner)
    return x, normal, float(normal @ x + reach * (farthest - normal @ x))


def shortest_linf(x: np.ndarray, normal: np.ndarray, offset: float) -> float:
    """Variables (s, t): minimise t with |s_i| <= t."""
    size = len(x)
    cost = np.r_[np.zeros(size), 1]
    upper = np.c_[np.r_[np.eye(size), -np.eye(size)], -np.ones(2 * size)]
    equal = np.r_[normal, 0][None]
    bounds = [*zip(-x, 1 - x, strict=True), (0, None)]
    found = linprog(cost, upper, np.zeros(2 * size), equal, [offset - normal @ x], bounds)
    assert found.success
    return found.fun


def shortest_l2(x: np.ndarray, normal: np.ndarray, offset: float) -> float:
    found = minimize(
        lambda s: s @ s,
        np.zeros_like(x),
        jac=lambda s: 2 * s,
        bounds=list(zip(-x, 1 - x, strict=True)),
        constraints={'type': 'eq', 'fun': lambda s: normal @ (x + s) - offset,
                     'jac': lambda s: normal},
        method='SLSQP',
        options={'ftol': 1e-14, 'maxiter': 500},
    )  # fmt: skip
    assert found.success
    return float(np.sqrt(found.fun))


@pytest.mark.parametrize('reach', [0.0, 0.05, 0.4, 0.9, 0.97])
@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_it_is_the_shortest_way_to_the_plane(norm, reach):
    problems = [problem(seed, 12, reach) for seed in range(12)]
    x, normals, offsets = map(np.array, zip(*problems, strict=True))
    with jax.enable_x64(True):
        arrays = (jnp.asarray(x), jnp.asarray(normals), jnp.asarray(offsets))
        shift = np.asarray(to_hyperplane(*arrays, norm))
    assert (x + shift >= -1e-12).all() and (x + shift <= 1 + 1e-12).all()
    np.testing.assert_allclose(np.sum(normals * (x + shift), -1), offsets, atol=1e-5)
    order, shortest = (np.inf, shortest_linf) if norm == 'linf' else (2, shortest_l2)
    expected = [shortest(*one) for one in problems]
    np.testing.assert_allclose(np.linalg.norm(shift, order, -1), expected, atol=1e-5)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_out_of_reach_it_goes_to_the_nearest_corner(norm):
    x, normal, offset = problem(1, 12, 1.5)
    point, plane = jnp.asarray(x, jnp.float32)[None], jnp.asarray(normal, jnp.float32)[None]
    found = x + np.asarray(to_hyperplane(point, plane, jnp.full(1, offset), norm))[0]
    corner = np.where(normal == 0, x, normal > 0)
    np.testing.assert_allclose(found, corner, atol=1e-6)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_a_normal_of_zeros_goes_nowhere(norm):
    x = jnp.full((1, 5), 0.5)
    shift = to_hyperplane(x, jnp.zeros((1, 5)), jnp.ones(1), norm)
    np.testing.assert_array_equal(shift, np.zeros((1, 5)))


def exact_shift(x: np.ndarray, normals: np.ndarray, offsets: np.ndarray, norm: str) -> np.ndarray:
    """float64, by sorting: the pixel next to meet the box says on which piece the length lies."""
    shifts = []
    for start, normal, offset in zip(x, normals, offsets, strict=True):
        gap = normal @ start - offset
        normal, gap = (-normal, -gap) if gap < 0 else (normal, gap)
        size, room = np.abs(normal), np.where(normal > 0, start, 1 - start)
        rate = size if norm == 'l2' else np.ones_like(size)
        order = np.argsort(room / rate)
        met = np.cumsum((size * room)[order])
        rising = np.cumsum((size * rate)[order][::-1])[::-1]
        before = np.r_[0, met[:-1]]
        piece = np.flatnonzero(before + rising * (room / rate)[order] >= gap)[0]
        length = (gap - before[piece]) / rising[piece]
        shifts.append(-np.sign(normal) * np.minimum(length * rate, room))
    return np.array(shifts)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_in_float32_it_is_that_of_float64(norm):
    """Gradients over many orders of magnitude, and a fifth of the pixels at an edge."""
    rng = np.random.default_rng(0)
    shape = (24, 768)
    x = np.where(rng.uniform(size=shape) < 0.2, 0, rng.uniform(size=shape)).astype(np.float32)
    normals = (rng.normal(size=shape) * np.exp(3 * rng.normal(size=shape))).astype(np.float32)
    wide, plane = x.astype(np.float64), normals.astype(np.float64)
    least = np.minimum(plane, 0).sum(-1)  # of normal . z over the box
    reach = np.tile([0.01, 0.3, 0.9], 8)
    offsets = (1 - reach) * np.sum(plane * wide, -1) + reach * least
    exact = exact_shift(wide, plane, offsets, norm)
    shift = to_hyperplane(jnp.asarray(x), jnp.asarray(normals), jnp.asarray(offsets), norm)
    longest = np.abs(exact).max(-1, keepdims=True)
    np.testing.assert_allclose(shift / longest, exact / longest, atol=2e-5)


def test_its_loop_is_of_fixed_length():
    """A loop of unknown length has an accelerator ask its host after every step."""
    arguments = (jnp.ones((2, 5)), jnp.ones((2, 5)), jnp.zeros(2))
    program = jax.make_jaxpr(lambda x, normals, offsets: to_hyperplane(x, normals, offsets, 'l2'))
    text = str(program(*arguments))
    assert 'scan[' in text and 'while[' not in text
