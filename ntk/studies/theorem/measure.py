"""What is measured of a network, wherever it came from: gradients, what its norms hide, stability.

    found = measure(network.matrices, x, y, epsilon, num_steps=10)     # {'mean_outputs': 8.7, ...}
    first_layer_bound(network.matrices, x, radius)            # (n, k), moving W_1 alone, gates kept

The gradient of an output is the product of the layers' matrices and gates, applied to a unit
vector. Its length is the product of their spectral norms times, for each layer, the share of the
norm that the vector b behind it gets, || A_l b || / (|| A_l || || b ||), its alignment, and for
each gate the share of its length that it lets through.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from ntk.gradients import lengths
from ntk.studies.theorem.network import Matrices, backward, output_gradients, outputs
from war_jax.attacks.losses import cross_entropy
from war_jax.attacks.pgd import Budget, pgd
from war_jax.attacks.threat import ThreatModel


def gradient_norms(matrices: Matrices, x: Array, y: Array) -> tuple[Array, Array]:
    """In L2, of every output, (n, k), and of the cross-entropy of the label, (n,)."""
    gradients, logits = output_gradients(matrices, x), outputs(matrices, x)
    weights = jax.nn.softmax(logits) - jax.nn.one_hot(y, logits.shape[-1], dtype=logits.dtype)
    return lengths(gradients, 'l2', 2), lengths(jnp.einsum('nk,nkd->nd', weights, gradients), 'l2')


def first_layer_bound(matrices: Matrices, x: Array, radius: Array) -> Array:
    """(n, k): || g || + radius || b ||, g the gradient of an output and b that in what layer 1
    gives: the most that moving W_1 alone makes of it, Frobenius or spectral, the gates as they are.
    """
    behind = jax.vmap(jax.vmap(lambda z, c: backward(matrices, z, c)[0], (None, 0)), (0, None))(
        x, jnp.arange(matrices[-1].shape[1])
    )
    gradients = output_gradients(matrices, x)
    return lengths(gradients, 'l2', 2) + radius * lengths(behind, 'l2', 2)


def attacked(
    matrices: Matrices, x: Array, y: Array, epsilon: Array | float, num_steps: int
) -> Array:
    """(n, d): by ascent on the cross-entropy in the L2 ball cut to [0, 1], started at x."""
    budget = Budget(num_steps, 2.5 * epsilon / num_steps, 'none', 0.0)
    keys = jax.random.split(jax.random.key(0), x.shape[0])  # of no use: the start is x
    return pgd(
        keys,
        lambda z: cross_entropy(outputs(matrices, z), y),
        x,
        ThreatModel('l2', epsilon),
        budget,
    )


def alignments(matrices: Matrices, x: Array, y: Array) -> tuple[Array, Array]:
    """Of the label's output: of each layer, (L,), and what each gate lets through, (L - 1,).

    Geometric means over the x whose gradient is not 0.
    """
    behind = jax.vmap(lambda z, c: backward(matrices, z, c))(x, y)
    passed = [b @ matrix.T for b, matrix in zip(behind, matrices, strict=True)]
    alive = lengths(passed[0], 'l2') > 0
    norms = _spectral_norms(matrices)
    aligned = [
        _geometric_mean(lengths(after, 'l2') / (norm * lengths(b, 'l2')), alive)
        for after, norm, b in zip(passed, norms, behind, strict=True)
    ]
    gates = [
        _geometric_mean(lengths(b, 'l2') / lengths(before, 'l2'), alive)
        for b, before in zip(behind[:-1], passed[1:], strict=True)
    ]
    return jnp.stack(aligned), jnp.stack(gates)


@jax.jit
def first_alignment(matrices: Matrices, x: Array, y: Array) -> Array:
    """() that of W_1 alone, as in `alignments`."""
    b = jax.vmap(lambda z, c: backward(matrices, z, c)[0])(x, y)
    after = lengths(b @ matrices[0].T, 'l2')
    (norm,) = _spectral_norms(matrices[:1])
    return _geometric_mean(after / (norm * lengths(b, 'l2')), after > 0)


def measure(
    matrices: Matrices, x: Array, y: Array, epsilon: Array | float, num_steps: int
) -> dict[str, Array]:
    """At x (n, d) with labels y (n,); each () but for alignment (L,) and gate (L - 1,).

    mean_, q95_, max_outputs: of || grad_x f_c ||_2 over x and c; ..._loss: of that of the label's
    cross-entropy over x. product: of spectral norms. lipschitz: mean length of the gradient of the
    margin between the two largest outputs; lipschitz_over_margin: geometric mean of that gradient
    over that margin, which no scale of the outputs changes. Stability and robust accuracy are under
    `attacked`.
    """
    logits = outputs(matrices, x)
    of_outputs, of_loss = gradient_norms(matrices, x, y)
    found: dict[str, Array] = {}
    for name, values in (('outputs', of_outputs), ('loss', of_loss)):
        found[f'mean_{name}'] = values.mean()
        found[f'q95_{name}'] = jnp.quantile(values, 0.95)
        found[f'max_{name}'] = values.max()
    aligned, gates = alignments(matrices, x, y)
    top, places = jax.lax.top_k(logits, 2)
    pairs = jnp.take_along_axis(output_gradients(matrices, x), places[:, :, None], 1)
    slopes, margins = lengths(pairs[:, 0] - pairs[:, 1], 'l2'), top[:, 0] - top[:, 1]
    predicted = logits.argmax(-1)
    kept = outputs(matrices, attacked(matrices, x, y, epsilon, num_steps)).argmax(-1) == predicted
    return {
        **found,
        'product': jnp.prod(jnp.stack(_spectral_norms(matrices))),
        'alignment': aligned,
        'gate': gates,
        'lipschitz': slopes.mean(),
        'lipschitz_over_margin': _geometric_mean(slopes / margins, (slopes > 0) & (margins > 0)),
        'natural_accuracy': (predicted == y).mean(),
        'robust_accuracy': ((predicted == y) & kept).mean(),
        'perturbation_stability': kept.mean(),
    }


def _spectral_norms(matrices: Matrices) -> Sequence[Array]:
    """By the smaller of the two Gram matrices, which is quick."""
    grams = [a @ a.T if a.shape[0] <= a.shape[1] else a.T @ a for a in matrices]
    return [jnp.sqrt(jnp.linalg.eigvalsh(gram)[-1]) for gram in grams]


def _geometric_mean(values: Array, counted: Array) -> Array:
    """() of values (n,) where counted (n,)."""
    logs = jnp.where(counted, jnp.log(jnp.where(counted, values, 1.0)), 0.0)
    return jnp.exp(logs.sum() / counted.sum())
