"""A data set that lives on the devices, and batches cut out of it by index.

    data = DeviceData(mesh, splits.train)
    for batch in data.batches(train_plan(seed, epoch, len(splits.train.labels), batch_size)):
        ...

A CIFAR-sized set is a few hundred megabytes of uint8, so every device holds all of it and only
indices travel from the host: a batch's rows are gathered by the device that needs them.
"""

import functools
from collections.abc import Callable, Iterator

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


class DeviceData:
    """`datasets` one behind the other, replicated over `mesh`."""

    def __init__(self, mesh: Mesh, *datasets: Dataset):
        self._mesh = mesh
        images = np.concatenate([dataset.images for dataset in datasets])
        labels = np.concatenate([dataset.labels for dataset in datasets])
        self._images, self._labels = replicate(mesh, (images, labels))
        self._gather, self._next = _gather_on(mesh), _next_on(mesh)

    def __len__(self) -> int:
        return self._labels.shape[0]

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
def _gather_on(mesh: Mesh) -> Callable[..., Batch]:
    return jax.jit(_gather, out_shardings=NamedSharding(mesh, P(AXIS)))


@functools.cache
def _next_on(mesh: Mesh) -> Callable[..., tuple[Batch, Array]]:
    split, whole = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())
    return jax.jit(_next, out_shardings=(split, whole))


def _next(images: Array, labels: Array, plan: Plan, row: Array) -> tuple[Batch, Array]:
    indices, mask = (jax.lax.dynamic_index_in_dim(a, row, keepdims=False) for a in plan)
    return _gather(images, labels, indices, mask), row + 1


def _gather(images: Array, labels: Array, indices: Array, mask: Array) -> Batch:
    return Batch(images[indices], labels[indices], mask, indices)


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
