"""For which platform a program is made, and how exactly it multiplies.

    program = jax.jit(in_full_precision(function))           # float32 that is float32 everywhere
    program = jax.jit(for_mesh(function, mesh, 'default'))   # for the devices of a mesh
    with lowering_for('tpu'):                                # on a machine without one
        program.trace(*arguments).lower(lowering_platforms=('tpu',))

What JAX calls default precision is float32 on CPUs only: TPUs round the factors of every product
and convolution to bfloat16, GPUs may round them to TF32, 10 bits. An attack's perturbation of 8/255
arrives behind such a product with errors of a tenth of itself, so whatever is measured, attacked or
compared is computed in full precision; the training step alone may be told otherwise
(`model.matmul_precision`).

And some functions are written another way for XLA's CPU backend. Which way is decided while a
program is traced, by the devices that it is for and not by those that this machine has.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, Literal, TypeVar

import jax
from jax.sharding import Mesh

Precision = Literal['default', 'high', 'highest']
F = TypeVar('F', bound=Callable[..., Any])

# Part of the key of JAX's caches: what was traced for one platform is not taken for another.
_PLATFORM = jax.make_user_context(None)


def lowering_for(platform: str) -> AbstractContextManager[Any]:
    """Programs that are traced within are for 'cpu', 'gpu' or 'tpu', whatever their mesh is of."""
    return _PLATFORM(platform)


def is_for_cpu() -> bool:
    """Of the program that is being traced: by `lowering_for`, its mesh, or JAX's own choice."""
    return (_PLATFORM.value or jax.default_backend()) == 'cpu'


def in_full_precision(function: F) -> F:
    """The same function; its products and convolutions are of the precision of their factors."""
    return _traced(function, None, 'highest')


def for_mesh(function: F, mesh: Mesh, precision: Precision = 'highest') -> F:
    """The same function, to be traced for the devices of `mesh` and with this precision."""
    return _traced(function, mesh.devices.flat[0].platform, precision)


@contextmanager
def in_double_precision() -> Iterator[None]:
    """JAX computes in float64 within: on the host's CPU where the accelerator is a TPU.

    These have no float64 of their own, and no factorisations in it.
    """
    host = jax.devices('cpu')[0] if jax.default_backend() == 'tpu' else None
    with jax.enable_x64(True), jax.default_device(host):
        yield


def _traced(function: Any, platform: str | None, precision: Precision) -> Any:
    @wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        chosen = _PLATFORM.value or platform
        with _PLATFORM(chosen), jax.default_matmul_precision(precision):
            return function(*args, **kwargs)

    return traced
