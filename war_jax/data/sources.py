"""Named data sets as arrays in memory, with a validation split held out of train.

    splits = load(config.data)                     # name: 'digits', 'cifar10', ..., 'npz:PATH'
    splits.train.images                            # (n, h, w, c) uint8
    splits.test.labels                             # (m,) int32, in 0 .. splits.num_classes - 1
    print(splits.provenance)                       # one sentence for the report
    few = splits.test.take(balanced_subset(splits.test.labels, 1000))

Everything is read from disk: no network is touched, and TensorFlow is not imported (that alone
takes ten seconds). A set that is absent, or arrays that break a rule, raise `DataError`.
"""

import hashlib
import io
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from war_jax.config import DataConfig
from war_jax.data.arrays import DataError, Dataset, check, count_classes, read_npz
from war_jax.data.batches import permutation
from war_jax.data.shards import Joined, shards

# Extra data is found under our keys, or under those of the generated images published with Rebuffi
# et al. 2021 ("Fixing data augmentation") and Wang et al. 2023 ("Better diffusion models").
EXTRA_KEYS = (('images', 'labels'), ('image', 'label'))
NPZ_KEYS = ('train_images', 'train_labels', 'test_images', 'test_labels')
DIGITS_TEST_SIZE = 500
# Splits are drawn from seeds of their own, not from the run's: runs with different seeds must
# differ in their training only, and be selected and tested on the same images.
_VALIDATION_ENTROPY = (0, 2)
_DIGITS_TEST_ENTROPY = (0, 3)
_SUBSET_ENTROPY = (0, 4)


@dataclass(frozen=True)
class Splits:
    name: str
    num_classes: int
    train: Dataset
    validation: Dataset  # empty if num_validation = 0
    test: Dataset
    extra: Dataset | None  # (pseudo-)labelled images to be mixed into training batches
    provenance: str  # one sentence


def load(data: DataConfig) -> Splits:
    """Loads the set `data.name`, holds out validation, cuts train down, adds extra data.

    The `num_validation` examples come out of train, the `max_train_examples` (0 = all) out of what
    is left; both are stratified (see `stratified_order`) and the same for every training seed.

    Raises:
      DataError: if the data is absent, breaks a rule, or is smaller than what is asked of it.
    """
    if data.name == 'digits':
        train, test, num_classes, origin = _load_digits()
    elif data.name.startswith('npz:'):
        train, test, num_classes, origin = _load_npz(data.name.removeprefix('npz:'))
    else:
        train, test, num_classes, origin = _load_tfds(data.name, data.data_dir)

    available = len(train.labels)
    if not 0 <= data.num_validation < available:
        raise DataError(
            f'data.num_validation = {data.num_validation}: must be in 0..{available - 1}, since '
            f'{data.name} has {available} training images and at least one must be left to train on'
        )
    left = available - data.num_validation
    if not 0 <= data.max_train_examples <= left:
        raise DataError(
            f'data.max_train_examples = {data.max_train_examples}: must be in 0..{left} (0 = all), '
            f'since {data.num_validation} of the {available} training images are held out'
        )
    order = stratified_order(train.labels, *_VALIDATION_ENTROPY)
    stop = data.num_validation + (data.max_train_examples or left)
    validation = train.take(order[: data.num_validation])
    train = train.take(order[data.num_validation : stop])
    extra = None
    if data.extra_path:
        extra = _load_extra(data.extra_path, train, num_classes, data.placement == 'host')

    provenance = (
        f'{origin}; {len(train.labels)} of {available} training images used for training and '
        f'{data.num_validation} held out for validation (stratified by class, the same for every '
        f'training seed), {len(test.labels)} test images'
    )
    if extra is not None:
        provenance += f'; {len(extra.labels)} extra training images from {data.extra_path}'
    return Splits(data.name, num_classes, train, validation, test, extra, f'{provenance}.')


def data_folder(data_dir: str) -> str:
    """Where prepared sets are looked for: as said, else where TFDS looks."""
    where = data_dir or os.environ.get('TFDS_DATA_DIR') or os.path.join('~', 'tensorflow_datasets')
    return os.path.expanduser(where)


def checksum(splits: Splits) -> str:
    """Returns the SHA-256, in hexadecimal, of all images and labels and of how they are split.

    Takes 0.1 s for CIFAR-10. Equal sums mean equal arrays, wherever they were read from and
    whatever files they were in; what is on disk is read a chunk at a time.
    """
    digest, chunk = hashlib.sha256(), 10_000
    for name in ('train', 'validation', 'test', 'extra'):
        dataset = getattr(splits, name)
        for array in () if dataset is None else dataset:
            digest.update(f'{name} {array.shape} {array.dtype.str};'.encode())
            for start in range(0, len(array), chunk):
                rows = array[np.arange(start, min(start + chunk, len(array)))]
                digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()


def balanced_subset(labels: np.ndarray, k: int) -> np.ndarray:
    """Returns the increasing indices of k examples (0, or more than there are: all), (k,) int64.

    Each class has its share of them, to about one example, however the labels are sorted. The
    choice is the same for every training seed, and that for a smaller k is contained in that for a
    larger one.
    """
    return np.sort(stratified_order(labels, *_SUBSET_ENTROPY)[: k or None])


def stratified_order(labels: np.ndarray, *entropy: int) -> np.ndarray:
    """Returns a random order of the examples, (n,) int64, any run of which is stratified.

    The r-th of a class's m examples (r = 0 .. m - 1, shuffled) stands at (r + 1/2) / m of the way,
    so the first k of n examples hold k m / n of the class, to about one example. Unlike drawing
    each subset anew, smaller subsets are contained in larger ones, and a class of one example or a
    subset smaller than the number of classes is no special case.

    Args:
      labels: (n,) integers.
      entropy: integers >= 0 that alone, with the labels, determine the order.
    """
    shuffled = permutation(len(labels), *entropy)
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(position, kind='stable')]


def _load_digits() -> tuple[Dataset, Dataset, int, str]:
    """Scikit-learn's copy of the UCI optical digits (1797 images of 8x8, grey values 0..16)."""
    from sklearn.datasets import load_digits  # 0.5 s that other sets need not pay

    grey, labels = load_digits(return_X_y=True)
    images = np.rint(grey.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    everything = Dataset(images, labels.astype(np.int32))
    order = stratified_order(everything.labels, *_DIGITS_TEST_ENTROPY)
    test, train = order[:DIGITS_TEST_SIZE], order[DIGITS_TEST_SIZE:]
    origin = (
        'digits: the 1797 real handwritten digits (8x8) of scikit-learn, grey values 0..16 '
        f'rescaled to 0..255, {DIGITS_TEST_SIZE} of them a fixed test set stratified by class'
    )
    return everything.take(train), everything.take(test), 10, origin


def _load_tfds(name: str, data_dir: str) -> tuple[Dataset, Dataset, int, str]:
    """Reads a prepared TFDS set; CIFAR-10 takes about 5 s, whatever the number of threads."""
    root = epath.Path(data_folder(data_dir))
    if (root / f'{name}.npz').is_file():
        return _load_npz(f'{root}/{name}.npz')
    import tensorflow_datasets as tfds

    prepared = [path.parent.name for path in (root / name).glob('*/dataset_info.json')]
    versions = sorted(  # not tfds's folders of interrupted preparations
        (version for version in prepared if re.fullmatch(r'\d+\.\d+\.\d+', version)),
        key=lambda version: [int(number) for number in version.split('.')],
    )
    if not versions:
        is_known = name in ('cifar10', 'cifar100')
        own = f'`war-jax data --name={name} --data_dir={root}`, or with ' if is_known else ''
        raise DataError(
            f'data.name = {name!r}: not found in data.data_dir = {str(root)!r}; put it there with '
            f'{own}`python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder('{name}', data_dir='{root}', file_format='array_record')"
            '.download_and_prepare()"` (needs the network and, for the conversion, '
            "`pip install tensorflow`), or use the embedded data.name = 'digits'"
        )
    # A pinned version makes tfds read the files alone; without one it consults its own code first,
    # which finds no other version than its newest.
    full_name = f'{name}:{versions[-1]}'
    parts, formats = {}, set()
    try:
        for split in ('train', 'test'):
            source: Any = tfds.data_source(
                full_name,
                split=split,
                data_dir=root,
                download=False,
                decoders={'image': tfds.decode.SkipDecoding()},
            )
            parts[split], image_format = _decode(source)
            formats.add(image_format)
            num_classes = source.dataset_info.features['label'].num_classes
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = ' '.join(str(error).split())
        raise DataError(
            f'data.name = {name!r}: cannot read {str(root / name / versions[-1])!r}: {reason}'
        ) from error
    origin = f'{name} {versions[-1]} of TFDS'
    if 'JPEG' in formats:
        origin += ', stored as JPEG, thus equal to the original images up to compression loss'
    return parts['train'], parts['test'], num_classes, origin


def _decode(source: Any) -> tuple[Dataset, str]:
    """Decodes a data source of encoded images; returns them and the encoding's name.

    Pillow always, whereas tfds would take OpenCV where that is installed: decoders may disagree in
    the last bit of a JPEG image. Threads do not help: most of the time is spent in Python.
    """
    from PIL import Image

    chunk = 1000  # bounds the encoded images held at a time
    images = np.empty((len(source), *source.dataset_info.features['image'].shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    image_format = ''
    for start in range(0, len(source), chunk):
        numbers = range(start, min(start + chunk, len(source)))
        for number, example in zip(numbers, source.__getitems__(list(numbers)), strict=True):
            image = Image.open(io.BytesIO(example['image']))
            images[number] = np.asarray(image)
            labels[number] = example['label']
            image_format = image.format or image_format
    return Dataset(images, labels), image_format


def _load_npz(path: str) -> tuple[Dataset, Dataset, int, str]:
    """A user's own images, under `NPZ_KEYS`; the training labels tell the number of classes."""
    where = f"data.name = 'npz:{path}'"
    arrays = read_npz(where, path, NPZ_KEYS)
    train = check(where, arrays, 'train_images', 'train_labels')
    num_classes = count_classes(where, 'train_labels', train.labels)
    test = check(where, arrays, 'test_images', 'test_labels', num_classes, like=train)
    return train, test, num_classes, f'arrays from {path}'


def _load_extra(path: str, train: Dataset, num_classes: int, in_place: bool) -> Dataset:
    """Extra training images, under one pair of `EXTRA_KEYS` in a file or in each of a folder's.

    RST's 500K is published as a pickle, which is not read: its owner converts it once, by
    `np.savez(path, images=d['data'], labels=d['extrapolated_targets'])`.

    in_place: images that are not compressed stay on the disk.
    """
    parts = []
    name = f'data.extra_path = {path!r}'
    for where, arrays in shards(name, path, *EXTRA_KEYS, in_place=in_place):
        images_key, labels_key = arrays
        parts.append(check(where, arrays, images_key, labels_key, num_classes, like=train))
    if len(parts) == 1:
        return parts[0]
    images: Any = Joined([part.images for part in parts])  # is asked for nothing but rows
    return Dataset(images, np.concatenate([part.labels for part in parts]))
