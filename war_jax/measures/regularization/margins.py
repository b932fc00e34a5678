"""How sure a network is: margins and confidences, from logits (n, classes).

    margins(logits), confidences(logits)              # (n,), (n,)
    lower_bound(margins(logits), bound)               # (n,): no boundary is nearer than this

The margin needs no label: of a misclassified image it is that of the wrong class.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array


def margins(logits: Array) -> Array:
    """(n, classes) -> (n,): largest logit minus the runner-up, >= 0, whatever the label."""
    largest, second = jnp.moveaxis(jax.lax.top_k(logits, 2)[0], -1, 0)
    return largest - second


def confidences(logits: Array) -> Array:
    """(n, classes) -> (n,): the largest probability."""
    return jnp.max(jax.nn.softmax(logits), -1)


def lower_bound(margin: Array, lipschitz: float) -> Array:
    """(n,): margin / (sqrt(2) lipschitz), below every L2 distance to another prediction.

    A difference of two logits is the product of the logits and a vector of length sqrt(2), so it
    changes by at most sqrt(2) lipschitz ||x - x'||_2, lipschitz > 0 bounding the logits' constant
    (Hein & Andriushchenko 2017; Tsuzuku et al. 2018).
    """
    return margin / (math.sqrt(2.0) * lipschitz)
