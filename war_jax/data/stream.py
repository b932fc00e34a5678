"""A data set that stays with the host, in memory or on disk, and its batches read some steps ahead.

    data = placed(mesh, splits.train, splits.extra, placement='host')
    for batch in ahead(data.batches(plan), AHEAD):
        ...

For sets that the devices cannot hold: millions of generated images. Batches are those of the same
plan, so that training ends with the same bits as with the images on the devices. Every host reads
the rows of its own devices and no others. Grain would bring samplers with orders of their own, of
which none is the plan's; what is left of its work is a thread.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from war_jax.data.arrays import Dataset
from war_jax.data.batches import Batch, BatchSource, Plan
from war_jax.data.device import DeviceData
from war_jax.data.shards import Joined
from war_jax.mesh import AXIS, shard

AHEAD = 8  # batches that are read before their turn: what a slow disk may cost once

Item = TypeVar('Item')


def placed(
    mesh: Mesh, *datasets: Dataset, placement: Literal['replicated', 'host_sharded', 'host']
) -> BatchSource:
    """`datasets` one behind the other, where data.placement says."""
    if placement == 'host':
        return HostData(mesh, *datasets)
    return DeviceData(mesh, *datasets, placement=placement)


class HostData:
    """`datasets` one behind the other, where they are; batches are split over `mesh`."""

    def __init__(self, mesh: Mesh, *datasets: Dataset):
        self._rows = NamedSharding(mesh, P(AXIS))
        self._mesh = mesh
        self._images = Joined([dataset.images for dataset in datasets])
        self._labels = np.concatenate([dataset.labels for dataset in datasets])

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: np.ndarray, mask: np.ndarray) -> Batch:
        """indices, mask (b,) -> the batch, its rows split over the devices."""
        shape = (len(indices), *self._images.shape[1:])

        def rows(index: Any) -> np.ndarray:
            """Of one device of this host."""
            return self._images[indices[index[0]]]

        images = jax.make_array_from_callback(shape, self._rows, rows)
        return Batch(images, *shard(self._mesh, (self._labels[indices], mask, indices)))

    def batches(self, plan: Plan, done: int = 0) -> Iterator[Batch]:
        """The batches of `plan` but the first `done`."""
        for indices, mask in zip(plan.indices[done:], plan.mask[done:], strict=True):
            yield self.batch(indices, mask)


def ahead(items: Iterator[Item], count: int) -> Generator[Item, None, None]:
    """The same items, each made by a thread while the `count` before it wait for their turn.

    An error in `items` is raised where its item would be. To close it ends the thread.
    """
    end: Any = object()
    waiting: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(1, 'ahead') as thread:
        try:
            while True:
                while len(waiting) <= count:
                    waiting.append(thread.submit(next, items, end))
                item = waiting.popleft().result()
                if item is end:
                    return
                yield item
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
