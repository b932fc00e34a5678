"""Adv-NTK (Fu & Wang 2024): adversarial training of the infinitely wide network.

    matrix = kernel(x_train, None, 'ntk')                                  # (n, n)
    times = train_times(kernel, x, y, x_val, y_val, key, settings)         # (n,) > 0
    predict = predictor(kernel, x, coefficients(matrix, times, targets))   # images -> (b, k)

Under the squared loss, gradient flow that sees example i at a rate v_i moves the outputs on the
training images by df/dt = -Theta V (f - y), V = diag(v); at t = 1, from f = 0,

    f(x) = Theta(x, X) Theta^-1 (I - exp(-Theta V)) y.

In adversarial training V would be a matrix that follows from the attacks on the way and cannot be
known in advance; Fu & Wang keep its diagonal and fit it, by gradient descent on the squared loss of
attacked *validation* images. Large v_i mean that the example is fitted, small ones that it is
stopped early; equal v are early stopping of the plain kernel regression.

The formula is computed without an inverse, as V^1/2 phi(S) V^1/2 y with S = V^1/2 Theta V^1/2 and
phi(s) = (1 - exp(-s)) / s, in float64.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ntk.infinite import Kernel
from ntk.studies.adversarial.attack import Images, Predict, attack
from ntk.studies.images import centred_targets
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel


def coefficients(matrix: Array, times: Array, targets: Array) -> Array:
    """(n, n), (n,) >= 0, (n, k) -> (n, k): Theta^-1 (I - exp(-Theta V)) y."""
    roots = jnp.sqrt(times)[:, None]
    return roots * (_phi(roots * matrix * roots.T) @ (roots * targets))


@jax.custom_jvp
def _phi(symmetric: Array) -> Array:
    """(n, n) positive semidefinite -> phi of it, phi(s) = (1 - exp(-s)) / s."""
    values, vectors = jnp.linalg.eigh(symmetric)
    return (vectors * _scalar_phi(values)[None]) @ vectors.T


@_phi.defjvp
def _phi_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """By divided differences (Daleckii & Krein), which equal eigenvalues do not disturb."""
    values, vectors = jnp.linalg.eigh(primals[0])
    found = _scalar_phi(values)
    a, b = values[:, None], values[None]
    close = jnp.abs(a - b) < 1e-4 * (1 + jnp.abs(a))
    quotient = (found[:, None] - found[None]) / jnp.where(close, 1, a - b)
    middle = (a + b) / 2
    differences = jnp.where(close, _slope(middle), quotient)
    inner = vectors.T @ tangents[0] @ vectors
    return (vectors * found[None]) @ vectors.T, vectors @ (differences * inner) @ vectors.T


def _scalar_phi(s: Array) -> Array:
    s = jnp.maximum(s, 0)  # what rounding made negative
    safe = jnp.where(s > 1e-6, s, 1)
    return jnp.where(s > 1e-6, -jnp.expm1(-safe) / safe, 1 - s / 2)


def _slope(s: Array) -> Array:
    """Of phi: ((1 + s) exp(-s) - 1) / s^2."""
    s = jnp.maximum(s, 0)
    safe = jnp.where(s > 1e-3, s, 1)
    exact = ((1 + safe) * jnp.exp(-safe) - 1) / safe**2
    return jnp.where(s > 1e-3, exact, -1 / 2 + s / 3 - s**2 / 8)


def predictor(kernel: Kernel, x_train: Array, alpha: Array) -> Predict:
    return lambda x: kernel(x, x_train, 'ntk') @ alpha.astype(x.dtype)


def train_times(
    kernel: Kernel,
    matrix: Array,
    x_train: Array,
    targets: Array,
    validation: Images,
    key: Array,
    threat: ThreatModel,
    budget: Budget,
    num_steps: int,
    learning_rate: float,
    initial_time: float,
    on_step: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """(n,): the rates v after `num_steps` steps of Adam on their logarithms.

    matrix: of the training images, float64. validation: images and labels, all of which are
    attacked anew at each step. initial_time: of all v, in units of 1 / (mean diagonal of matrix).
    """
    wanted = centred_targets(validation[1], targets.shape[-1])
    logs = jnp.full(len(x_train), jnp.log(initial_time / jnp.diag(matrix).mean()))
    tx = optax.adam(learning_rate)
    state = tx.init(logs)

    @jax.jit
    def attacked(logs: Array, keys: Array) -> Array:
        predict = predictor(kernel, x_train, coefficients(matrix, jnp.exp(logs), targets))
        return kernel(attack(predict, keys, validation, threat, budget), x_train, 'ntk')

    @jax.jit
    def step(logs: Array, state: Any, rows: Array) -> tuple[Array, Any]:
        def risk(logs: Array) -> Array:
            outputs = rows @ coefficients(matrix, jnp.exp(logs), targets)
            return optax.l2_loss(outputs, wanted).sum(-1).mean()

        updates, state = tx.update(jax.grad(risk)(logs), state)
        return jnp.asarray(optax.apply_updates(logs, updates)), state

    for number in range(num_steps):
        keys = jax.random.split(jax.random.fold_in(key, number), len(wanted))
        logs, state = step(logs, state, attacked(logs, keys))
        on_step()
    return np.exp(np.asarray(logs))
