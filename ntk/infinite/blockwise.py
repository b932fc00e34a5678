"""Kernels of large sets: block by block in bounded memory, with a progress bar, kept on disk."""

import math
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntk.infinite.cache import digest, load_or_make
from ntk.infinite.kernel import Get, Kernel, kinds_of

# Covariances in one block of `compute` where it chooses the size: 4 MB in float32, of which 60 may
# be alive at a time (measured, depth 10 and 16). Larger blocks were not faster on two cores.
BLOCK_NUMBERS = 2**20
# Part of the name of a cached kernel: to be raised when a change of this package changes numbers.
REVISION = 1


def compute(
    kernel: Kernel,
    x1: np.ndarray,
    x2: np.ndarray | None = None,
    get: Get = 'ntk',
    *,
    block_size: int | None = None,
    cache: Path | None = None,
    name: str = 'kernel',
    bar: Callable[[str, int], AbstractContextManager[Any]] | None = None,
) -> Any:
    """The kernel of large sets, block by block: a NumPy array (n1, n2), or a namedtuple of them.

    Of a symmetric kernel (x2 = None) only the blocks on and above the diagonal are computed. One
    program is compiled, for one shape of block. Memory: the result, and for a WideResNet up to some
    60 (block_size h w)^2 numbers. The size of the blocks changes no more than the rounding of
    matrix products.

    Args:
      x1, x2: float32 or float64, which is also the type of the result.
      block_size: rows and columns of a block. None: 1024, for a WideResNet 1024 / (h w).
      cache: folder of kernels already computed. A file is `name`, and a SHA-256 over the network's
        description, `get`, the types, the versions of JAX and neural-tangents, and all numbers of
        x1 and x2. A file that is torn or holds something else is computed again.
      name: of the file and of the bar.
      bar: makes a progress bar, as `war_jax.records.console.progress_bar` does.

    Raises ValueError as `Kernel` does, and for other types and empty inputs.
    """
    x1 = np.asarray(x1)
    x2 = None if x2 is None else np.asarray(x2)
    kernel.check(x1, x2)
    _check_types(x1, x2)
    if block_size is not None and block_size < 1:
        raise ValueError(f'block_size = {block_size}: must be at least 1')
    kinds = kinds_of(get)
    shape = (len(x1), len(x1 if x2 is None else x2))
    blocks = _blocks(shape, block_size or _block_size(kernel, x1.shape), symmetric=x2 is None)

    def compute_all() -> dict[str, np.ndarray]:
        arrays = {kind: np.empty(shape, x1.dtype) for kind in kinds}
        with nullcontext() if bar is None else bar(name, len(blocks)) as shown:
            for _ in _fill(arrays, kernel, x1, x2, blocks):
                if shown is not None:
                    shown.update()
        return arrays

    if cache is None:
        arrays = compute_all()
    else:
        key = digest([REVISION, kernel.description, kinds, _computed_in()], x1, x2)
        arrays = load_or_make(cache / f'{name}_{key}.npz', key, compute_all)
    return arrays[get] if isinstance(get, str) else namedtuple('Kernels', kinds)(**arrays)


def _check_types(x1: np.ndarray, x2: np.ndarray | None) -> None:
    for name, x in (('x1', x1), ('x2', x1 if x2 is None else x2)):
        if x.dtype not in (np.float32, np.float64):
            raise ValueError(f'{name} is of type {x.dtype}: must be float32 or float64')
        if x.dtype != x1.dtype:
            raise ValueError(f'x2 is of type {x.dtype}: must be {x1.dtype} as x1 is')
        if not x.size:
            raise ValueError(f'{name} has shape {x.shape}: must not be empty')
    if x1.dtype == np.float64 and _computed_in() != np.float64:
        rule = "float64 needs jax.config.update('jax_enable_x64', True)"
        raise ValueError(f'x1 is of type float64, and JAX computes in float32: {rule}')


def _computed_in() -> np.dtype:
    """float64 where jax_enable_x64 is set, whatever the inputs' type; neural-tangents has it so."""
    return jnp.zeros(()).dtype


def _block_size(kernel: Kernel, shape: tuple[int, ...]) -> int:
    per_pair = math.prod(shape[1:-1]) ** 2 if kernel.on_images else 1
    return max(1, math.isqrt(BLOCK_NUMBERS // per_pair))


def _blocks(shape: tuple[int, int], size: int, symmetric: bool) -> list[tuple[range, range]]:
    """Rows and columns of blocks of one shape; the last ones may reach over the edge."""

    def split(length: int) -> list[range]:
        width = math.ceil(length / math.ceil(length / size))
        return [range(start, start + width) for start in range(0, length, width)]

    rows, columns = map(split, shape)
    return [(r, c) for r in rows for c in columns if not symmetric or r.start <= c.start]


def _fill(
    arrays: Mapping[str, np.ndarray],
    kernel: Kernel,
    x1: np.ndarray,
    x2: np.ndarray | None,
    blocks: Sequence[tuple[range, range]],
) -> Iterator[None]:
    """Writes one block of all arrays at each step."""
    program = _program(kernel, tuple(arrays))
    for rows, columns in blocks:
        values = program(_rows_of(x1, rows), _rows_of(x1 if x2 is None else x2, columns))
        for array, value in zip(arrays.values(), values, strict=True):
            here = array[rows.start : rows.stop, columns.start : columns.stop]
            value = np.asarray(value)[: here.shape[0], : here.shape[1]]
            if x2 is None and rows == columns:
                # Rounding need not be symmetric; the result is.
                value = np.triu(value) + np.triu(value, 1).T
            elif x2 is None:
                array[columns.start : columns.stop, rows.start : rows.stop] = value.T
            here[...] = value
        yield


@lru_cache(maxsize=8)
def _program(kernel: Kernel, kinds: tuple[str, ...]) -> Callable[..., Any]:
    """Kept, so that a second call of `compute` compiles nothing new."""
    return jax.jit(lambda x1, x2: tuple(kernel(x1, x2, kinds)))


def _rows_of(x: np.ndarray, rows: range) -> np.ndarray:
    """Over the edge the last row is repeated."""
    return x[np.minimum(rows, len(x) - 1)]
