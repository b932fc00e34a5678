"""Caps of a sphere. Oracles: closed forms, and a dense search over the sphere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.attacks.pgd import Budget, pgd
from war_jax.attacks.sphere import Cap


def points(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """On the unit sphere of their free coordinates, the last one 1/2 and fixed."""
    z = np.random.default_rng(seed).normal(size=shape)
    z *= np.sqrt(0.75) / np.linalg.norm(z, axis=-1, keepdims=True)
    return np.concatenate([z, np.full((*shape[:-1], 1), 0.5)], -1).astype(np.float32)


def test_projection_stays_on_the_sphere_and_in_the_ball_and_is_idempotent():
    x = points(0, (50, 6))
    rng = np.random.default_rng(1)
    far = x + rng.normal(size=x.shape).astype(np.float32) * rng.uniform(0, 2, (50, 1))
    cap = Cap(0.3, fixed=1)
    once = np.asarray(cap.project(jnp.asarray(far), jnp.asarray(x)))
    np.testing.assert_allclose(np.linalg.norm(once, axis=1), 1.0, atol=2e-6)
    np.testing.assert_array_equal(once[:, -1], 0.5)
    distances = np.linalg.norm(once - x, axis=1)
    assert distances.max() < 0.3 + 1e-6 and (distances > 0.299).any() and distances.min() < 0.25
    again = np.asarray(cap.project(jnp.asarray(once), jnp.asarray(x)))
    np.testing.assert_allclose(again, once, atol=2e-6)


def test_projection_is_the_nearest_point_of_the_cap():
    """Against all points of a fine grid on the circle."""
    x = jnp.asarray([[2.0, 0.0]])
    angles = np.linspace(-np.pi, np.pi, 200_001)
    circle = 2.0 * np.stack([np.cos(angles), np.sin(angles)], 1)
    inside = circle[np.linalg.norm(circle - np.asarray(x), axis=1) <= 0.7]
    rng = np.random.default_rng(2)
    for target in rng.normal(size=(40, 2)) * 3:
        nearest = inside[np.argmin(np.linalg.norm(inside - target, axis=1))]
        found = np.asarray(Cap(0.7).project(jnp.asarray(target[None], jnp.float32), x))[0]
        np.testing.assert_allclose(found, nearest, atol=1e-3)


@pytest.mark.parametrize('x_adv', [[0.0, 0.0], [1.0, 0.0], [-3.0, 0.0]])
def test_a_point_without_direction_becomes_the_centre(x_adv: list[float]):
    x = jnp.asarray([[1.0, 0.0]])
    np.testing.assert_array_equal(Cap(0.5).project(jnp.asarray([x_adv]), x), x)


def test_steps_have_unit_length_and_leave_the_fixed_coordinates():
    grad = jnp.asarray([[3.0, 4.0, 9.0], [0.0, 0.0, 1.0], [3e-30, 4e-30, 0.0]])
    expected = [[0.6, 0.8, 0.0], [0.0, 0.0, 0.0], [0.6, 0.8, 0.0]]
    np.testing.assert_allclose(Cap(1.0, fixed=1).ascend(grad), expected, rtol=1e-6)


def test_samples_fill_the_ball():
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = jax.vmap(lambda key: Cap(0.5, fixed=1).sample(key, (4,), jnp.dtype('float32')))(keys)
    lengths = np.linalg.norm(draws, axis=1)
    assert lengths.max() <= 0.5 and not np.asarray(draws)[:, 3].any()
    # Uniform in three dimensions: the cube of the relative length is uniform in [0, 1].
    assert abs((lengths / 0.5) ** 3 - 0.5).mean() == pytest.approx(0.25, abs=0.01)


def test_pgd_finds_the_maximum_of_a_linear_function_over_the_cap():
    """max over an angle <= t of |w| r cos(angle between): closed form."""
    x, w = points(3, (20, 5)), np.random.default_rng(4).normal(size=6).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), 20)
    budget = Budget(20, 0.05, 'none', 0.0)
    found = pgd(keys, lambda z: z @ w, jnp.asarray(x), Cap(0.2, fixed=1), budget)
    radius, length = np.sqrt(0.75), np.linalg.norm(w[:-1])
    angle = np.arccos(np.clip(x[:, :-1] @ w[:-1] / (radius * length), -1, 1))
    largest = 2 * np.arcsin(0.1 / radius)
    best = radius * length * np.cos(np.maximum(0, angle - largest)) + 0.5 * w[-1]
    np.testing.assert_allclose(np.asarray(found) @ w, best, atol=1e-3)
