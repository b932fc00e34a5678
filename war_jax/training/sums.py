"""Sums over a batch that is spread over devices, and over parts that follow one another.

    gradient = in_parts(make_gradient(...), count=4)               # of a fourth of the rows each
    mean = batch_mean(batch.mask, total(batch.mask.sum()))         # inside shard_map
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from war_jax.mesh import total
from war_jax.training.objective import Mean


def in_parts(
    function: Callable[..., tuple[Any, Any]], count: int
) -> Callable[..., tuple[Any, Any]]:
    """`function`, on `count` parts of the leading axis of its last argument, one after the other.

    It returns (sums, rows), as does what this returns: the sums of all parts added up, and the
    rows one behind the other. The other arguments are the same for all parts.
    """
    if count == 1:
        return function

    def on_all(*arguments: Any) -> tuple[Any, Any]:
        *same, tree = arguments
        parts = jax.tree.map(lambda a: a.reshape(count, a.shape[0] // count, *a.shape[1:]), tree)

        def on_part(part: Any) -> tuple[Any, Any]:
            return function(*same, part)

        shapes, _ = jax.eval_shape(on_part, jax.tree.map(lambda a: a[0], parts))
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

        def add(sums: Any, part: Any) -> tuple[Any, Any]:
            more, rows = on_part(part)
            return jax.tree.map(jnp.add, sums, more), rows

        sums, rows = jax.lax.scan(add, zeros, parts)
        return sums, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), rows)

    return on_all


def batch_mean(mask: Array, count: Array) -> Mean:
    """(b,) -> (), inside `shard_map`: the sum over the real examples of all devices, by `count`."""

    def mean(values: Array) -> Array:
        dtype = jnp.promote_types(values.dtype, jnp.float32)
        kept = jnp.where(mask, values.astype(dtype), 0)
        return total(kept.sum()) / count.astype(dtype)

    return mean
