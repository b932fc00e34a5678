"""neural-tangents 0.6.5 on current JAX (0.9 to 0.11), without TensorFlow.

    from ntk.compat import nt, predict, stax

    init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))
    kernel_fn(x1, x2, 'ntk')

The release is the last one, and can be imported up to JAX 0.5.3. This is the one file that knows
what JAX has moved since. Names that neural-tangents imports from where they no longer are stand
there while it is being imported, and are taken away again. `neural_tangents.experimental`, the only
part that needs TensorFlow, is left out.

Mended: `predict.max_learning_rate` (a keyword that SciPy has dropped); predictors made inside a
transformation, under `vmap` say (a context manager of JAX that no longer takes tracers);
NTK_VECTOR_PRODUCTS (`jnp.size` of a shape without an array, soon an error); and kernels of padded
convolutions, which in float64 crash on CPU (XLA's program for such a convolution, if vectorized,
reads in front of its input; jax 0.10.2).

Refused with NotImplementedError: NtkImplementation.STRUCTURED_DERIVATIVES, which reads JAX's
linearized programs and does not know those of today; and AUTO, which tries it among the others, and
may return wrong results on CPU and GPU by its own documentation.
What neural-tangents' own tests say about all this is in docs/parity.md.
"""

import functools
import importlib.util
import inspect
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any, NoReturn

import jax.core
import jax.extend.core
import jax.interpreters.ad
import jax.numpy as jnp
import scipy.linalg

VERSION = '0.6.5'
REMEDY = (
    "pip install 'war-jax[ntk]'; or, to do without TensorFlow, which is not used here: "
    f'pip install --no-deps neural-tangents=={VERSION} && pip install frozendict'
)


def _check_installed() -> None:
    """Raises ImportError unless the one release that is mended here is there."""
    try:
        found = metadata.version('neural-tangents')
    except metadata.PackageNotFoundError:
        raise ImportError(f'ntk needs neural-tangents {VERSION}: {REMEDY}') from None
    if found != VERSION:
        raise ImportError(f'ntk needs neural-tangents {VERSION}, not {found}: {REMEDY}')
    if importlib.util.find_spec('frozendict') is None:
        raise ImportError('neural-tangents needs frozendict: pip install frozendict')


@contextmanager
def _names_of_old() -> Iterator[None]:
    """Names that JAX has moved or dropped stand at their old places inside, and not after."""
    moved: list[tuple[types.ModuleType, str, Any]] = [
        (jax.core, name, getattr(jax.extend.core, name))
        for name in ('Jaxpr', 'JaxprEqn', 'Literal', 'Primitive', 'Var')
    ]
    # Keys of the rules of STRUCTURED_DERIVATIVES; no program contains this primitive any more.
    zeros_like = jax.extend.core.Primitive('zeros_like')
    moved.append((jax.interpreters.ad, 'zeros_like_p', zeros_like))
    # Asking a module for a name that it does not have may warn of a deprecation; its dict does not.
    moved = [(module, name, value) for module, name, value in moved if name not in vars(module)]

    util: Any = types.ModuleType('jax.util')
    util.safe_map = lambda f, *args: [f(*row) for row in zip(*args, strict=True)]
    util.safe_zip = lambda *args: list(zip(*args, strict=True))
    modules = {
        'jax.util': util,
        'neural_tangents.experimental': types.ModuleType('neural_tangents.experimental'),
    }
    modules = {name: module for name, module in modules.items() if name not in sys.modules}

    for module, name, value in moved:
        setattr(module, name, value)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for module, name, _ in moved:
            delattr(module, name)
        for name in modules:
            del sys.modules[name]


_check_installed()
with _names_of_old():
    import neural_tangents as nt
    from neural_tangents import predict, stax
    from neural_tangents._src import empirical as _empirical
    from neural_tangents._src import predict as _predict
    from neural_tangents._src.stax import linear as _linear
if 'neural_tangents.experimental' not in sys.modules:
    nt.__dict__.pop('experimental', None)  # the stand-in
# What they were, also when this module is loaded a second time.
_own_convolution = inspect.unwrap(_linear._conv_kernel_full_spatial_shared)
_own_basis = inspect.unwrap(_empirical._std_basis)


def _refuse(**_: Any) -> NoReturn:
    raise NotImplementedError(
        'NtkImplementation.STRUCTURED_DERIVATIVES and AUTO do not work on current JAX: '
        'use JACOBIAN_CONTRACTION or NTK_VECTOR_PRODUCTS'
    )


def _eigvalsh(a: Any, eigvals: tuple[int, int]) -> Any:
    return scipy.linalg.eigvalsh(a, subset_by_index=eigvals)


@functools.wraps(_own_convolution)
def _convolve_covariances(
    lhs: Any, filter_shape: Any, strides: Any, padding: Any, batch_ndim: int
) -> Any:
    """Covariances of all pairs of pixels after a convolution, as a sum of shifted copies.

    Of one spatial axis after the other, from the last to the first, the pair of its positions is
    moved to the end, as in neural-tangents' own function.
    """
    if lhs is None or lhs.ndim == 0 or padding.name == 'CIRCULAR':
        return _own_convolution(lhs, filter_shape, strides, padding, batch_ndim)
    for axis in range(lhs.ndim - 1, batch_ndim, -2):
        lhs = jnp.moveaxis(lhs, (axis - 1, axis), (-2, -1))
        size, stride = (values[(axis - batch_ndim) // 2] for values in (filter_shape, strides))
        pads = jax.lax.padtype_to_pads(lhs.shape[-2:], (size,) * 2, (stride,) * 2, padding.name)
        lhs = jnp.pad(lhs, [(0, 0)] * (lhs.ndim - 2) + pads)
        reach = [length - size + 1 for length in lhs.shape[-2:]]
        copies = [
            lhs[..., i : i + reach[0] : stride, i : i + reach[1] : stride] for i in range(size)
        ]
        lhs = sum(copies[1:], copies[0]) / size
    return lhs


@functools.wraps(_own_basis)
def _basis_of_arrays(tree: Any) -> Any:
    return _own_basis(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree))


_linear._conv_kernel_full_spatial_shared = _convolve_covariances
_empirical._std_basis = _basis_of_arrays
# All three public makers of empirical kernels look their implementation up here.
for _name in ('STRUCTURED_DERIVATIVES', 'AUTO'):
    _empirical._implementation_to_ntk_fn[nt.NtkImplementation[_name]] = _refuse
# All that this module reads from `scipy` and from `jax`.
_predict.sp = types.SimpleNamespace(linalg=types.SimpleNamespace(eigvalsh=_eigvalsh))
_predict.jax = types.SimpleNamespace(
    core=types.SimpleNamespace(eval_context=jax.core.ensure_compile_time_eval),
    default_backend=jax.default_backend,
)

__all__ = ['nt', 'predict', 'stax']
