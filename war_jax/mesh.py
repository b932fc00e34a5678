"""Devices as one mesh axis, and arrays that live on it.

    mesh = make_mesh()
    state = replicate(mesh, state)              # the same on every device
    batch = shard(mesh, batch)                  # leading axis split over the devices

Everything is data parallel: the only axis is `'data'`. A global batch has the size that the config
says, whatever the number of devices; each host supplies the rows that its devices hold.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from war_jax.config_rules import refusal
from war_jax.lowering import is_for_cpu

AXIS = 'data'
_MANY = 10_000  # numbers, whose total is taken in several parts


def spread_over_cores(*batch_sizes: int) -> None:
    """Make the CPU as many devices as it has cores; call it before JAX starts its backend.

    XLA runs most convolutions of a CPU device on one core, and those of several devices side by
    side (docs/performance.md has both times). The number is the largest one up to the number of
    cores that divides all `batch_sizes`; without any, the number of cores.
    A number chosen by the user in XLA_FLAGS is left alone, and so is the one device of each of
    several processes, which may have to share the cores; accelerators do not care.
    """
    chosen = 'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', '')
    if chosen or jax.distributed.is_initialized():
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    common = math.gcd(*batch_sizes)
    devices = max(n for n in range(1, (cores or 1) + 1) if common % n == 0)
    jax.config.update('jax_num_cpu_devices', devices)


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A one-dimensional mesh over `devices`, or over all devices of all hosts."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), (AXIS,))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Every leaf whole on every device; each host passes the same values."""
    sharding = NamedSharding(mesh, P())

    def put(leaf: Any) -> jax.Array:
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharding)
        # device_put would send the whole array around, to compare it.
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    def place(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            # Typed keys cannot be put on the devices of several hosts; their numbers can.
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return put(leaf)

    return jax.tree.map(place, tree)


def shard(mesh: Mesh, tree: Any, axis: int = 0) -> Any:
    """Leaves (global_batch, ...) split over the mesh; the batch may be another axis.

    Each host passes the whole (small) global array and its devices take their rows of it, so that
    what a batch contains does not depend on how many hosts there are.
    """
    sharding = NamedSharding(mesh, P(*[None] * axis, AXIS))

    def place(leaf: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(place, tree)


def total(tree: Any, axis_name: str = AXIS) -> Any:
    """Inside `shard_map`: the sum over the devices of every array; its gradient is `to_each`.

    On CPUs in the order of the devices, so that as many devices give the same bits whether they
    are of one process or of several; the order in which these add up is not ours to choose.
    """
    return _total(tree, axis_name)


def to_each(tree: Any, axis_name: str = AXIS) -> Any:
    """Inside `shard_map`: what is the same on all devices, for each to use on rows of its own.

    Its gradient is the `total` of theirs, of the whole tree at once.
    """
    return _to_each(tree, axis_name)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _total(tree: Any, axis_name: str) -> Any:
    if not is_for_cpu() or jax.lax.axis_size(axis_name) <= 2:
        return jax.lax.psum(tree, axis_name)  # of two numbers there is one sum
    flat, unflatten = ravel_pytree(tree)
    return unflatten(_total_in_order(flat, axis_name))


def _total_in_order(values: jax.Array, axis_name: str) -> jax.Array:
    """(n,) -> (n,)"""
    devices, own = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)

    def total_of(part: jax.Array) -> jax.Array:
        alone = jnp.zeros((devices, len(part)), part.dtype).at[own].set(part)
        # One number and zeros, in whatever order, are that number.
        return jnp.sum(jax.lax.psum(alone, axis_name), 0, dtype=part.dtype)

    if len(values) < _MANY:
        return total_of(values)
    # A share at a time: all at once would take as many times the memory as there are devices.
    padded = jnp.pad(values, (0, -len(values) % devices)).reshape(devices, -1)
    return jax.lax.map(total_of, padded).reshape(-1)[: len(values)]


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _to_each(tree: Any, axis_name: str) -> Any:
    return jax.lax.pcast(tree, axis_name, to='varying')


_total.defvjp(
    lambda tree, axis_name: (total(tree, axis_name), None),
    lambda axis_name, _, gradients: (to_each(gradients, axis_name),),
)
_to_each.defvjp(
    lambda tree, axis_name: (to_each(tree, axis_name), None),
    lambda axis_name, _, gradients: (total(gradients, axis_name),),
)


def check_divisible(mesh: Mesh, key: str, batch_size: int, parts: int = 1) -> None:
    """Raises ConfigError unless every device gets the same number of rows of a batch.

    parts: so many that each device works on one after the other (optimizer.accumulation).
    """
    unit = mesh.size * parts
    if batch_size % unit:
        lower = batch_size // unit * unit
        nearest = [size for size in (lower, lower + unit) if size]
        rule = f'must be a multiple of the number of devices, {mesh.size}'
        if parts > 1:
            rule += f', times optimizer.accumulation = {parts}'
        raise refusal(key, batch_size, rule, ' or '.join(map(str, nearest)))


def fetched(trees: Iterable[Any]) -> Iterator[Any]:
    """`fetch` of one after the other, each while the devices work on the next one already.

    trees: made as they are asked for, and handed out when there is one more of them.
    """
    waiting: list[Any] = []
    for tree in trees:
        waiting.append(tree)
        if len(waiting) > 1:
            yield fetch(waiting.pop(0))
    yield from map(fetch, waiting)


def fetch(tree: Any) -> Any:
    """Arrays split over all devices of all hosts, whole, as NumPy arrays on each host."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
