"""The two ways a network is called, and the running statistics that one leaves for the other.

    logits = evaluate(model, variables, images)                    # attack, measures: BN inference
    ready = prepared(model, variables, images)                     # of variables, for many passes
    logits, moments = train(model, variables, images, mask)        # update: BN on batch moments
    both, moments = train(model, variables, jnp.stack([images, x_adv]), mask)  # each on its own
    batch_stats = update_statistics(batch_stats, [moments], momentum=0.1)

`variables` is {'params': ..., 'batch_stats': ...}, with 'prepared' beside them where `prepared` has
added it. Logits leave here in float32 at least, so that
softmax, losses and their gradients never run in bfloat16.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

Variables = Mapping[str, Any]


def evaluate(model: nn.Module, variables: Variables, images: Array) -> Array:
    """(b, h, w, c) -> (b, classes); each example on its own, with the running statistics."""
    return _at_least_float32(model.apply(variables, images, train=False))


def prepared(model: nn.Module, variables: Variables, images: Array) -> Variables:
    """`variables`, and beside them what inference makes of these alone, for such `images`.

    That is the kernels of convolutions in the type of the computation, which training mode takes
    too, and BatchNorm's factors. A loop that XLA compiles for a GPU would make them anew in every
    round, which is a third of its launches (docs/scaling.md). Only for passes between which weights
    and statistics stay as they are, and which are not differentiated by them: they look at what was
    prepared. To be called inside of a jitted program.
    """
    # The logits are not looked at, and therefore not computed.
    _, found = model.apply(variables, images[:1], train=False, mutable=['prepared'])
    return {**variables, **found}


def train(
    model: nn.Module, variables: Variables, images: Array, mask: Array
) -> tuple[Array, dict[str, Any]]:
    """(b, h, w, c), mask (b,) -> logits (b, classes) and the batch moments of every norm.

    Images (passes, b, h, w, c) are several batches that go through the network together, but do
    not know of each other: logits (passes, b, classes), and every moment with an axis of passes.
    """
    logits, changed = model.apply(variables, images, train=True, mask=mask, mutable=['moments'])
    return _at_least_float32(logits), dict(changed['moments'])


def update_statistics(batch_stats: Any, moments: Sequence[Any], momentum: float) -> Any:
    """Running statistics after passes with these `moments`, in this order.

    Each pass gives running <- (1 - momentum) * running + momentum * moment (PyTorch's momentum).
    """
    for of_pass in moments:
        batch_stats = jax.tree.map(
            lambda running, moment: (1 - momentum) * running + momentum * moment,
            batch_stats,
            of_pass,
        )
    return batch_stats


def _at_least_float32(logits: Any) -> Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
