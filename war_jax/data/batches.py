"""Which example sits where in which batch: plans of indices and masks, NumPy only.

A plan is a pure function of its arguments, so a resumed run repeats the interrupted one, and every
host of a multi-host run computes the same plan and takes its own columns of it:

    plan = train_plan(seed=0, epoch=3, num_train=50_000, batch_size=128)
    for indices, mask in zip(plan.indices, plan.mask):
        batch = Batch(images[indices], labels[indices], mask, indices)

No example is dropped or counted twice: a batch that cannot be filled is padded with index 0 under
mask False, and whatever reads it weighs each example by its mask.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

# Names of independent random streams, so that no two uses of one seed share their numbers.
_TRAIN_STREAM = 0
_EXTRA_STREAM = 1


class Batch(NamedTuple):
    """One batch; NumPy arrays on the host, JAX arrays on the device."""

    images: Any  # (b, h, w, c) uint8, or float32 in [0, 1]
    labels: Any  # (b,) int32
    mask: Any  # (b,) bool, False in padding slots
    ids: Any  # (b,) int32, the example's number; the source of its own randomness


class Plan(NamedTuple):
    """The batches of one pass over the data."""

    indices: np.ndarray  # (steps, batch) int32; 0 in padding slots
    mask: np.ndarray  # (steps, batch) bool


class BatchSource(Protocol):
    """A data set that batches are had from, wherever it is: `DeviceData`, `HostData`."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, mask: np.ndarray) -> Batch:
        """indices, mask (b,) -> the batch, its rows split over the devices."""
        ...

    def batches(self, plan: Plan, done: int = 0) -> Iterator[Batch]:
        """The batches of `plan` but the first `done`, as `batch` would give them."""
        ...


def permutation(n: int, *entropy: int) -> np.ndarray:
    """Returns a uniformly random order of 0 .. n - 1, (n,) int64, a pure function of `entropy`.

    `entropy` are integers >= 0. Raw 64-bit words are sorted, because NumPy keeps those the same
    from version to version, unlike `Generator.permutation`: an upgrade must not move data splits.
    """
    words = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(n)
    return np.argsort(words, kind='stable')


def train_plan(
    seed: int,
    epoch: int,
    num_train: int,
    batch_size: int,
    num_extra: int = 0,
    extra_per_batch: int = 0,
) -> Plan:
    """Returns the shuffled batches of one epoch: every training example exactly once.

    `extra_per_batch` slots of each batch, the last one included, hold extra examples, numbered from
    `num_train` on (the extra set is thought of as concatenated behind the training set). Extra
    examples come from one endless stream of permutations in which epoch e continues where epoch
    e - 1 stopped: the whole extra set is seen before any of it is seen again.

    Extra examples, and in the last batch the padding, are spread evenly over the batch instead of
    standing at its end: each device takes a run of consecutive slots, and a device whose slots
    were all extra, or all padding, would have BatchNorm statistics unlike its neighbours', or none.

    Args:
      seed, epoch: >= 0; together with the sizes they determine the plan.
      num_train: number of training examples, >= 1.
      batch_size: slots per batch, over all devices and hosts.
      num_extra: number of extra examples.
      extra_per_batch: slots per batch for extra examples, in [0, batch_size).

    Raises:
      ValueError: if a size is out of its range, or extra slots are asked for without extra data.
    """
    if num_train < 1:
        raise ValueError(f'num_train = {num_train}: must be at least 1')
    if not 0 <= extra_per_batch < batch_size:
        raise ValueError(
            f'extra_per_batch = {extra_per_batch}: must be in [0, batch_size = {batch_size})'
        )
    if extra_per_batch and num_extra < 1:
        raise ValueError(f'num_extra = {num_extra}: must be at least 1 to fill extra slots')
    own = batch_size - extra_per_batch
    steps = -(-num_train // own)
    is_extra = _spread(extra_per_batch, batch_size)

    filled = np.ones((steps, own), bool)
    filled[-1] = _spread(num_train - (steps - 1) * own, own)
    own_indices = np.zeros((steps, own), np.int32)
    own_indices[filled] = permutation(num_train, seed, epoch, _TRAIN_STREAM)

    indices = np.empty((steps, batch_size), np.int32)
    mask = np.ones((steps, batch_size), bool)
    indices[:, ~is_extra] = own_indices
    mask[:, ~is_extra] = filled
    if extra_per_batch:
        count = steps * extra_per_batch
        stream = _extra_stream(seed, epoch * count, count, num_extra)
        indices[:, is_extra] = num_train + stream.reshape(steps, extra_per_batch)
    return Plan(indices, mask)


def eval_plan(num_examples: int, batch_size: int) -> Plan:
    """Returns the batches of `num_examples` examples in order, the last one padded at its end.

    Raises:
      ValueError: if `num_examples` < 0 or `batch_size` < 1.
    """
    if num_examples < 0:
        raise ValueError(f'num_examples = {num_examples}: must be at least 0')
    if batch_size < 1:
        raise ValueError(f'batch_size = {batch_size}: must be at least 1')
    steps = -(-num_examples // batch_size)
    slots = np.arange(steps * batch_size, dtype=np.int32).reshape(steps, batch_size)
    mask = slots < num_examples
    return Plan(np.where(mask, slots, 0).astype(np.int32), mask)


def _spread(count: int, total: int) -> np.ndarray:
    """Marks `count` of `total` slots, (total,) bool, evenly.

    Any w consecutive slots hold count * w / total marks, give or take less than one.
    """
    edges = np.arange(total + 1) * count // total
    return edges[1:] > edges[:-1]


def _extra_stream(seed: int, start: int, count: int, num_extra: int) -> np.ndarray:
    """Entries start .. start + count - 1 of the endless stream of permutations, (count,) int32."""
    first, last = start // num_extra, (start + count - 1) // num_extra
    passes = [_extra_pass(seed, n, num_extra) for n in range(first, last + 1)]
    offset = start - first * num_extra
    return np.concatenate(passes)[offset : offset + count]


@functools.lru_cache(maxsize=2)  # of a large set, a pass takes many epochs, and seconds to shuffle
def _extra_pass(seed: int, number: int, num_extra: int) -> np.ndarray:
    """The order of one pass over the extra set, (num_extra,) int32, not to be written to."""
    order = permutation(num_extra, seed, number, _EXTRA_STREAM).astype(np.int32)
    order.flags.writeable = False
    return order
