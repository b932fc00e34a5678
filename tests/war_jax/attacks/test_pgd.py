"""Oracles: closed forms for linear and quadratic losses, a NumPy loop, the laws of the starts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import log_softmax, softmax

from war_jax.attacks.pgd import AttackTrace, Budget, attack_trace, pgd, random_start
from war_jax.attacks.threat import ThreatModel

NORMS = ['linf', 'l2']
EPSILON = 0.2
SHAPE = (2, 3, 1)  # of one image
STAND = Budget(num_steps=1, step_size=0.05, init='none', init_scale=1.0)


@pytest.fixture
def rolled(monkeypatch):
    """As on an accelerator: many unrolled steps take seconds to compile."""
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')


def keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(0), count)


def grey(count: int) -> jax.Array:
    """Images around which the box is inactive."""
    return jnp.full((count, *SHAPE), 0.5)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def linear(w: np.ndarray):
    """Each example's loss is its own linear function; scales differ by orders of magnitude."""
    return lambda z: jnp.sum(jnp.asarray(w, z.dtype) * z, (1, 2, 3))


def steepest(w: np.ndarray, norm: str) -> np.ndarray:
    flat = w.reshape(len(w), -1)
    unit = np.sign(flat) if norm == 'linf' else flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return unit.reshape(w.shape)


def weights() -> np.ndarray:
    return np.array([1e-3, 1.0, 1e3, 1.0]).reshape(4, 1, 1, 1) * random(4, *SHAPE)


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('num_steps', [1, 3])
def test_every_step_is_taken_and_has_its_length(norm, num_steps):
    """Oracle: short of the ball, a linear loss is climbed on a straight line."""
    w, x = weights(), grey(4)
    budget = dataclasses.replace(STAND, num_steps=num_steps)
    x_adv = pgd(keys(4), linear(w), x, ThreatModel(norm, EPSILON), budget)
    desired = np.asarray(x) + num_steps * 0.05 * steepest(w, norm)
    np.testing.assert_allclose(x_adv, desired, rtol=0, atol=1e-6)


@pytest.mark.parametrize('norm', NORMS)
def test_linear_loss_is_maximised_in_the_ball(norm, rolled):
    """Oracle: the maximum of <w, z> over ||z - x|| <= epsilon is at epsilon times the dual."""
    w, x = weights(), grey(4)
    budget = Budget(12, 0.05, 'uniform', 1.0)
    x_adv = pgd(keys(4), linear(w), x, ThreatModel(norm, EPSILON), budget)
    # In L2 the random start is forgotten at a geometric rate only.
    atol = 1e-6 if norm == 'linf' else 0.02
    np.testing.assert_allclose(
        x_adv, np.asarray(x) + EPSILON * steepest(w, norm), rtol=0, atol=atol
    )


def test_linear_loss_is_maximised_in_linf_ball_and_box():
    w = weights()
    x = np.random.default_rng(1).uniform(0, 1, w.shape).astype(np.float32)
    budget = dataclasses.replace(STAND, num_steps=5)
    x_adv = pgd(keys(4), linear(w), jnp.asarray(x), ThreatModel('linf', EPSILON), budget)
    desired = np.where(w > 0, np.minimum(x + EPSILON, 1), np.maximum(x - EPSILON, 0))
    np.testing.assert_allclose(x_adv, desired, rtol=0, atol=1e-6)


def test_linear_loss_is_maximised_in_l2_ball_and_box(rolled):
    """Oracle: the optimality conditions. Free pixels are x + t w and the others on the edge, with
    the t at which the length is epsilon (a root in one dimension)."""
    w = random(4, *SHAPE, seed=2)
    x = np.random.default_rng(3).choice([0.02, 0.5, 0.95], w.shape)
    desired = np.empty_like(x)
    for i in range(4):

        def at(t, i=i):
            return np.clip(x[i] + t * w[i], 0, 1)

        def excess(t, i=i, at=at):
            return np.linalg.norm(at(t) - x[i]) - EPSILON

        desired[i] = at(optimize.brentq(excess, 0, 100))
    assert ((desired == 0) | (desired == 1)).any(axis=(1, 2, 3)).all()
    budget = dataclasses.replace(STAND, num_steps=60, step_size=0.01)
    x_adv = np.asarray(
        pgd(keys(4), linear(w), jnp.asarray(x, jnp.float32), ThreatModel('l2', EPSILON), budget)
    )
    # Projecting onto the ball, then onto the box, ends off the optimum by the order of a step.
    np.testing.assert_allclose(x_adv, desired, rtol=0, atol=0.02)
    best, reached = (w * (desired - x)).sum((1, 2, 3)), (w * (x_adv - x)).sum((1, 2, 3))
    assert (reached <= best + 1e-6).all()
    assert (reached >= 0.97 * best).all()


@pytest.mark.parametrize('norm', NORMS)
def test_gradient_norm_of_a_linear_loss(norm):
    """Oracle: ||w||_1 per example, whichever norm the threat has."""
    w = weights()
    budget = dataclasses.replace(STAND, num_steps=2)
    trace = attack_trace(keys(4), linear(w), grey(4), ThreatModel(norm, EPSILON), budget)
    np.testing.assert_allclose(trace.max_grad_l1, np.abs(w).sum((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize('curvature', [1, -1])
def test_trace_of_a_quadratic_loss(curvature):
    """Oracle: with s (z - x + s m)^2 / 2 summed over d pixels, step k meets the gradient
    m + s k a everywhere: the largest is the last one if convex, the first if concave."""
    m, a, num_steps, pixels = 0.3, 0.05, 4, np.prod(SHAPE)
    x = grey(2)

    def loss_fn(z):
        return curvature * jnp.sum(jnp.square(z - x + curvature * m), (1, 2, 3)) / 2

    budget = dataclasses.replace(STAND, num_steps=num_steps, step_size=a)
    trace = attack_trace(keys(2), loss_fn, x, ThreatModel('linf', 1.0), budget)
    gradient = m + curvature * a * np.arange(num_steps)  # before each step
    losses = curvature * pixels * gradient**2 / 2
    np.testing.assert_allclose(trace.loss, np.stack([losses, losses], 1), rtol=1e-5)
    np.testing.assert_allclose(trace.max_grad_l1, pixels * gradient.max(), rtol=1e-5)
    np.testing.assert_allclose(trace.x_adv, x + num_steps * a, rtol=1e-6)


@pytest.mark.parametrize('init', ['none', 'gaussian', 'uniform'])
def test_first_loss_is_that_of_the_start(init):
    """Oracle: the loss itself, at `random_start` (whose law is tested below)."""
    w, x, threat = weights(), grey(4), ThreatModel('linf', EPSILON)
    budget = Budget(2, 0.05, init, 0.7)
    start = np.float64(random_start(keys(4), x, threat, budget))
    trace = attack_trace(keys(4), linear(w), x, threat, budget)
    np.testing.assert_allclose(trace.loss[0], (w * start).sum((1, 2, 3)), rtol=1e-5)


def softmax_regression(seed: int):
    """Loss and (in NumPy) its gradient: cross-entropy of logits z W."""
    w, labels = random(6, 5, seed=seed), np.array([0, 4, 2])

    def loss_fn(z):
        log_p = jax.nn.log_softmax(z.reshape(3, 6) @ jnp.asarray(w))
        return -log_p[jnp.arange(3), jnp.asarray(labels)]

    def numpy_loss_and_gradient(z):
        logits = z.reshape(3, 6) @ w
        gradient = (softmax(logits, axis=-1) - np.eye(5)[labels]) @ w.T
        return -log_softmax(logits, axis=-1)[np.arange(3), labels], gradient.reshape(z.shape)

    return loss_fn, numpy_loss_and_gradient


def numpy_attack(gradient_of, x, norm: str, budget: Budget) -> AttackTrace:
    z, losses, largest = x.copy(), [], np.zeros(len(x))
    for _ in range(budget.num_steps):
        loss, gradient = gradient_of(z)
        losses.append(loss)
        largest = np.maximum(largest, np.abs(gradient).sum((1, 2, 3)))
        delta = z + budget.step_size * steepest(gradient, norm) - x
        if norm == 'linf':
            delta = np.clip(delta, -EPSILON, EPSILON)
        else:
            size = np.linalg.norm(delta.reshape(len(x), -1), axis=1).reshape(-1, 1, 1, 1)
            delta = delta * np.minimum(1, EPSILON / size)
        z = np.clip(x + delta, 0, 1)
    return AttackTrace(z, np.stack(losses), largest)  # type: ignore[arg-type]


@pytest.mark.parametrize('norm', NORMS)
def test_attack_against_numpy(norm):
    loss_fn, numpy_loss_and_gradient = softmax_regression(seed=4)
    x = np.random.default_rng(5).uniform(0, 1, (3, *SHAPE))
    threat, budget = ThreatModel(norm, EPSILON), dataclasses.replace(STAND, num_steps=7)
    with jax.enable_x64(True):

        def attack(x):
            return attack_trace(keys(3), loss_fn, x, threat, budget)

        actual = jax.jit(attack)(x)
    desired = numpy_attack(numpy_loss_and_gradient, x, norm, budget)
    for field in AttackTrace._fields:
        np.testing.assert_allclose(
            getattr(actual, field), getattr(desired, field), rtol=1e-10, err_msg=field
        )


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('init', ['gaussian', 'uniform'])
def test_attack_of_an_example_does_not_depend_on_its_batch(norm, init):
    """Oracle: the same examples in another order and in batches of one."""
    x = jnp.asarray(np.random.default_rng(6).uniform(0, 1, (4, *SHAPE)), jnp.float32)
    threat, budget, own = ThreatModel(norm, EPSILON), Budget(2, 0.02, init, 0.5), keys(4)

    @jax.jit
    def attack(keys, x):
        return pgd(keys, lambda z: jnp.sum(jnp.sin(9 * z), (1, 2, 3)), x, threat, budget)

    together = np.asarray(attack(own, x))
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(attack(own[order], x[order]), together[order], atol=1e-6)
    for i in (0, 3):
        alone = attack(own[i : i + 1], x[i : i + 1])[0]
        np.testing.assert_allclose(alone, together[i], rtol=0, atol=1e-6)


def starts(norm: str, init: str, init_scale: float) -> np.ndarray:
    """(count, pixels) around black images."""
    x = jnp.zeros((1000, *SHAPE))
    start = random_start(keys(1000), x, ThreatModel(norm, EPSILON), Budget(1, 1, init, init_scale))  # type: ignore[arg-type]
    assert start.shape == x.shape and start.dtype == x.dtype
    return np.asarray(start, np.float64).reshape(1000, -1)


@pytest.mark.parametrize('norm', NORMS)
def test_gaussian_start(norm):
    """TRADES': standard deviation init_scale, neither cut to the ball nor to the box."""
    start = starts(norm, 'gaussian', 0.5)
    assert stats.kstest(start.ravel() / 0.5, 'norm').pvalue > 0.01


def test_uniform_start_in_linf():
    """Over the fraction init_scale of the ball."""
    start = starts('linf', 'uniform', 0.5)
    uniform = stats.uniform(-0.5 * EPSILON, EPSILON)
    assert stats.kstest(start.ravel(), uniform.cdf).pvalue > 0.01


def test_uniform_start_in_l2():
    start = starts('l2', 'uniform', 0.5)
    radius = np.linalg.norm(start, axis=1) / (0.5 * EPSILON)
    assert stats.kstest(radius ** start.shape[1], 'uniform').pvalue > 0.01


@pytest.mark.parametrize('norm', NORMS)
def test_start_at_the_image_and_around_it(norm):
    x = jnp.asarray(np.random.default_rng(7).uniform(0, 1, (4, *SHAPE)), jnp.float32)
    threat = ThreatModel(norm, EPSILON)
    np.testing.assert_array_equal(random_start(keys(4), x, threat, STAND), x)
    for init in ('gaussian', 'uniform'):
        budget = Budget(1, 0.1, init, 1e-4)
        np.testing.assert_allclose(random_start(keys(4), x, threat, budget), x, atol=1e-3)
