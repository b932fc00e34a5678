"""Oracle: the same set in memory, on the devices. Its batches are those of NumPy's indexing
(test_device.py)."""

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from war_jax.config import DataConfig
from war_jax.data.arrays import DataError, Dataset
from war_jax.data.batches import train_plan
from war_jax.data.device import DeviceData
from war_jax.data.shards import Joined
from war_jax.data.sources import Splits, checksum, load
from war_jax.data.stream import HostData, ahead, placed
from war_jax.mesh import make_mesh

SIZE, SHAPE, COUNT = 200_000, (8, 8, 3), 50_000


@pytest.fixture(scope='module')
def generated(tmp_path_factory) -> tuple[Path, Dataset]:
    """200,000 images in four shards of all kinds, and the same in memory."""
    folder = tmp_path_factory.mktemp('generated')
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (SIZE, *SHAPE), np.uint8)
    labels = rng.integers(0, 3, SIZE)
    first, second, third, fourth = (slice(n, n + COUNT) for n in range(0, SIZE, COUNT))
    np.savez(folder / '0.npz', image=images[first], label=labels[first])
    np.save(folder / '1_images.npy', images[second])
    np.save(folder / '1_labels.npy', labels[second])
    np.savez(folder / '2.npz', images=images[third], labels=labels[third].astype(np.uint8))
    np.savez_compressed(folder / '3.npz', image=images[fourth], label=labels[fourth])
    own: dict[str, Any] = {
        f'{split}_{name}': array[:300]
        for split in ('train', 'test')
        for name, array in (('images', images), ('labels', labels))
    }
    np.savez(folder.parent / 'own.npz', **own)
    return folder, Dataset(images, labels.astype(np.int32))


def loaded(path: Path, placement: str) -> Splits:
    own = DataConfig.whole(f'npz:{path.parent}/own.npz', '')
    more = {'extra_path': str(path), 'extra_fraction': 0.5, 'placement': placement}
    return load(dataclasses.replace(own, **more))


def test_batches_from_disk_are_bitwise_those_of_the_devices(generated):
    """Over the end of an epoch and of a pass over the extra set, from the middle of an epoch on."""
    folder, everything = generated
    splits = loaded(folder, 'host')
    assert splits.extra is not None and len(splits.extra.labels) == SIZE
    assert isinstance(splits.extra.images, Joined) and splits.extra.images.nbytes == SIZE * 192
    mesh = make_mesh()
    data = placed(mesh, splits.train, splits.extra, placement='host')
    on_devices = DeviceData(mesh, splits.train, everything)
    assert len(data) == len(on_devices) == 300 + SIZE
    seen = np.zeros(SIZE, int)
    for epoch, done in ((0, 0), (1, 1), (6, 0)):  # 200,000 lie in the seventh
        plan = train_plan(5, epoch, 300, 16_000, SIZE, 15_840)
        found = ahead(data.batches(plan, done), 2)
        for ours, theirs in zip(found, on_devices.batches(plan, done), strict=True):
            assert ours.images.sharding == theirs.images.sharding
            for one, other in zip(ours, theirs, strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)
        np.add.at(seen, plan.indices[plan.indices >= 300] - 300, 1)
    assert len(plan.mask) == 2 and seen.sum() == 3 * 2 * 15_840
    alone = (plan.indices[1], plan.mask[1])
    np.testing.assert_array_equal(data.batch(*alone).images, on_devices.batch(*alone).images)


def test_where_the_images_are_changes_neither_them_nor_their_checksum(generated):
    folder, everything = generated
    sums = set()
    for placement in ('replicated', 'host'):
        splits = loaded(folder, placement)
        assert splits.extra is not None
        np.testing.assert_array_equal(np.asarray(splits.extra.images), everything.images)
        np.testing.assert_array_equal(splits.extra.labels, everything.labels)
        sums.add(checksum(splits))
    np.savez(folder.parent / 'one.npz', image=everything.images, label=everything.labels)
    one = loaded(folder.parent / 'one.npz', 'host')
    assert one.extra is not None and isinstance(one.extra.images, np.memmap)
    assert {checksum(one)} == sums


def own_memory() -> int:
    """Bytes of this process, without what is mapped from files."""
    status = Path('/proc/self/status').read_text()
    return 1024 * int(status.split('RssAnon:')[1].split()[0])


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='Linux tells')
def test_the_memory_of_the_host_is_bounded(generated):
    """38 MB go by; three quarters of them lie uncompressed, in shards of 10 MB."""
    folder, _ = generated
    (folder.parent / 'large').mkdir(exist_ok=True)
    for shard in ('0.npz', '1_images.npy', '1_labels.npy', '2.npz'):
        link = folder.parent / 'large' / shard
        if not link.exists():
            link.symlink_to(folder / shard)
    before = own_memory()
    splits = loaded(folder.parent / 'large', 'host')
    assert splits.extra is not None
    checksum(splits)
    data = HostData(make_mesh(), splits.extra)
    plan = train_plan(0, 0, len(data), 1000)
    for _ in ahead(data.batches(plan), 4):
        pass
    assert len(plan.mask) == 150
    assert own_memory() - before < 12e6


def test_a_host_reads_the_rows_of_its_devices(generated, monkeypatch):
    """Here all four are its own: each is given its run of the batch, and no row is read twice."""
    _, everything = generated
    asked = []
    real = Joined.__getitem__
    monkeypatch.setattr(Joined, '__getitem__', lambda self, r: asked.append(r) or real(self, r))
    indices = np.arange(0, 4000, 500, dtype=np.int32)[::-1].copy()
    batch = HostData(make_mesh(), everything).batch(indices, np.ones(8, bool))
    assert sorted(map(tuple, asked)) == sorted(map(tuple, indices.reshape(4, 2)))
    for shard in batch.images.addressable_shards:
        np.testing.assert_array_equal(shard.data, everything.images[indices[shard.index[0]]])


@pytest.mark.parametrize(
    ('files', 'fragment'),
    [
        ({}, 'holds no shards; must hold files *.npz, or *images.npy and *labels.npy or *image'),
        ({'a_images.npy': np.zeros((5, *SHAPE), np.uint8)}, 'a_images.npy: cannot read'),
        ({'a.npz': {'x': np.zeros(1)}}, 'a.npz: '),
        (
            {
                'a_image.npy': np.zeros((5, *SHAPE), np.uint8),
                'a_label.npy': np.full(5, 7),
            },
            'a_image.npy: label has values in 7..7: must be in 0..2',
        ),
        (
            {'a.npz': {'image': np.zeros((5, 8, 9, 3), np.uint8), 'label': np.zeros(5, int)}},
            'a.npz: image has (h, w, c) = (8, 9, 3)',
        ),
    ],
)
def test_shards_that_cannot_serve_are_named(generated, tmp_path, files, fragment):
    folder = tmp_path / 'shards'
    folder.mkdir()
    (tmp_path / 'own.npz').symlink_to(generated[0].parent / 'own.npz')
    for name, content in files.items():
        if name.endswith('.npz'):
            np.savez(folder / name, **content)
        else:
            np.save(folder / name, content)
    with pytest.raises(DataError) as caught:
        loaded(folder, 'host')
    message = str(caught.value)
    assert message.startswith(f'data.extra_path = {str(folder)!r}: ') and fragment in message
    assert '\n' not in message


def test_a_torn_archive_is_refused(generated, tmp_path):
    (tmp_path / 'own.npz').symlink_to(generated[0].parent / 'own.npz')
    whole = (generated[0] / '0.npz').read_bytes()
    (tmp_path / 'torn.npz').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"torn\.npz'.* is not an \.npz archive"):
        loaded(tmp_path / 'torn.npz', 'host')


def test_items_are_made_ahead_and_in_order():
    made, closed = [], threading.Event()

    def items():
        try:
            for number in range(100):
                made.append((number, threading.current_thread().name))
                yield number
        finally:
            closed.set()

    found = ahead(items(), 3)
    assert made == []
    for number in range(10):
        assert next(found) == number
        deadline = time.monotonic() + 10
        while len(made) < number + 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert [made_number for made_number, _ in made] == list(range(number + 4))
    assert all(name != threading.main_thread().name for _, name in made)
    found.close()
    assert len(made) <= 14
    assert list(ahead(iter(range(5)), 3)) == list(range(5)) and list(ahead(iter(()), 3)) == []


def test_an_error_comes_where_its_item_would():
    def items():
        yield 1
        raise OSError('the disk is gone')

    found = ahead(items(), 3)
    assert next(found) == 1
    with pytest.raises(OSError, match='the disk is gone'):
        next(found)
