"""Oracles: scikit-learn's raw digits, images written to disk by the test itself, class quotas."""

import dataclasses
import subprocess
import sys
import zlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from war_jax.config import DataConfig
from war_jax.data.sources import DataError, balanced_subset, checksum, load, stratified_order


def config(name, data_dir='', num_validation=0, max_train_examples=0, extra_path=''):
    return DataConfig(
        name=name,
        data_dir=str(data_dir),
        num_validation=num_validation,
        max_train_examples=max_train_examples,
        pad=0,
        flip=False,
        extra_path=str(extra_path),
        extra_fraction=0.5 if extra_path else 0.0,
    )


def rows(dataset):
    return sorted(
        (x.tobytes(), int(y)) for x, y in zip(dataset.images, dataset.labels, strict=True)
    )


def error_of(data):
    with pytest.raises(DataError) as caught:
        load(data)
    message = str(caught.value)
    assert '\n' not in message
    return message


def test_stratified_order_gives_each_class_its_share():
    labels = np.repeat([0, 1, 2, 7], [600, 300, 99, 1])
    labels = labels[np.random.default_rng(0).permutation(1000)]
    order = stratified_order(labels, 5)
    assert sorted(order.tolist()) == list(range(1000))
    for stop in (1, 2, 10, 333, 500, 999, 1000):
        counts = np.bincount(labels[order[:stop]], minlength=8)[[0, 1, 2, 7]]
        assert (abs(counts - stop * np.array([0.6, 0.3, 0.099, 0.001])) <= 1).all()
    assert 490 <= np.flatnonzero(labels[order] == 7)[0] <= 510  # a lone example: in the middle
    # Within a class the order is random, and another seed gives another one.
    first = order[labels[order] == 0]
    assert 250 < (first[:300] < np.median(first)).sum() * 2 < 350
    assert (stratified_order(labels, 6) != order).mean() > 0.9


def test_balanced_subsets_are_nested_and_stratified_however_labels_are_sorted():
    labels = np.repeat(np.arange(10), 100)
    before = set()
    for k in (1, 10, 57, 200, 1000):
        subset = balanced_subset(labels, k)
        assert len(subset) == k and (np.diff(subset) > 0).all()
        assert (abs(np.bincount(labels[subset], minlength=10) - k / 10) <= 1).all()
        assert before <= set(subset.tolist())
        before = set(subset.tolist())
    for everything in (0, 1001):
        assert balanced_subset(labels, everything).tolist() == list(range(1000))
    # Chosen at random within a class, not its first ones.
    assert balanced_subset(labels, 10).tolist() != list(range(0, 1000, 100))


def test_checksum_tells_all_changes_and_nothing_else(tmp_path):
    arrays = npz_arrays()
    np.savez(tmp_path / 'own.npz', **arrays)
    own = config(f'npz:{tmp_path}/own.npz', num_validation=6)
    splits = load(own)
    assert checksum(load(own)) == checksum(splits)
    # Neither the name nor the place in memory matters.
    strided = np.repeat(splits.test.images, 2, axis=1)[:, ::2]
    same = dataclasses.replace(splits, name='x', test=splits.test._replace(images=strided))
    assert checksum(same) == checksum(splits)

    image, label = splits.test.images.copy(), splits.test.labels.copy()
    image[-1, -1, -1, -1] ^= 1
    label[0] += 1
    changed = [
        dataclasses.replace(splits, test=splits.test._replace(images=image)),
        dataclasses.replace(splits, test=splits.test._replace(labels=label)),
        dataclasses.replace(splits, extra=splits.test),
        dataclasses.replace(splits, train=splits.validation, validation=splits.train),
        load(config(f'npz:{tmp_path}/own.npz', num_validation=7)),
    ]
    sums = [checksum(splits), *map(checksum, changed)]
    assert len(set(sums)) == len(sums)
    assert all(len(digits) == 64 and int(digits, 16) for digits in sums)


def test_digits_are_the_raw_digits_rescaled():
    splits = load(config('digits', num_validation=150))
    assert (splits.name, splits.num_classes, splits.extra) == ('digits', 10, None)
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part.labels) for part in parts] == [1147, 150, 500]
    for part in parts:
        assert part.images.shape[1:] == (8, 8, 1)
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int32)
    # As a whole, the three parts are the raw set: none lost, doubled, or with another's label.
    raw_images, raw_labels = load_digits(return_X_y=True)
    expected = sorted(
        (bytes(round(255 * grey / 16) for grey in image), int(label))
        for image, label in zip(raw_images, raw_labels, strict=True)
    )
    assert sorted(row for part in parts for row in rows(part)) == expected
    quota = np.bincount(raw_labels) / 1797
    for part in parts:
        assert (abs(np.bincount(part.labels) - quota * len(part.labels)) <= 2).all()
    for number in ('1797', '1147', '150', '500'):
        assert number in splits.provenance


def test_digits_test_set_is_frozen():
    # A new value here means that published numbers were measured on another test set.
    test = load(config('digits')).test
    assert zlib.crc32(test.images.tobytes() + test.labels.tobytes()) == 447371169


def test_max_train_examples_leaves_validation_and_nests():
    whole = load(config('digits', num_validation=100))
    small, large = (load(config('digits', '', 100, n)) for n in (200, 400))
    assert rows(small.validation) == rows(whole.validation)
    assert (len(small.train.labels), len(large.train.labels)) == (200, 400)
    assert set(rows(small.train)) < set(rows(large.train)) < set(rows(whole.train))
    assert set(np.bincount(small.train.labels)) <= {19, 20, 21}
    assert '200 of 1297' in small.provenance


@pytest.mark.parametrize(
    ('arguments', 'fragments'),
    [
        ({'num_validation': 1297}, ('data.num_validation = 1297', '0..1296')),
        ({'num_validation': 297, 'max_train_examples': 1001}, ('= 1001', '0..1000')),
    ],
)
def test_more_than_there_is_is_refused(arguments, fragments):
    message = error_of(config('digits', **arguments))
    assert all(fragment in message for fragment in fragments)


@pytest.mark.parametrize(
    ('name', 'version', 'encoding', 'num_classes'),
    [
        ('cifar10', '3.0.2', 'PNG', 10),
        ('cifar10', '3.0.2', 'JPEG', 10),
        ('cifar100', '3.0.2', 'PNG', 20),
        ('svhn_cropped', '3.1.0', 'PNG', 10),
    ],
)
def test_tfds_sets_are_what_was_written(write_tfds, tmp_path, name, version, encoding, num_classes):
    written = write_tfds(tmp_path, name, version, encoding, num_classes)
    splits = load(config(name, tmp_path))
    assert splits.num_classes == num_classes
    for split in ('train', 'test'):
        images, labels = written[split]
        part = getattr(splits, split)
        np.testing.assert_array_equal(part.labels, labels)
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int32)
        np.testing.assert_allclose(part.images.astype(int), images, atol=(encoding == 'JPEG'))
    assert ('JPEG' in splits.provenance) == (encoding == 'JPEG')
    assert version in splits.provenance


def test_tfds_needs_no_tensorflow_and_no_network(write_tfds, tmp_path):
    write_tfds(tmp_path)
    program = f"""
import socket, sys
def refuse(*arguments, **options):
    print('network')  # told by the output below, should someone catch the error
    raise OSError('network')
socket.socket.connect = socket.getaddrinfo = refuse
from war_jax.config import DataConfig
from war_jax.data.sources import DataError, load
data = {config('cifar10', tmp_path, num_validation=4)!r}
assert len(load(data).validation.labels) == 4
try:
    load({config('cifar100', tmp_path)!r})
except DataError:
    pass
else:
    raise AssertionError('an absent set was loaded')
assert not set(sys.modules) & {{'tensorflow', 'jax'}}
"""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ''


def test_data_dir_comes_from_the_environment(write_tfds, tmp_path, monkeypatch):
    written = write_tfds(tmp_path / 'environment', shift=1)
    write_tfds(tmp_path / 'config', shift=2)
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'environment'))
    np.testing.assert_array_equal(load(config('cifar10')).train.labels, written['train'][1])
    named = load(config('cifar10', tmp_path / 'config'))
    assert (named.train.labels != written['train'][1]).any()
    monkeypatch.delenv('TFDS_DATA_DIR')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert str(tmp_path / 'tensorflow_datasets') in error_of(config('cifar10'))


def test_newest_prepared_version_is_read(write_tfds, tmp_path):
    write_tfds(tmp_path, version='3.0.2', shift=1)
    written = write_tfds(tmp_path, version='3.0.10', shift=2)
    write_tfds(tmp_path, version='incomplete.ABC_3.0.11', shift=3)
    splits = load(config('cifar10', tmp_path))
    np.testing.assert_array_equal(splits.train.labels, written['train'][1])


def test_absent_set_names_the_command_and_the_embedded_set(tmp_path):
    message = error_of(config('svhn_cropped', tmp_path))
    assert f"tfds.builder('svhn_cropped', data_dir='{tmp_path}', file_format='array_rec" in message
    assert 'download_and_prepare()' in message
    assert "data.name = 'digits'" in message


def test_unreadable_sets_say_where(write_tfds, tmp_path):
    write_tfds(tmp_path / 'shard')
    folder = tmp_path / 'shard' / 'cifar10' / '3.0.2'
    (folder / 'cifar10-test.array_record-00000-of-00001').unlink()
    assert str(folder) in error_of(config('cifar10', tmp_path / 'shard'))

    write_tfds(tmp_path / 'format')
    info = tmp_path / 'format' / 'cifar10' / '3.0.2' / 'dataset_info.json'
    info.write_text(info.read_text().replace('array_record', 'tfrecord'))
    message = error_of(config('cifar10', tmp_path / 'format'))
    assert str(info.parent) in message
    assert 'array_record' in message


def npz_arrays(dtype=np.uint8, shape=(8, 9, 2), num_classes=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (42, *shape)).astype(np.uint8)
    if dtype != np.uint8:
        images = (images / 255).astype(dtype)
    labels = np.arange(42) % num_classes
    return {
        'train_images': images[:30],
        'train_labels': labels[:30],
        'test_images': images[30:],
        'test_labels': labels[30:],
    }


@pytest.mark.parametrize('shape', [(8, 9, 2), (10, 8)])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32, np.float64])
def test_own_arrays_come_back(tmp_path, dtype, shape):
    arrays = npz_arrays(dtype, shape)
    np.savez_compressed(tmp_path / 'own.npz', **arrays)
    splits = load(config(f'npz:{tmp_path}/own.npz', num_validation=6))
    assert splits.num_classes == 3
    assert splits.test.images.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    expected = arrays['test_images'].reshape(12, *(shape if len(shape) == 3 else (*shape, 1)))
    np.testing.assert_array_equal(splits.test.images, expected.astype(splits.test.images.dtype))
    np.testing.assert_array_equal(splits.test.labels, arrays['test_labels'])
    assert np.bincount(splits.validation.labels).tolist() == [2, 2, 2]
    assert np.bincount(splits.train.labels).tolist() == [8, 8, 8]
    assert 'own.npz' in splits.provenance


def test_extra_data_is_read_under_either_pair_of_keys(tmp_path):
    arrays = npz_arrays()
    np.savez(tmp_path / 'own.npz', **arrays)
    extra_images, extra_labels = arrays['test_images'][::-1], arrays['test_labels'][::-1]
    for keys in (('images', 'labels'), ('image', 'label')):
        path = tmp_path / f'{keys[0]}.npz'
        np.savez(path, **dict(zip(keys, (extra_images, extra_labels), strict=True)))
        splits = load(config(f'npz:{tmp_path}/own.npz', extra_path=path))
        assert splits.extra is not None
        np.testing.assert_array_equal(splits.extra.images, extra_images)
        np.testing.assert_array_equal(splits.extra.labels, extra_labels)
        assert '12 extra' in splits.provenance


@pytest.mark.parametrize(
    ('changes', 'fragments'),
    [
        ({'images': np.zeros((5, 8, 9, 3), np.uint8)}, ('images has', '(8, 9, 3)', '(8, 9, 2)')),
        ({'images': np.zeros((5, 8, 9, 2), np.float32)}, ('images is float32', 'uint8')),
        ({'labels': np.arange(5)}, ('labels has values in 0..4', '0..2')),
        ({'labels': None, 'targets': np.zeros(5, int)}, ('images, targets', 'image, label')),
    ],
)
def test_extra_data_must_fit_the_training_data(tmp_path, changes, fragments):
    np.savez(tmp_path / 'own.npz', **npz_arrays())
    arrays = {'images': np.zeros((5, 8, 9, 2), np.uint8), 'labels': np.zeros(5, int), **changes}
    np.savez(tmp_path / 'extra.npz', **{k: a for k, a in arrays.items() if a is not None})
    message = error_of(config(f'npz:{tmp_path}/own.npz', extra_path=tmp_path / 'extra.npz'))
    assert message.startswith('data.extra_path = ')
    assert all(fragment in message for fragment in fragments)
