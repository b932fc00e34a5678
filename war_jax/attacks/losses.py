"""Per-example losses of logits: what an attack climbs and what training sums.

    kl = kl_divergence(clean_logits, adv_logits)             # (b, classes), (b, classes) -> (b,)
"""

import jax
import jax.numpy as jnp
import optax
from jax import Array


def cross_entropy(logits: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """(b, classes), (b,) -> (b,): against (1 - smoothing) * one-hot + smoothing / classes."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def kl_divergence(logits: Array, other_logits: Array) -> Array:
    """(b, classes), (b, classes) -> (b,): KL(softmax(logits) || softmax(other_logits)).

    In log space: TRADES differentiates both arguments, and the gradient of p log p with respect to
    a p that underflowed to 0 is not a number.
    """
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(other_logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)


def margin_loss(logits: Array, labels: Array) -> Array:
    """(b, classes), (b,) -> (b,): best other logit minus the label's (Carlini & Wagner 2017).

    Positive exactly where another class beats the label.
    """
    is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    others = jnp.max(jnp.where(is_label, -jnp.inf, logits), -1)
    return others - jnp.sum(jnp.where(is_label, logits, 0.0), -1)
