"""A data set that lives on the devices, and batches cut out of it by index.

    data = DeviceData(mesh, splits.train)
    for batch in data.batches(train_plan(seed, epoch, len(splits.train.labels), batch_size)):
        ...

A CIFAR-sized set is a few hundred megabytes of uint8, so every device holds all of it and only
indices travel from the host: a batch's rows are gathered by the device that needs them. Of a set
that is too large for that, the devices of each host can hold its share of the rows
(`placement='host_sharded'`): they then send each other the rows of a batch, and nothing else is
different. The host's memory still has all of them.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from war_jax.config_rules import refusal
from war_jax.data.batches import Batch, Plan
from war_jax.data.sources import Dataset
from war_jax.mesh import AXIS, replicate, shard

Placement = Literal['replicated', 'host_sharded']


class DeviceData:
    """`datasets` one behind the other, on the devices of `mesh`."""

    def __init__(self, mesh: Mesh, *datasets: Dataset, placement: Placement = 'replicated'):
        self._mesh = mesh
        images = np.concatenate([dataset.images for dataset in datasets])
        labels = np.concatenate([dataset.labels for dataset in datasets])
        self._size = len(labels)
        if placement == 'host_sharded':
            share = -len(labels) % mesh.size  # rows of zeros, which no plan asks for
            images, labels = (
                np.pad(a, [(0, share), *[(0, 0)] * (a.ndim - 1)]) for a in (images, labels)
            )
            self._images, self._labels = shard(mesh, (images, labels))
        else:
            self._images, self._labels = replicate(mesh, (images, labels))
        self._gather, self._next = _gather_on(mesh, placement), _next_on(mesh, placement)

    def __len__(self) -> int:
        return self._size

    def batch(self, indices: np.ndarray, mask: np.ndarray) -> Batch:
        """indices, mask (b,) -> the batch, its rows split over the devices."""
        return self._gather(self._images, self._labels, *shard(self._mesh, (indices, mask)))

    def batches(self, plan: Plan, done: int = 0) -> Iterator[Batch]:
        """The batches of `plan` but the first `done`, as `batch` would give them.

        The whole plan goes to the devices with the first one, and they count for themselves:
        nothing travels from the host for those that follow.
        """
        on_devices = shard(self._mesh, plan, axis=1)
        row = replicate(self._mesh, np.int32(done))
        for _ in range(done, len(plan.mask)):
            batch, row = self._next(self._images, self._labels, on_devices, row)
            yield batch


@functools.cache  # a program for each mesh, not for each run that uses it
def _gather_on(mesh: Mesh, placement: Placement) -> Callable[..., Batch]:
    return jax.jit(_rows(mesh, placement), out_shardings=NamedSharding(mesh, P(AXIS)))


@functools.cache
def _next_on(mesh: Mesh, placement: Placement) -> Callable[..., tuple[Batch, Array]]:
    split, whole = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())
    gather = _rows(mesh, placement)

    def following(images: Array, labels: Array, plan: Plan, row: Array) -> tuple[Batch, Array]:
        indices, mask = (jax.lax.dynamic_index_in_dim(a, row, keepdims=False) for a in plan)
        return gather(images, labels, indices, mask), row + 1

    return jax.jit(following, out_shardings=(split, whole))


def _rows(mesh: Mesh, placement: Placement) -> Callable[[Array, Array, Array, Array], Batch]:
    """(n, h, w, c), (n,), (b,), (b,) -> the batch."""

    def replicated(images: Array, labels: Array, indices: Array, mask: Array) -> Batch:
        return Batch(images[indices], labels[indices], mask, indices)

    def exchanged(images: Array, labels: Array, indices: Array) -> tuple[Array, Array]:
        """On one device, with its share of the rows and all indices: its rows of the batch."""
        at = indices - jax.lax.axis_index(AXIS) * len(labels)
        is_here = (at >= 0) & (at < len(labels))

        def rows(array: Array) -> Array:
            taken = array[jnp.where(is_here, at, 0)]
            own = jnp.where(jnp.expand_dims(is_here, range(1, taken.ndim)), taken, 0)
            # One device has the row, the others zeros.
            return jax.lax.psum_scatter(own, AXIS, tiled=True)

        return rows(images), rows(labels)

    specs = {'in_specs': (P(AXIS), P(AXIS), P()), 'out_specs': P(AXIS)}
    exchange = jax.shard_map(exchanged, mesh=mesh, **specs)

    def sharded(images: Array, labels: Array, indices: Array, mask: Array) -> Batch:
        return Batch(*exchange(images, labels, indices), mask, indices)

    return sharded if placement == 'host_sharded' else replicated


def as_unit_interval(images: Array, dtype: jnp.dtype) -> Array:
    """uint8 images, or floats in [0, 1], as floats in [0, 1] of `dtype`; traced or not.

    A pixel is bitwise NumPy's quotient by 255, so that a user's own floats give the same network.
    Raises ConfigError for any other integers.
    """
    if images.dtype == jnp.uint8:
        # Not a division: a compiled one by a constant is a product with its rounded reciprocal,
        # which differs in the last place for every third value.
        return jnp.asarray(unit_interval(np.dtype(dtype))).at[images].get(mode='promise_in_bounds')
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise refusal('images', str(images.dtype), 'must be uint8, or floats in [0, 1]')
    return images.astype(dtype)


@functools.cache
def unit_interval(dtype: np.dtype) -> np.ndarray:
    """(256,): what each value of a uint8 pixel is in [0, 1], rounded to the nearest of `dtype`."""
    return np.arange(256).astype(dtype) / np.asarray(255, dtype)
