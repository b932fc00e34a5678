"""Batches a part at a time, for what is done to each example by itself.

    logits = by_parts(lambda images, labels: attacked(images, labels), images, labels)

A CPU computes fastest what stays in its caches (docs/performance.md). Accelerators take the batch
whole.
"""

from collections.abc import Callable
from typing import Any

import jax

LARGEST = 16  # examples in a part
SMALLEST = 8  # below, the parts' own overhead outweighs


def by_parts(function: Callable[..., Any], *arrays: Any) -> Any:
    """function(*arrays): trees of arrays (b, ...) -> such a tree, row by row."""
    count = jax.tree.leaves(arrays)[0].shape[0]
    size = max(n for n in range(1, LARGEST + 1) if count % n == 0)
    if jax.default_backend() != 'cpu' or size < SMALLEST or size == count:
        return function(*arrays)

    def cut(array: jax.Array) -> jax.Array:
        return array.reshape(count // size, size, *array.shape[1:])

    def join(array: jax.Array) -> jax.Array:
        return array.reshape(count, *array.shape[2:])

    parts = jax.tree.map(cut, arrays)
    return jax.tree.map(join, jax.lax.map(lambda part: function(*part), parts))
