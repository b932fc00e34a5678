"""Files that are whole or absent: every write goes to a temporary name and is then renamed.

    write_json(workdir / 'summary.json', {'natural_accuracy': 0.98, 'risk_ratio': math.inf})
    append_json_line(workdir / 'metrics.jsonl', {'kind': 'train', 'step': 100, 'loss': 0.3})
    rewind_json_lines(workdir / 'metrics.jsonl', step=100)      # before resuming at step 100
    rows = read_json_lines(workdir / 'metrics.jsonl')

A reader (or a second process that draws the report while training goes on) sees the old file or
the new one, never half of one. A temporary name starts with a dot, so nothing lists it as a result.

JSON has no NaN and no infinity; Python would write them as bare words that other parsers refuse.
Here a number that is not finite becomes null: "no finite value", which a plot shows as a gap. A run
that diverges, or a risk ratio with a vanishing denominator, still leaves a readable file.

One process writes a given file. Appending is not a rename: a process killed in the middle of it
leaves an unfinished last line, which the next append or rewind removes and which readers skip.
"""

import json
import math
import os
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


class ReportError(ValueError):
    """A run's folder that cannot be reported on; one line that names the file and the cause."""

    exit_code = 1


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it becomes `path`, on error it is removed.

    Missing parent folders are made. The data are on disk before the rename, so that not even a
    power cut leaves an empty file under the final name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes of several machines may share the disk.
    temporary = path.with_name(f'.{path.name}.{socket.gethostname()}.{os.getpid()}.tmp')
    try:
        yield temporary
        with temporary.open('rb') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """UTF-8, and line feeds on every platform."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8', newline='\n')


def write_json(path: Path, value: Any) -> None:
    """Indented JSON of anything `plain` accepts, keys in their given order."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + '\n')


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A compressed .npz; arrays of objects, which NumPy would pickle, raise ValueError."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f'{path.name}: array {name!r} holds Python objects, not numbers')
    with replacing(path) as temporary, temporary.open('wb') as file:
        # Typeshed lets the keyword arguments collide with `allow_pickle`; the check above decides.
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def append_json_line(path: Path, row: Mapping[str, Any]) -> None:
    """Adds one line; first drops what a killed writer may have left behind the last line feed."""
    line = json.dumps(plain(row), ensure_ascii=False, allow_nan=False) + '\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a+b') as file:
        end = _end_of_last_line(file)
        if end < file.seek(0, os.SEEK_END):
            file.truncate(end)
        file.write(line.encode())


def rewind_json_lines(path: Path, *, step: int) -> None:
    """Keeps the rows whose 'step' is at most `step`; a missing file stays missing.

    A resumed run repeats the steps behind its checkpoint, and would otherwise log them twice.
    """
    if not path.exists():
        return
    rows = [row for row in read_json_lines(path) if row['step'] <= step]
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + '\n' for row in rows]
    write_text(path, ''.join(lines))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All finished lines. ValueError names the line that is no JSON object.

    A last line without line feed is still being written, or was when its writer was killed.
    """
    finished = path.read_bytes().split(b'\n')[:-1]
    rows = []
    for number, line in enumerate(finished, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f'{path}, line {number}: not JSON ({error})') from error
        if not isinstance(row, dict):
            raise ValueError(f'{path}, line {number}: expected a JSON object')
        rows.append(row)
    return rows


def plain(value: Any, where: str = 'value') -> Any:
    """`value` in JSON's own types; NumPy and JAX arrays become lists, non-finite floats None.

    Raises TypeError, naming the place, for any other type and for keys that are not strings.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f'{where}: key {key!r} is not a string')
        return {key: plain(item, f'{where}.{key}') for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f'{where}[{i}]') for i, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, 'tolist'):  # np.ndarray, np.generic and jax.Array, without importing jax
        return plain(value.tolist(), where)
    raise TypeError(f'{where}: {type(value).__name__} has no JSON form')


def _end_of_last_line(file: Any) -> int:
    """Offset just behind the last line feed of a binary file, 0 if it has none."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 4096)
        file.seek(start)
        found = file.read(end - start).rfind(b'\n')
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_file(path: Path, reader: Callable[[Path], Any]) -> Any:
    """What `reader` makes of a file; ReportError names the file if it is unreadable."""
    try:
        return reader(path)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ReportError(f'{path}: unreadable ({error})') from error


def read_json(path: Path) -> Any:
    return json.loads(path.read_text('utf-8'))


def require(file: Path, found: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raises ReportError, naming `file`, unless all keys were found in it."""
    absent = [key for key in keys if key not in found]
    if absent:
        raise ReportError(f'{file}: no {", ".join(absent)}')
