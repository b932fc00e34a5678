"""Per-example losses of logits: what an attack climbs and what training sums.

    kl = kl_divergence(clean_logits, adv_logits)             # (b, classes), (b, classes) -> (b,)

A class that a network rules out with a logit of -infinity counts as one at -1e9.
"""

import jax
import jax.numpy as jnp
import optax
from jax import Array

MASKED = -1e9


def finite_where_masked(logits: Array) -> Array:
    """(b, classes) -> the same: -1e9 (or the type's least number) in place of -infinity.

    Infinity times a weight of 0 would be no number, in losses and in their gradients. A row of
    nothing but -infinity, which rules out every class, stays as it is.
    """
    ruled_out = jnp.isneginf(logits)
    least = max(MASKED, float(jnp.finfo(logits.dtype).min))
    return jnp.where(ruled_out & ~ruled_out.all(-1, keepdims=True), least, logits)


def cross_entropy(logits: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """(b, classes), (b,) -> (b,): against (1 - smoothing) * one-hot + smoothing / classes.

    The labels may be distributions (b, classes), as of mixed images, in the place of the one-hot.
    """
    is_mixed = labels.ndim == logits.ndim
    distributions = labels if is_mixed else _one_hot(labels, logits)
    targets = optax.smooth_labels(distributions, smoothing)
    return optax.softmax_cross_entropy(finite_where_masked(logits), targets)


def kl_divergence(logits: Array, other_logits: Array) -> Array:
    """(b, classes), (b, classes) -> (b,): KL(softmax(logits) || softmax(other_logits)).

    In log space: TRADES differentiates both arguments, and the gradient of p log p with respect to
    a p that underflowed to 0 is not a number.
    """
    log_p, log_q = (
        jax.nn.log_softmax(finite_where_masked(each)) for each in (logits, other_logits)
    )
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)


def margin_loss(logits: Array, labels: Array) -> Array:
    """(b, classes), (b,) -> (b,): best other logit minus the label's (Carlini & Wagner 2017).

    Positive exactly where another class beats the label.
    """
    is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    others = jnp.max(jnp.where(is_label, -jnp.inf, logits), -1)
    return others - jnp.sum(jnp.where(is_label, logits, 0.0), -1)


def dlr_loss(logits: Array, labels: Array) -> Array:
    """(b, classes), (b,) -> (b,): difference of logits ratio (Croce & Hein 2020b, eq. 6).

    `margin_loss` over the distance of the largest logit from the third, so that no rescaling of the
    logits can flatten it. Two classes have no third: the margin itself, which attacks that step
    along its sign or unit vector climb in the same way.
    """
    logits = finite_where_masked(logits)
    margin = margin_loss(logits, labels)
    if logits.shape[-1] < 3:
        return margin
    largest = jax.lax.top_k(logits, 3)[0]
    return margin / (largest[:, 0] - largest[:, 2] + 1e-12)


def targeted_dlr_loss(logits: Array, labels: Array, targets: Array) -> Array:
    """(b, classes), (b,), (b,) -> (b,): of one other class (Croce & Hein 2020b, eq. 7).

    Below four classes its denominator does not exist: `targeted_margin`.
    """
    logits = finite_where_masked(logits)
    margin = targeted_margin(logits, labels, targets)
    if logits.shape[-1] < 4:
        return margin
    largest = jax.lax.top_k(logits, 4)[0]
    return margin / (largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2 + 1e-12)


def targeted_margin(logits: Array, labels: Array, targets: Array) -> Array:
    """(b, classes), (b,), (b,) -> (b,): the target's logit minus the label's."""
    logits = finite_where_masked(logits)
    weights = _one_hot(targets, logits) - _one_hot(labels, logits)
    return jnp.sum(jnp.where(weights == 0, 0.0, weights * logits), -1)


def _one_hot(labels: Array, logits: Array) -> Array:
    """(b,), (b, classes) -> (b, classes): in float32, or in float64 if the logits are.

    JAX's default is float64 wherever that is enabled, and float32 losses would become so, too.
    """
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=dtype)
