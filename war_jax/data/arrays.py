"""A user's own arrays: read from an .npz file and checked, so that nothing later has to ask.

    arrays = read_npz(where, 'mine.npz', ('images', 'labels'))     # `where` opens error messages
    dataset = check(where, arrays, 'images', 'labels')             # a Dataset, or DataError

Nothing is unpickled: a pickle from the network can run any code.
"""

import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

MIN_SIZE = 8  # the networks halve the image twice and need something left
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class DataError(ValueError):
    """Data that is absent or breaks a rule; the message is one line naming key, value and rule."""

    exit_code = 2


class Dataset(NamedTuple):
    """Labelled images in memory."""

    images: np.ndarray  # (n, h, w, c) uint8, or float32 in [0, 1] (from a user's float arrays)
    labels: np.ndarray  # (n,) int32

    def take(self, indices: np.ndarray) -> 'Dataset':
        """Returns the examples at `indices`, in the order they have here."""
        indices = np.sort(indices)
        return Dataset(self.images[indices], self.labels[indices])


def read_npz(
    where: str, path: str, *alternatives: tuple[str, ...], in_place: bool = False
) -> dict[str, np.ndarray]:
    """Returns the arrays under the first of `alternatives` whose keys are all in the file.

    in_place: those that are not compressed are left on the disk (see shards.py), where nothing
    holds them against the checksums of the file.

    Raises:
      DataError: if the file is absent or no .npz, or if no alternative is complete in it.
    """
    if not os.path.isfile(path):
        raise DataError(f'{where}: there is no file {path!r}; write one with numpy.savez')
    if not zipfile.is_zipfile(path):
        raise DataError(f'{where}: {path!r} is not an .npz archive; write one with numpy.savez')
    try:
        with np.load(path, allow_pickle=False) as archive:
            for keys in alternatives:
                if set(keys) <= set(archive.files):
                    arrays = {key: _stored(path, key) if in_place else None for key in keys}
                    return {k: archive[k] if a is None else a for k, a in arrays.items()}
            found = ', '.join(archive.files) or 'none'
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = ' '.join(str(error).split())
        raise DataError(
            f'{where}: cannot read {path!r}: {reason}; its arrays must be plain numbers'
        ) from error
    wanted = ' or '.join(', '.join(keys) for keys in alternatives)
    raise DataError(f'{where}: {path!r} has the keys {found}; must have {wanted}')


def _stored(path: str, key: str) -> np.ndarray | None:
    """An array of an .npz, mapped into memory; None where it is compressed."""
    with zipfile.ZipFile(path) as archive, open(path, 'rb') as file:
        entry = archive.getinfo(f'{key}.npy')
        if entry.compress_type != zipfile.ZIP_STORED:
            return None
        # The archive's list of contents does not tell how long the entry's own header is.
        file.seek(entry.header_offset + 26)
        file.seek(sum(np.frombuffer(file.read(4), '<u2').tolist()), 1)
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            return None
        shape, is_fortran, dtype = _HEADERS[version](file)
        if is_fortran or dtype.hasobject:
            return None
        return np.memmap(path, dtype, 'r', file.tell(), shape)


def check(
    where: str,
    arrays: Mapping[str, np.ndarray],
    images_key: str,
    labels_key: str,
    num_classes: int | None = None,
    like: Dataset | None = None,
) -> Dataset:
    """Returns the images and labels under two keys as a Dataset, once they have passed every rule.

    Images are (n, h, w, c), or (n, h, w) for one channel; n >= 1, h and w >= 8; uint8, or a float
    type with finite values in [0, 1], which becomes float32. Labels are (n,) integers >= 0.

    Args:
      where: opens each error message: the config key and its value.
      arrays: the arrays by key.
      images_key, labels_key: which of them.
      num_classes: if given, labels must be below it.
      like: if given, images must agree with its images in height, width, channels and dtype.

    Raises:
      DataError: naming the key, its value and the rule it breaks.
    """
    images = _check_images(f'{where}: {images_key}', arrays[images_key])
    labels = _check_labels(f'{where}: {labels_key}', arrays[labels_key], num_classes)
    if len(images) != len(labels):
        raise DataError(
            f'{where}: {images_key} has {len(images)} entries and {labels_key} {len(labels)}: '
            'must be equally many'
        )
    if like is not None and images.shape[1:] != like.images.shape[1:]:
        raise DataError(
            f'{where}: {images_key} has (h, w, c) = {images.shape[1:]}: '
            f'must be {like.images.shape[1:]} as in training'
        )
    if like is not None and images.dtype != like.images.dtype:
        raise DataError(
            f'{where}: {images_key} is {images.dtype}: must be {like.images.dtype} as in training'
        )
    return Dataset(images, labels)


def count_classes(where: str, labels_key: str, labels: np.ndarray) -> int:
    """Returns C, the number of distinct training labels, which must be 0 .. C - 1, C >= 2.

    Raises:
      DataError: if they are not, as when labels count from 1.
    """
    classes = np.unique(labels)
    if len(classes) < 2 or classes[-1] != len(classes) - 1:
        raise DataError(
            f'{where}: {labels_key} has {len(classes)} distinct values in '
            f'{classes[0]}..{classes[-1]}: must be 0..C-1, C >= 2, each of them at least once'
        )
    return len(classes)


def _check_images(what: str, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise DataError(f'{what} has shape {images.shape}: must be (n, h, w, c) or (n, h, w)')
    n, h, w, c = images.shape
    if n < 1 or c < 1 or min(h, w) < MIN_SIZE:
        raise DataError(
            f'{what} has (n, h, w, c) = {images.shape}: n and c must be at least 1, '
            f'h and w at least {MIN_SIZE}'
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(f'{what} is {images.dtype}: must be uint8, or a float type in [0, 1]')
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):  # so written, NaN fails as well
        raise DataError(f'{what} has values in {low:g}..{high:g}: must be in [0, 1], without NaN')
    return images.astype(np.float32, copy=False)


def _check_labels(what: str, labels: np.ndarray, num_classes: int | None) -> np.ndarray:
    if labels.ndim != 1:
        raise DataError(f'{what} has shape {labels.shape}: must be (n,)')
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f'{what} is {labels.dtype}: must be an integer type')
    top = np.iinfo(np.int32).max if num_classes is None else num_classes - 1
    if len(labels) and not (labels.min() >= 0 and labels.max() <= top):
        raise DataError(f'{what} has values in {labels.min()}..{labels.max()}: must be in 0..{top}')
    return labels.astype(np.int32, copy=False)
