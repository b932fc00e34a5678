"""One block of an empirical NTK at a time, by two methods, over the devices of a mesh.

    rows, columns = blocks(x1, size), blocks(x2, size)
    of_pair = jacobian_products(f, params, rows, columns, size, outputs='full', mesh=mesh)
    theta = of_pair(0, 1)                    # block 0 of rows against block 1 of columns

`ntk.empirical` puts them together. `size` is the number of examples in a block, a multiple of the
number of devices; the last block may have fewer. What a kernel has beyond the examples of a block
has no meaning, and is to be cut off.

Jacobians are taken one example at a time: jax.vmap over examples would make a convolution's weight
gradient one with as many groups as examples, which on CPU takes twice as long. For all outputs of
one example there are no groups; they become channels of one convolution. And they are taken in a
Python loop: in a loop of the program XLA's CPU backend runs convolutions ten times slower.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ntk.functional import Function, Params
from war_jax.lowering import for_mesh
from war_jax.mesh import AXIS, fetch, replicate, shard

Outputs = Literal['mean', 'full']
Blocks = Sequence[np.ndarray]
OfPair = Callable[[int, int], np.ndarray]

SPLIT = P(None, None, AXIS)  # of Jacobians


def pairs(num_rows: int, num_columns: int | None) -> Iterator[tuple[int, int]]:
    """Every pair of blocks once, each sharing a block with the one before.

    num_columns None: the columns are the rows, and of (i, j) and (j, i) only that with i <= j
    comes. The order lets `jacobian_products` take one block of Jacobians anew per pair.
    """
    for i in range(num_rows):
        if num_columns is None:
            yield i, i
            columns = range(num_rows - 1, i, -1)  # ends at i + 1, the next block of rows
        else:
            columns = range(num_columns) if i % 2 == 0 else range(num_columns - 1, -1, -1)
        yield from ((i, j) for j in columns)


def jacobian_products(
    f: Function,
    params: Params,
    rows: Blocks,
    columns: Blocks,
    size: int,
    outputs: Outputs,
    mesh: Mesh,
) -> OfPair:
    """Products of whole Jacobians, of which the two blocks used last are kept.

    Each block is an array (k, slots, devices, P), split over the devices.
    """
    devices, slots = mesh.size, size // mesh.size
    width = sum(leaf.size for leaf in jax.tree.leaves(params))
    shape = (num_outputs_of(f, params, rows[0]), slots, devices, width)
    place = NamedSharding(mesh, SPLIT)
    on_devices = replicate(mesh, (f, params))
    kept: dict[int, Array] = {}

    def jacobians(block: np.ndarray) -> Array:
        """Of a block of rows or columns, told apart by identity."""
        if id(block) in kept:
            buffer = kept.pop(id(block))
        else:
            if len(kept) < 2:
                buffer = jnp.zeros(shape, jax.tree.leaves(params)[0].dtype, device=place)
            else:
                buffer = kept.pop(next(iter(kept)))  # not used for longest
            for slot, x in enumerate(one_per_device(block, mesh)):
                buffer = _write_jacobians(*on_devices, buffer, np.int32(slot), x, mesh=mesh)
        kept[id(block)] = buffer
        return buffer

    def of_pair(i: int, j: int) -> np.ndarray:
        left = jacobians(rows[i])
        right = jacobians(columns[j])
        products = [
            fetch(_contract(left, rotated(mesh, right, by), outputs=outputs, mesh=mesh))
            for by in range(devices)
        ]
        # [by, d, s, t, ...] is example s of device d by example t of device d + by.
        theta = np.empty((slots, devices, slots, devices, *products[0].shape[3:]), left.dtype)
        for by, product in enumerate(products):
            for device in range(devices):
                theta[:, device, :, (device + by) % devices] = product[device]
        return theta.reshape(size, size, *theta.shape[4:])

    return of_pair


def rotated(mesh: Mesh, array: Array, by: int) -> Array:
    """Each device gets the part of the one `by` places on in the mesh.

    By copies between devices and not by a collective operation, on which XLA's CPU backend has
    been seen to hang: the device that waits for the others keeps a thread that they need.
    """
    if by == 0:
        return array
    devices = list(mesh.devices.flat)
    parts = {part.device: part.data for part in array.addressable_shards}
    moved = [
        jax.device_put(parts[devices[(d + by) % len(devices)]], device)
        for d, device in enumerate(devices)
    ]
    return jax.make_array_from_single_device_arrays(array.shape, array.sharding, moved)


def vector_products(
    f: Function,
    params: Params,
    rows: Blocks,
    columns: Blocks,
    size: int,
    outputs: Outputs,
    mesh: Mesh,
) -> OfPair:
    """Products of one row per device at a time with all columns of a block."""
    on_devices = replicate(mesh, (f, params))

    def of_pair(i: int, j: int) -> np.ndarray:
        block = replicate(mesh, filled(columns[j], size))
        products = [
            _multiply(*on_devices, x, block, outputs=outputs, mesh=mesh)
            for x in one_per_device(rows[i], mesh)
        ]
        return np.concatenate(fetch(products))

    return of_pair


def blocks(x: np.ndarray, size: int) -> Blocks:
    return [x[start : start + size] for start in range(0, len(x), size)]


def num_outputs_of(f: Function, params: Params, x: Any) -> int:
    """k. ValueError unless f maps one example to (1, k)."""
    shape = jax.eval_shape(f, params, x[:1]).shape
    if len(shape) != 2 or shape[0] != 1:
        raise ValueError(f'f maps {x[:1].shape} to {shape}: expected one row of outputs, (1, k)')
    return shape[1]


def filled(block: np.ndarray, size: int) -> np.ndarray:
    """(size, ...): one shape for every block; copies of the last example behind it."""
    return block[np.minimum(np.arange(size), len(block) - 1)]


def one_per_device(block: np.ndarray, mesh: Mesh) -> Iterator[Any]:
    """Arrays (devices, ...), split over the devices; the last is filled up."""
    for start in range(0, len(block), mesh.size):
        yield shard(mesh, filled(block[start : start + mesh.size], mesh.size))


# Programs. check_vma is off, as otherwise derivatives by parameters that are the same on all
# devices would be summed over them, and a loop inside f would have to know of the mesh.


@partial(jax.jit, static_argnames='mesh', donate_argnames='buffer')
def _write_jacobians(
    f: Function, params: Params, buffer: Array, slot: Array, x: Array, *, mesh: Mesh
) -> Array:
    """buffer (k, slots, devices, P), with the Jacobians of x (devices, ...) put into one slot."""

    def of_device(f: Function, params: Params, buffer: Array, slot: Array, x: Array) -> Array:
        jacobian = jax.vmap(lambda tree: ravel_pytree(tree)[0])(_derivatives(f, params, x))
        return lax.dynamic_update_index_in_dim(buffer, jacobian[:, None], slot, axis=1)

    specs = (P(), P(), SPLIT, P(), P(AXIS))
    mapped = jax.shard_map(
        of_device, mesh=mesh, in_specs=specs, out_specs=SPLIT, check_vma=False
    )
    return for_mesh(mapped, mesh)(f, params, buffer, slot, x)


@partial(jax.jit, static_argnames=('outputs', 'mesh'))
def _contract(rows: Array, columns: Array, *, outputs: Outputs, mesh: Mesh) -> Array:
    """Two buffers -> (devices, slots, slots, k, k) or (devices, slots, slots), device by device."""

    def product(rows: Array, columns: Array) -> Array:
        return jnp.matmul(rows, columns.T)

    def of_device(rows: Array, columns: Array) -> Array:
        k, slots, _, p = rows.shape
        if outputs == 'full':
            theta = product(rows.reshape(k * slots, p), columns.reshape(k * slots, p))
            return theta.reshape(k, slots, k, slots).transpose(1, 3, 0, 2)[None]

        # One output after the other. As a single product, with outputs for parameters, XLA's CPU
        # backend would make a copy of a whole buffer.
        def add(output: Array, total: Array) -> Array:
            return total + product(rows[output, :, 0], columns[output, :, 0])

        total = jnp.zeros((slots, slots), rows.dtype)
        return lax.fori_loop(0, k, add, total)[None] / k

    mapped = jax.shard_map(
        of_device, mesh=mesh, in_specs=(SPLIT, SPLIT), out_specs=P(AXIS), check_vma=False
    )
    return for_mesh(mapped, mesh)(rows, columns)


@partial(jax.jit, static_argnames=('outputs', 'mesh'))
def _multiply(
    f: Function, params: Params, x: Array, block: Array, *, outputs: Outputs, mesh: Mesh
) -> Array:
    """x (devices, ...), block (b, ...) -> (devices, b, k, k) or (devices, b)."""

    def of_device(f: Function, params: Params, x: Array, block: Array) -> Array:
        def product(derivative: Params) -> Array:
            return jax.jvp(lambda p: f(p, block), (params,), (derivative,))[1]

        theta = jax.vmap(product, out_axes=1)(_derivatives(f, params, x))[None]
        return theta if outputs == 'full' else jnp.trace(theta, axis1=2, axis2=3) / theta.shape[-1]

    specs = (P(), P(), P(AXIS), P())
    mapped = jax.shard_map(
        of_device, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False
    )
    return for_mesh(mapped, mesh)(f, params, x, block)


def _derivatives(f: Function, params: Params, x: Array) -> Params:
    """x (1, ...) -> the parameters' tree, each leaf with the k outputs as a new leading axis."""
    outputs, vjp = jax.vjp(lambda p: f(p, x)[0], params)
    (derivatives,) = jax.vmap(vjp)(jnp.eye(len(outputs), dtype=outputs.dtype))
    return derivatives
