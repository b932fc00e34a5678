"""CIFAR-10 and CIFAR-100 from their published archives, without TensorFlow.

    war-jax data --name=cifar10                                # from the network
    war-jax data --name=cifar10 --archive=cifar-10-binary.tar.gz     # a copy that is here already

Afterwards every configuration finds them. They are kept as NAME.npz where TFDS's sets are looked
for: in --data_dir, or the environment variable TFDS_DATA_DIR, or ~/tensorflow_datasets. An archive
whose SHA-256 is another than the published one's is refused. Exit codes: 0 done, 1 writing failed,
2 refused (one line on stderr says why).
"""

import hashlib
import os
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from war_jax.config_rules import ConfigError, nearest
from war_jax.data.sources import NPZ_KEYS, data_folder
from war_jax.records.console import progress_bar
from war_jax.records.files import write_npz

PIXELS = (3, 32, 32)  # of a record, behind its labels
_CHUNK = 2**20


class Archive(NamedTuple):
    """As published by its authors (Krizhevsky 2009), in the binary form."""

    url: str
    sha256: str
    num_bytes: int
    train: tuple[str, ...]  # the files' names, without their folder
    test: tuple[str, ...]
    num_labels: int  # bytes before the pixels of a record; the last one is the class


_HOME = 'https://www.cs.toronto.edu/~kriz'
ARCHIVES = {
    'cifar10': Archive(
        f'{_HOME}/cifar-10-binary.tar.gz',
        'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
        170_052_171,
        tuple(f'data_batch_{i}.bin' for i in range(1, 6)),
        ('test_batch.bin',),
        1,
    ),
    'cifar100': Archive(
        f'{_HOME}/cifar-100-binary.tar.gz',
        '58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec',
        168_513_733,
        ('train.bin',),
        ('test.bin',),
        2,
    ),
}


def fetch(archive: Archive, path: Path) -> None:
    """Downloads to `path`, with a bar. Raises ConfigError where it is not to be had."""
    try:
        with urllib.request.urlopen(archive.url, timeout=60) as source, path.open('wb') as file:
            with progress_bar('MiB', archive.num_bytes // _CHUNK) as bar:
                while part := source.read(_CHUNK):
                    file.write(part)
                    bar.update()
    except OSError as error:
        raise ConfigError(
            f'{archive.url}: cannot be fetched ({error}); fetch it on another machine and give '
            f'--archive={archive.url.rpartition("/")[2]}'
        ) from error


def read(archive: Archive, path: Path) -> dict[str, np.ndarray]:
    """The arrays of NPZ_KEYS: images (n, 32, 32, 3) uint8, labels (n,) int32.

    Raises ConfigError for a file that is not there or not the published one.
    """
    if not path.is_file():
        raise ConfigError(f'--archive={path}: there is no such file')
    digest = hashlib.sha256()
    with path.open('rb') as file:
        for part in iter(lambda: file.read(_CHUNK), b''):
            digest.update(part)
    if digest.hexdigest() != archive.sha256:
        raise ConfigError(
            f'--archive={path}: is not the published archive (SHA-256 {digest.hexdigest()[:12]}…, '
            f'must be {archive.sha256[:12]}…); fetch {archive.url} anew'
        )
    parts: dict[str, bytes] = {}
    with tarfile.open(path) as tar:
        for member in tar:  # nothing is unpacked to disk
            source = tar.extractfile(member)
            if source is not None:
                parts[os.path.basename(member.name)] = source.read()
    return dict(zip(NPZ_KEYS, _arrays(archive, parts), strict=True))


def _arrays(archive: Archive, parts: dict[str, bytes]) -> Iterator[np.ndarray]:
    for names in (archive.train, archive.test):
        numbers = np.frombuffer(b''.join(parts[name] for name in names), np.uint8)
        records = numbers.reshape(-1, archive.num_labels + int(np.prod(PIXELS)))
        images = records[:, archive.num_labels :].reshape(-1, *PIXELS)
        yield np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        yield records[:, archive.num_labels - 1].astype(np.int32)


def keep(name: str, data_dir: str = '', archive: str = '') -> Path:
    """Writes NAME.npz; returns its path. Raises ConfigError as the functions above."""
    if name not in ARCHIVES:
        choice = nearest(name, ARCHIVES)
        rule = f'must be one of {", ".join(ARCHIVES)}'
        raise ConfigError(f'--name={name}: {rule}; nearest: --name={choice}')
    target = Path(data_folder(data_dir)) / f'{name}.npz'
    if archive:
        arrays = read(ARCHIVES[name], Path(archive).expanduser())
    else:
        with tempfile.TemporaryDirectory() as folder:
            downloaded = Path(folder) / 'archive.tar.gz'
            fetch(ARCHIVES[name], downloaded)
            arrays = read(ARCHIVES[name], downloaded)
    write_npz(target, arrays)
    return target


def define_flags(values: flags.FlagValues) -> None:
    of: dict[str, Any] = {'flag_values': values}
    flags.DEFINE_string('name', None, f'which one: {" or ".join(ARCHIVES)}', **of)
    flags.DEFINE_string('archive', '', 'a copy of the published archive; empty: fetch it', **of)
    flags.DEFINE_string('data_dir', '', 'where it is kept; empty: where TFDS keeps its sets', **of)
