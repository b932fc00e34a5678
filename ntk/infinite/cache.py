"""Arrays that took long to compute, kept on disk under a name that says what they depend on.

    key = digest([kernel.description, 'ntk'], x1, x2)
    arrays = load_or_make(folder / f'kernel_{key}.npz', key, lambda: {'ntk': expensive(x1, x2)})

A file is read without pickle, and trusted only if it is whole and says that it has this digest.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from war_jax.records.files import write_npz

Arrays = dict[str, np.ndarray]


def digest(facts: Sequence[Any], *inputs: np.ndarray | None) -> str:
    """SHA-256 over facts (their text), the versions that compute, and the inputs, bit by bit."""
    versions = [metadata.version(package) for package in ('jax', 'neural-tangents')]
    kinds = [None if x is None else (x.shape, str(x.dtype)) for x in inputs]
    result = hashlib.sha256(repr([*map(str, facts), versions, kinds]).encode())
    for x in inputs:
        if x is not None:
            result.update(np.ascontiguousarray(x).data)
    return result.hexdigest()


def load_or_make(path: Path, key: str, make: Callable[[], Arrays]) -> Arrays:
    """What is in the file, or what `make` returns, which is then written to it."""
    arrays = _load(path, key)
    if arrays is None:
        arrays = make()
        write_npz(path, {**arrays, 'digest': np.array(key)})
    return arrays


def _load(path: Path, key: str) -> Arrays | None:
    """None if the file is absent, torn, or of something else."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
            found = str(arrays.pop('digest'))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return arrays if found == key else None
