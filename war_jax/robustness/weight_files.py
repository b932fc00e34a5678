"""Files of tensors, and the state dict in what training scripts save.

    contents = read_tensors(Path('trades_wrn34_10.pt'))     # or .pth, .safetensors, .npz
    weights = choose(contents, 'ema')                       # weights.state, and which it is
    about = read_description(Path('exported.safetensors'))  # what war_jax.export says of it

No code that may be in a file is run.
"""

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

DESCRIPTION = 'war_jax'  # of a network, in the metadata of a .safetensors file: an object in JSON
SUFFIXES = ('.npz', '.pt', '.pth', '.safetensors')
_SAFETENSORS = {
    'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'BF16': jnp.dtype('bfloat16'), 'I64': '<i8',
    'I32': '<i4', 'I16': '<i2', 'I8': '<i1', 'U8': '<u1', 'BOOL': '?',
}  # fmt: skip
_FIRST_CONVOLUTION = re.compile(r'(^|\.)((init_|stem_)?conv1?|conv_2d)\.weight$')
_AVERAGED = re.compile(r'(^|[._])(ema|swa|averaged?)([._]|$)', re.IGNORECASE)
_USUAL = ('state_dict', 'model_state_dict', 'model', 'net')


class Weights(NamedTuple):
    """state: names to arrays or tensors. name: where the file has it, '' for the file itself;
    others: the names of other networks in the file."""

    state: Mapping[str, Any]
    name: str
    others: tuple[str, ...]


def choose(contents: Any, wanted: str = '') -> Weights:
    """The state dict in a file's contents: itself, or under a name beside other things.

    wanted: its name, or 'ema' for the averaged weights, however they are called. Else those that
    are not averaged are taken, if there are any.

    Raises ValueError if there is none, none of that name, or several that nothing tells apart.
    """
    if not isinstance(contents, Mapping):
        kind = type(contents).__name__
        raise ValueError(f'holds a {kind}: must be a state dict; save the network by state_dict()')
    found = dict(_networks(contents, ''))
    names = tuple(found)
    if not found:
        raise ValueError(f'has the keys {", ".join(map(str, list(contents)[:10]))}: no state dict')
    averaged = [name for name in found if _AVERAGED.search(name)]
    plain = [name for name in found if name not in averaged]
    usual = [name for name in _USUAL if name in plain][:1]
    if wanted:
        candidates = [wanted] if wanted in found else averaged if wanted == 'ema' else []
        if not candidates:
            there = f'those of {", ".join(names)}' if any(names) else 'one network alone'
            raise ValueError(f'holds {there}: there is no --weights={wanted}')
    else:
        candidates = usual or plain or averaged
    if len(candidates) > 1:
        raise ValueError(f'holds several networks: choose one by --weights={"|".join(candidates)}')
    name = candidates[0]
    return Weights(found[name], name, tuple(other for other in names if other != name))


def _networks(contents: Mapping[Any, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The state dicts inside, by their names there."""
    if any(_FIRST_CONVOLUTION.search(str(key)) for key in contents):
        yield name, {str(key): value for key, value in contents.items()}
        return
    for key, value in contents.items():
        if isinstance(value, Mapping):
            yield from _networks(value, f'{name}.{key}' if name else str(key))


def read_tensors(path: Path) -> Any:
    """The contents of a file of tensors, without running any code that may be in it.

    Raises ValueError for a file that cannot be read, and where a library is missing.
    """
    readers = {'.npz': _read_npz, '.safetensors': _read_safetensors}
    try:
        return readers.get(path.suffix, _read_torch)(path)
    except ModuleNotFoundError as error:
        raise ValueError(f"needs {error.name}: pip install 'war-jax[torch]'") from error
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f'cannot be read ({_brief(error)})') from error


def read_description(path: Path) -> Mapping[str, Any]:
    """What war_jax.export wrote of the network in a file that `read_tensors` reads; else empty.

    Raises ValueError where that is no object in JSON.
    """
    if path.suffix != '.safetensors':
        return {}
    with path.open('rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
    metadata = header.get('__metadata__') or {}
    about = json.loads(metadata.get(DESCRIPTION, '{}'))
    if not isinstance(about, Mapping):
        raise ValueError(f'describes its network by {about!r}: must be an object')
    return about


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise OSError('no .npz archive')
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Of the published layout: the header's length in 8 bytes, the header in JSON, the numbers.

    Its own library reads no bfloat16 into NumPy.
    """
    contents = path.read_bytes()
    start = 8 + int.from_bytes(contents[:8], 'little')
    try:
        header = json.loads(contents[8:start])
        header.pop('__metadata__', None)
        return {name: _of_header(contents[start:], **about) for name, about in header.items()}
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise OSError(f'no .safetensors file of known numbers: {_brief(error)}') from error


def _of_header(
    numbers: bytes, dtype: str, shape: Sequence[int], data_offsets: Sequence[int]
) -> np.ndarray:
    begin, end = data_offsets
    return np.frombuffer(numbers[begin:end], _SAFETENSORS[dtype]).reshape(shape)


def _read_torch(path: Path) -> Any:
    from pickle import UnpicklingError  # what PyTorch raises where it refuses to run code

    import torch  # pyright: ignore[reportMissingImports]

    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except UnpicklingError as error:
        named = re.search(r'GLOBAL (\S+)', str(error))
        if named is None:
            raise OSError('no tensors that PyTorch reads') from error
        raise ValueError(
            f'holds a Python object, {named[1]}, which is not loaded since that could run code: '
            'save its state_dict(), alone'
        ) from error


def _brief(error: Exception) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'
