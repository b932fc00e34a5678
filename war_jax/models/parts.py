"""Batches a part at a time, for what is done to each example by itself.

    logits = by_parts(lambda images, labels: attacked(images, labels), images, labels)

A CPU computes fastest what stays in its caches (docs/performance.md): up to 16 images of CIFAR-10
at a time, or more of smaller ones. Accelerators take the batch whole.
"""

import math
from collections.abc import Callable
from typing import Any

import jax

from war_jax.lowering import is_for_cpu

LARGEST = 16 * 32 * 32 * 3  # numbers in a part of the largest array
SMALLEST = 8  # examples; with fewer, the parts' own overhead outweighs


def by_parts(function: Callable[..., Any], *arrays: Any) -> Any:
    """function(*arrays): trees of arrays (b, ...) -> such a tree, row by row."""
    leaves = jax.tree.leaves(arrays)
    count = leaves[0].shape[0]
    largest = max(SMALLEST, LARGEST // max(math.prod(leaf.shape[1:]) for leaf in leaves))
    size = max(n for n in range(1, count + 1) if count % n == 0 and n <= largest)
    if not is_for_cpu() or size < SMALLEST or size == count:
        return function(*arrays)

    def cut(array: jax.Array) -> jax.Array:
        return array.reshape(count // size, size, *array.shape[1:])

    def join(array: jax.Array) -> jax.Array:
        return array.reshape(count, *array.shape[2:])

    parts = jax.tree.map(cut, arrays)
    return jax.tree.map(join, jax.lax.map(lambda part: function(*part), parts))
