"""How fast a network's outputs and loss change with its input: norms of input gradients.

    f = lambda z: evaluate(model, variables, z)                     # (n, h, w, c) -> (n, k)
    loss = lambda logits: cross_entropy(logits, labels)             # (n, k) -> (n,)
    q = dual(threat.norm)
    at_x = loss_gradient_norms(f, loss, x, q)                       # (n,)
    around_x = largest_over_ball(
        keys, lambda z: loss_gradient_norms(f, loss, z, q), x, threat, budget
    )

    norms = input_gradient_norms(model, variables, x, call={'train': False})      # (n, k), compiled

f has its parameters closed over, but for the last line, and treats every row on its own. The others
are pure functions that can be jitted. A ball's largest gradient bounds what can happen in it: for
differentiable h, |h(x) - h(x')| <= max ||grad h||_q ||x - x'||_p with 1/p + 1/q = 1 (Hoelder), the
maximum over the segment between them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntk.functional import NO_ARGUMENTS, Function, Network, Params, as_function
from war_jax.attacks.pgd import Budget, ExampleLoss, attack_trace
from war_jax.attacks.threat import ThreatModel
from war_jax.lowering import in_full_precision

Norm = Literal['l1', 'l2', 'linf']
Outputs = Callable[[Array], Array]  # (n, ...) -> (n, k)

_DUAL: dict[str, Norm] = {'linf': 'l1', 'l2': 'l2', 'l1': 'linf'}


def dual(norm: str) -> Norm:
    """In which norm to measure a gradient if perturbations are measured in `norm`."""
    if norm not in _DUAL:
        raise ValueError(f'norm = {norm!r}: expected one of {", ".join(_DUAL)}')
    return _DUAL[norm]


def lengths(values: Array, norm: Norm, num_leading: int = 1) -> Array:
    """Norms over all axes but the first `num_leading`: (n, ...) -> (n,), or (n, k, ...) -> (n, k).

    Can itself be differentiated, with gradient 0 where the length is 0.
    Raises ValueError for an unknown norm.
    """
    dual(norm)  # says what is wrong with the name
    axes = tuple(range(num_leading, values.ndim))
    if norm == 'l1':
        return jnp.sum(jnp.abs(values), axes)
    largest = jnp.max(jnp.abs(values), axes)
    if norm == 'linf':
        return largest
    # Where a network is certain, gradients are so small that their squares vanish in float32.
    unit = jax.lax.stop_gradient(jnp.where(largest > 0, largest, 1))
    squares = jnp.sum(jnp.square(values / jnp.expand_dims(unit, axes)), axes)
    # The root of 0 has an infinite slope, and infinity times 0 would be the gradient.
    return unit * jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


@in_full_precision
def output_gradients(f: Outputs, x: Array) -> Array:
    """(n, ...) -> (n, k, ...): d f_c / d x for each of the k outputs c.

    One forward pass and k backward passes side by side: k times the memory of one.
    """
    outputs, pull_back = jax.vjp(f, x)
    units = jnp.eye(outputs.shape[1], dtype=outputs.dtype)
    rows = jnp.broadcast_to(units[:, None], (outputs.shape[1], *outputs.shape))
    (gradients,) = jax.vmap(pull_back)(rows)
    return jnp.moveaxis(gradients, 0, 1)


def output_gradient_norms(f: Outputs, x: Array, norm: Norm = 'l2') -> Array:
    """(n, ...) -> (n, k): ||grad_x f_c||, measured in `norm` (see `dual`)."""
    return lengths(output_gradients(f, x), norm, num_leading=2)


def input_gradient_norms(
    f: Network,
    params: Params,
    x: Any,
    norm: Norm = 'l2',
    *,
    call: Mapping[str, Any] = NO_ARGUMENTS,
) -> np.ndarray:
    """||grad_x f_c(x)|| for each output c of any network: x (n, ...), floating point -> (n, k).

    f, params and call are those of `ntk.empirical_ntk`; norm: see `dual`. All examples at once.
    Raises ValueError for another norm and for what `ntk.functional.as_function` refuses.

    >>> import jax.numpy as jnp, ntk
    >>> w = jnp.array([[3.0, 1.0], [4.0, -1.0]])                      # one column per output
    >>> ntk.input_gradient_norms(lambda w, x: x @ w, w, jnp.zeros((1, 2)), norm='l1')
    array([[7., 2.]], dtype=float32)
    """
    dual(norm)
    return np.asarray(_output_gradient_norms(*as_function(f, params, call), jnp.asarray(x), norm))


@partial(jax.jit, static_argnames='norm')
def _output_gradient_norms(f: Function, params: Params, x: Array, norm: Norm) -> Array:
    return output_gradient_norms(partial(f, params), x, norm)


@in_full_precision
def loss_gradient_norms(
    f: Outputs, example_loss: Callable[[Array], Array], x: Array, norm: Norm = 'l2'
) -> Array:
    """(n, ...) -> (n,): ||grad_x loss(f(x))||, measured in `norm`; example_loss: (n, k) -> (n,)."""
    return lengths(jax.grad(lambda z: jnp.sum(example_loss(f(z))))(x), norm)


@in_full_precision
def largest_over_ball(
    keys: Array, quantity: ExampleLoss, x: Array, threat: ThreatModel, budget: Budget
) -> Array:
    """Largest value of quantity (n, ...) -> (n,) met by projected ascent: keys (n,) -> (n,).

    A lower bound of the maximum over the ball of `threat` (cut to [0, 1]), at least the value at x,
    which has to be finite. The random start counts after its projection only.

    The trap: the gradient of a piecewise linear network's output is constant on each piece, so its
    norm has the gradient 0 almost everywhere and `threat.ascend`, which makes no step of zeros,
    stays where it began. Of a ReLU network climb the norm of a *loss* gradient, whose softmax
    curves; climb output gradients only if the activation is smooth.
    """
    trace = attack_trace(keys, quantity, x, threat, budget)
    ends = jnp.stack([quantity(x), quantity(trace.x_adv)])
    return jnp.max(jnp.concatenate([trace.loss[1:], ends]), 0)
