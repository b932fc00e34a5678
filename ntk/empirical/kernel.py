"""The empirical kernel, put together from blocks; its eigenvalue; distances of kernels."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from ntk.empirical.blocks import (
    Outputs,
    blocks,
    jacobian_products,
    pairs,
    vector_products,
)
from ntk.empirical.checks import check_word, checked
from ntk.functional import NO_ARGUMENTS, Function, Network, Params
from war_jax.lowering import in_full_precision
from war_jax.mesh import make_mesh

Method = Literal['jacobian', 'vector_products']

JACOBIAN_BYTES = 2**30  # of two blocks of Jacobians together, where no block size is asked for
VECTOR_PRODUCTS_BLOCK = 32  # where none is asked for


def empirical_ntk(
    f: Network,
    params: Params,
    x1: Any,
    x2: Any = None,
    *,
    call: Mapping[str, Any] = NO_ARGUMENTS,
    outputs: Outputs = 'mean',
    method: Method = 'jacobian',
    block_size: int | None = None,
    mesh: Mesh | None = None,
    on_block: Callable[[int, int], object] = lambda done, total: None,
) -> np.ndarray:
    """Theta(x1, x2) for x1 (n, ...) and x2 (m, ...), in the dtype of the parameters.

    f: (params, (n, ...)) -> (n, k), its rows independent (`ntk.functional`). Handed in again, with
        other parameters or examples, it is not compiled again. Or a linen module, with its
        parameters or all its variables for `params`; or a module of flax.nnx, with None.
    call: what a module is called with beside the examples: {'train': False}.
    x2: None means x1; only the blocks above the diagonal are then computed, and the result is
        symmetric to the last bit.
    outputs: 'full' gives (n, m, k, k), where [i, j, a, b] is the inner product of the derivatives
        of output a at x1[i] and of output b at x2[j]; 'mean' gives (n, m), the mean over a = b,
        which is the trace over the outputs divided by k.
    block_size: examples per block, rounded up to a multiple of the number of devices. None: as
        many as make two blocks of Jacobians JACOBIAN_BYTES large ('jacobian'), and
        VECTOR_PRODUCTS_BLOCK. It changes the result by rounding only, as does the mesh.
    mesh: devices that share the work, each row's on one of them; of this process, all of which are
        meant by None.
    on_block: called with the numbers of pairs of blocks that are done and that there are.

    Raises ValueError for an unknown word, a block size below 1, a mesh over several processes, no
    examples or unlike ones, outputs of f that are not (n, k), rows that are not independent (the
    first example of x1 and the last of x2 are tried), parameters that are not all float32 or all
    float64, or that have other collections beside them where f is a function, what
    `ntk.functional.as_function` refuses, and arrays of another machine's byte order.

    >>> import jax.numpy as jnp, ntk
    >>> from flax import nnx
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> ntk.empirical_ntk(lambda w, x: x @ w, jnp.ones((2, 1)), x)            # x x^T
    array([[ 5., 11.],
           [11., 25.]], dtype=float32)
    >>> ntk.empirical_ntk(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), None, x)        # x x^T + 1: the bias
    array([[ 6., 12.],
           [12., 26.]], dtype=float32)
    """
    check_word('outputs', outputs, get_args(Outputs))
    check_word('method', method, get_args(Method))
    if block_size is not None and block_size < 1:
        raise ValueError(f'block_size = {block_size}: expected at least 1')
    mesh = make_mesh(jax.local_devices()) if mesh is None else mesh
    if mesh.is_multi_process:
        raise ValueError(f'mesh of {mesh.size} devices: expected devices of one process')
    symmetric = x2 is None
    x1 = np.asarray(x1)
    x2 = x1 if symmetric else np.asarray(x2)
    f, params, k = checked(f, params, call, x1, x2)
    if block_size is None:
        block_size = _default_block_size(method, k, params)
    block_size = min(block_size, max(len(x1), len(x2)))
    block_size = -(-block_size // mesh.size) * mesh.size

    rows = blocks(x1, block_size)
    columns = rows if symmetric else blocks(x2, block_size)
    products = jacobian_products if method == 'jacobian' else vector_products
    of_pair = products(f, params, rows, columns, block_size, outputs, mesh)
    full = outputs == 'full'
    theta = np.empty((len(x1), len(x2), *((k, k) if full else ())), _dtype(params))
    todo = list(pairs(len(rows), None if symmetric else len(columns)))
    for done, (i, j) in enumerate(todo, start=1):
        part = of_pair(i, j)[: len(rows[i]), : len(columns[j])]
        here, there = (slice(b * block_size, (b + 1) * block_size) for b in (i, j))
        if symmetric:
            mirrored = part.transpose(1, 0, 3, 2) if full else part.T
            if i == j:  # symmetric but for the order of summation
                part = mirrored = (part + mirrored) / 2
            theta[there, here] = mirrored
        theta[here, there] = part
        on_block(done, len(todo))
    return theta


def largest_eigenvalue(
    f: Network,
    params: Params,
    x: Any,
    *,
    call: Mapping[str, Any] = NO_ARGUMENTS,
    steps: int = 30,
) -> float:
    """Of the Gram matrix of x (n, ...): Theta(x, x) with all outputs, as an (n k, n k) matrix.

    By power iteration from a fixed random vector, with products J (J^T v) that never form the
    matrix. Memory is that of a gradient over all of x, on one device. Gradient descent on half the
    sum of squares of f(x) - y is stable, as long as the kernel stays, for learning rates below 2 /
    this.

    Never above the true value, up to rounding. Below it by a relative error that falls as
    (second / largest eigenvalue)^(2 (steps - 1)); whatever the spectrum, in the mean over starting
    vectors by at most 0.871 log(n k) / (steps - 1), which is 0.2 for 30 steps and n k = 1000
    (Kuczynski & Wozniakowski, SIAM J. Matrix Anal. Appl. 13, 1992).

    Raises ValueError as `empirical_ntk` does, and for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f'steps = {steps}: expected at least 1')
    x = np.asarray(x)
    f, params, k = checked(f, params, call, x, x)
    x = jnp.asarray(x)
    product = jax.random.normal(jax.random.key(0), (len(x), k), _dtype(params))
    length = jnp.linalg.norm(product)
    # A Python loop: in a loop of the program XLA's CPU backend runs convolutions many times slower.
    for _ in range(steps):
        product, length = _power_step(f, params, x, product, length)
    return float(length)


@jax.jit
@in_full_precision
def _power_step(
    f: Function, params: Params, x: Array, v: Array, length: Array
) -> tuple[Array, Array]:
    """Gram matrix times v / length, where length = ||v||; and the product's own length."""
    outputs, vjp = jax.vjp(lambda p: f(p, x), params)
    unit = v / jnp.where(length > 0, length, 1)  # the kernel may be 0
    (derivative,) = vjp(unit.astype(outputs.dtype))
    product = jax.jvp(lambda p: f(p, x), (params,), (derivative,))[1].astype(v.dtype)
    return product, jnp.linalg.norm(product)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b|| / ||b||, Frobenius norms of kernels of equal shapes.

    Raises ValueError for unequal shapes, and where b is 0.
    """
    a, b = _flat(a, b)
    if not b.any():
        raise ValueError('b = 0: there is no distance relative to it')
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def alignment(a: np.ndarray, b: np.ndarray) -> float:
    """<a, b> / (||a|| ||b||), the cosine of the angle between two kernels of equal shapes.

    Raises ValueError for unequal shapes, and where one of them is 0.
    """
    a, b = _flat(a, b)
    if not (a.any() and b.any()):
        raise ValueError('a kernel is 0: it has no direction')
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _flat(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if np.shape(a) != np.shape(b):
        raise ValueError(f'kernels of shapes {np.shape(a)} and {np.shape(b)}: expected equal ones')
    return np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()


def _dtype(params: Params) -> np.dtype:
    return jax.tree.leaves(params)[0].dtype


def _default_block_size(method: Method, k: int, params: Params) -> int:
    if method == 'vector_products':
        return VECTOR_PRODUCTS_BLOCK
    of_example = k * sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return max(1, JACOBIAN_BYTES // (2 * of_example))
