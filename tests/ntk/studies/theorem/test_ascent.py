"""Suprema over balls. Oracles: closed forms, a dense search, SVD of NumPy, finite differences."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntk.studies.theorem.ascent import Found, Question, _slopes, add, climb
from ntk.studies.theorem.network import Matrices, draw, outputs

climb_all = jax.jit(jax.vmap(climb, (None, 0, None)), static_argnums=2)
SHAPES = (6, 7, 7, 3)  # d, m, m, k


def question(num: int, radii, epsilon=0.0, **changes) -> Question:
    """num questions around one input; radii (num, L)."""
    x = jax.random.normal(jax.random.key(1), (SHAPES[0],))
    whole = {
        'x': x / jnp.linalg.norm(x), 'c': jnp.int32(1), 'is_loss': jnp.bool_(False),
        'epsilon': jnp.float32(epsilon), 'is_spectral': jnp.bool_(False), **changes,
    }  # fmt: skip
    repeated = {k: v if v.shape[:1] == (num,) else jnp.broadcast_to(v, (num, *v.shape))
                for k, v in whole.items()}  # fmt: skip
    return Question(radii=jnp.broadcast_to(jnp.float32(radii), (num, len(SHAPES) - 1)), **repeated)


def matrices(positive: bool = False) -> Matrices:
    """Positive ones have all gates open at positive inputs: a linear network."""
    rng = np.random.default_rng(0)
    drawn = [rng.normal(size=shape) for shape in itertools.pairwise(SHAPES)]
    return tuple(jnp.float32(np.abs(a) / 2 if positive else a / 2) for a in drawn)


@functools.cache
def climbed() -> tuple[Question, Found]:
    """Four networks at once: outputs and loss, Frobenius and spectral; 12 steps."""
    asked = question(
        4, 0.7, 0.5, is_loss=jnp.array([False, True] * 2),
        is_spectral=jnp.array([False, False, True, True]),
    )  # fmt: skip
    return asked, climb_all(matrices(), asked, 12)


def test_the_ascent_never_leaves_its_balls():
    asked, found = climbed()
    assert (np.linalg.norm(found.offset, axis=1) <= 0.5 + 1e-6).all()
    # So that no gradient of an output exceeds the product of the largest norms in the ball.
    largest = np.prod([np.linalg.norm(a, 2) + 0.7 for a in matrices()])
    assert (np.asarray(found.value)[[0, 2]] <= largest).all()
    for n in range(4):
        moved = add(matrices(), jax.tree.map(lambda a, n=n: a[n], found.movement))
        for now, then in zip(moved, matrices(), strict=True):
            values = np.linalg.svd(np.asarray(now - then, np.float64), compute_uv=False)
            if asked.is_spectral[n]:
                assert values[0] <= 0.7 + 1e-5
                # What the ball of Frobenius norm sqrt(2) omega holds as well.
                assert np.linalg.norm(values) <= 2**0.5 * 0.7 + 1e-5
            else:
                assert np.linalg.norm(values) <= 0.7 + 1e-5


def test_the_value_is_that_of_the_moved_network_at_the_moved_input():
    asked, found = climbed()
    for n in range(4):
        moved = add(matrices(), jax.tree.map(lambda a, n=n: a[n], found.movement))

        def value(x, moved=moved, n=n):
            logits = outputs(moved, x)
            return logits[1] if n % 2 == 0 else jax.nn.logsumexp(logits) - logits[1]

        at = asked.x[n] + found.offset[n]
        differences = np.array([
            (value(at + 1e-3 * e) - value(at - 1e-3 * e)) / 2e-3 for e in jnp.eye(SHAPES[0])
        ])  # fmt: skip
        assert np.linalg.norm(differences) == pytest.approx(float(found.value[n]), rel=5e-3)


def test_a_linear_network_has_the_supremum_of_its_closed_form():
    """W_1 alone: || g || + omega || b ||. Of all three layers: alternating maximisation in float64,
    from many starts, of || A_1 A_2 a_3 || with rank-one movements, which are optimal there."""
    a = [np.asarray(m, np.float64) for m in matrices(positive=True)]
    behind = a[1] @ a[2][:, 1]
    alone = np.linalg.norm(a[0] @ behind) + 0.2 * np.linalg.norm(behind)

    def unit(v: Any) -> Any:
        return v / np.linalg.norm(v)

    best = 0.0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        moved = [m + 0.2 * np.outer(unit(rng.normal(size=len(m))), unit(rng.normal(size=len(m[0]))))
                 for m in a]  # fmt: skip
        for _ in range(100):
            for layer in range(3):
                u: Any = unit(moved[0] @ moved[1] @ moved[2][:, 1])
                left = functools.reduce(np.matmul, moved[:layer], u)
                right = functools.reduce(lambda v, m: m @ v, moved[layer + 1 :][::-1], np.eye(3)[1])
                moved[layer] = a[layer] + 0.2 * np.outer(unit(left), unit(right))
        best = max(best, float(np.linalg.norm(moved[0] @ moved[1] @ moved[2][:, 1])))
    asked = question(4, [[0.2, 0, 0], [0.2, 0.2, 0.2]] * 2, x=jnp.full(SHAPES[0], 0.4),
                     is_spectral=jnp.array([False, False, True, True]))  # fmt: skip
    found = climb_all(matrices(positive=True), asked, 12).value
    assert found[jnp.array([0, 2])] == pytest.approx([alone, alone], rel=1e-4)
    assert found[jnp.array([1, 3])] == pytest.approx([best, best], rel=2e-3)
    assert (np.asarray(found) <= max(alone, best) * (1 + 1e-5)).all()


def test_one_hidden_layer_has_the_supremum_of_a_dense_search():
    """Two units, two inputs: || (A_1 + M) D a || over all gates D that inputs of the ball open, and
    a fine grid of movements M of W_1 of Frobenius norm omega that decide the gates."""
    first = np.array([[1.0, -0.1], [0.3, 0.8]])  # columns are units; the gate of one is closed
    last = np.array([[0.8, -0.5], [0.9, 0.4]])
    x, omega, epsilon = np.array([0.8, 0.05]), 0.5, 0.3
    rng = np.random.default_rng(0)
    best, kept = 0.0, None
    for scale in (1.0, 0.3, 0.1, 0.03):  # around the best so far, closer and closer
        moves = rng.normal(size=(100_000, 6)) * (scale if kept is not None else 1.0)
        moves = moves + (kept if kept is not None else 0.0)
        m, offset = moves[:, :4].reshape(-1, 2, 2), moves[:, 4:]
        size = np.linalg.norm(m, axis=(1, 2), keepdims=True)
        m = m / size * omega
        offset = offset / np.linalg.norm(offset, axis=1, keepdims=True) * epsilon
        z = np.einsum('ni,nij->nj', x + offset, first + m)
        g = np.einsum('nij,nj->ni', first + m, (z > 0) * last[:, 0])
        values = np.linalg.norm(g, axis=1)
        if values.max() > best:
            best, place = float(values.max()), values.argmax()
            kept = np.concatenate([m[place].ravel(), offset[place]])
    asked = Question(
        *(jnp.asarray(value)[None] for value in (
            jnp.float32(x), 0, False, jnp.float32([omega, 0.0]), jnp.float32(epsilon), False,
        ))
    )  # fmt: skip
    found = float(climb_all((jnp.float32(first), jnp.float32(last)), asked, 12).value[0])
    assert best * 0.98 <= found <= best * 1.01


def test_slopes_are_those_of_the_smoothed_value():
    """Finite differences of u . grad f with sigmoid gates, written out in NumPy, in float64."""
    a = [np.asarray(m, np.float64) for m in matrices()]
    asked = jax.tree.map(lambda v: v[0], question(1, 0.0))
    x, u = np.asarray(asked.x, np.float64), np.full(SHAPES[0], 0.3)
    scales = []

    def smoothed(a, x):
        h, t = x, u
        for number, m in enumerate(a):
            z, t = h @ m, t @ m
            if len(scales) <= number:
                scales.append(0.1 * np.sqrt(np.mean(z**2)))
            if number < 2:
                h, t = np.maximum(z, 0), t / (1 + np.exp(-z / scales[number]))
        return t[1]

    smoothed(a, x)
    here = jax.tree.map(lambda a: 0.0 * a[0], climbed()[1])  # at the start itself
    slope, sides = _slopes(matrices(), here, asked, jnp.float32(u), 0.1)
    step = 1e-6
    expected = [(smoothed(a, x + step * e) - smoothed(a, x - step * e)) / (2 * step)
                for e in np.eye(SHAPES[0])]  # fmt: skip
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-4)
    for layer, (left, right) in enumerate(sides):
        for place in ((0, 0), (2, 1), (5, 2)):
            moved = [[m.copy() for m in a] for _ in range(2)]
            moved[0][layer][place] += step
            moved[1][layer][place] -= step
            expected = (smoothed(moved[0], x) - smoothed(moved[1], x)) / (2 * step)
            found = float(left[place[0]] @ right[place[1]])
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_parametrizations_start_alike_and_reach_differently():
    """Oracle: the factors by hand, and E || grad f_c ||^2 = d of the theory's network."""
    drawn = {name: draw(name, 3, 200, 16, 4, jax.random.key(0))
             for name in ('sqrt_m', 'standard', 'ntk')}  # fmt: skip
    x = jax.random.normal(jax.random.key(1), (16,))
    logits = {name: outputs(of.matrices, x) for name, of in drawn.items()}
    np.testing.assert_allclose(logits['ntk'], logits['standard'], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits['sqrt_m'], 4.0 * logits['standard'], rtol=1e-4, atol=1e-5)
    assert drawn['standard'].factors == (1.0, 1.0, 1.0)
    assert drawn['sqrt_m'].factors == pytest.approx((12.5**0.5, 1.0, 4.0))
    assert drawn['ntk'].factors == pytest.approx((0.125**0.5, 0.1, 200**-0.5))
    gradients = jax.jacrev(lambda z: outputs(drawn['sqrt_m'].matrices, z))(x)
    assert float(jnp.square(gradients).sum(1).mean()) == pytest.approx(16, rel=0.4)
