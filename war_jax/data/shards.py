"""Sets of images that are too large for memory: arrays left on the disk, several of them as one.

    for where, arrays in shards("data.extra_path = 'generated'", 'generated', EXTRA_KEYS):
        parts.append(check(where, arrays, *arrays))
    images = Joined([part.images for part in parts])            # (n, h, w, c), of all files
    rows = images[np.array([3, 17_000_000])]                    # read now, (2, h, w, c)

An array that its file holds as it is (an .npy, or an .npz of numpy.savez) is mapped into memory:
its rows are read from the disk when they are asked for, and the system forgets them when it needs
the room. One of numpy.savez_compressed has to be unpacked whole, into memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from war_jax.data.arrays import DataError, read_npz

Keys = tuple[str, ...]


class Joined:
    """Arrays (n_i, ...) of one type one behind the other: indexed by rows, never copied as a whole
    but by `np.asarray`."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self._arrays = arrays
        self._starts = np.cumsum([0, *map(len, arrays)])
        self.shape = (int(self._starts[-1]), *arrays[0].shape[1:])
        self.dtype, self.ndim = arrays[0].dtype, arrays[0].ndim
        self.nbytes = sum(array.nbytes for array in arrays)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """(k,) integers -> (k, ...), in memory."""
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        numbers = np.searchsorted(self._starts, rows, side='right') - 1
        for number in np.unique(numbers):
            here = numbers == number
            found[here] = self._arrays[number][rows[here] - self._starts[number]]
        return found

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self._arrays).astype(dtype or self.dtype, copy=False)


def shards(
    where: str, path: str, *alternatives: Keys, in_place: bool
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Of an .npz, or of every .npz and pair of .npy in a folder: what opens errors, and arrays.

    The files of a folder come in the order of their names. A pair of .npy has the name of one and
    the same shard in front of each of its keys: 00_images.npy and 00_labels.npy.

    Args:
      where: opens each error message: the config key and its value.
      path: the file or folder.
      alternatives: the keys of the arrays; the first ones that are all there are taken.
      in_place: leave on the disk what can be read from there, unread.

    Raises:
      DataError: for a file that is absent, cannot be read or lacks a key; for an empty folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        yield where, read_npz(where, path, *alternatives, in_place=in_place)
        return
    found = False
    for file in sorted(folder.iterdir()):
        at = f'{where}: {file.name}'
        keys = next((keys for keys in alternatives if file.name.endswith(f'{keys[0]}.npy')), None)
        if file.suffix == '.npz' or keys:
            found = True
            yield at, (
                _read_pair(at, file, keys)
                if keys
                else read_npz(at, str(file), *alternatives, in_place=in_place)
            )
    if not found:
        wanted = ' or '.join(' and '.join(f'*{key}.npy' for key in keys) for keys in alternatives)
        raise DataError(f'{where}: holds no shards; must hold files *.npz, or {wanted}')


def _read_pair(at: str, file: Path, keys: Keys) -> dict[str, np.ndarray]:
    shard = file.name.removesuffix(f'{keys[0]}.npy')
    arrays = {}
    for key in keys:
        path = file.with_name(f'{shard}{key}.npy')
        try:
            arrays[key] = np.load(path, mmap_mode='r', allow_pickle=False)
        except (OSError, ValueError) as error:
            reason = ' '.join(str(error).split())
            raise DataError(f'{at}: cannot read {str(path)!r}: {reason}') from error
    return arrays
