"""What the empirical kernel asks of its arguments, and one line for each that cannot be.

    f, params, k = checked(f, params, {}, x1, x2)       # ValueError, or a pytree, arrays, outputs

That the rows of f are independent is tried on two examples. Without it every kernel would be wrong,
and differently so for every size of its blocks.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.tree_util import Partial

from ntk.empirical.blocks import num_outputs_of
from ntk.functional import Function, Network, Params, as_function
from war_jax.lowering import in_full_precision

# Of the largest output. Batches of another size are rounded differently, in bfloat16 by up to this;
# what makes rows dependent (a batch's own moments, dropout) changes them by more.
_TOLERANCE = 1e-2
_REMEDY = 'use f, params = ntk.functional.functional(model, variables, train=False)'


def check_word(name: str, value: str, words: tuple[str, ...]) -> None:
    """Raises ValueError unless the argument is one of `words`."""
    if value not in words:
        raise ValueError(f'{name} = {value!r}: expected {" or ".join(map(repr, words))}')


def checked(
    f: Network, params: Params, call: Mapping[str, Any], x1: np.ndarray, x2: np.ndarray
) -> tuple[Partial, Params, int]:
    """f as a pytree, which a jitted program takes as an argument; parameters as arrays; k.

    Raises ValueError, one line, for whatever `ntk.empirical.empirical_ntk` says.
    """
    if 0 in (x1.ndim, x2.ndim) or 0 in (len(x1), len(x2)) or x1.shape[1:] != x2.shape[1:]:
        raise ValueError(
            f'shapes {x1.shape} and {x2.shape}: expected at least one example, and all of one shape'
        )
    _check_byte_order('examples', (x1, x2))
    _check_byte_order('parameters', params)
    is_module = isinstance(f, nn.Module | nnx.Module)
    f, params = as_function(f, params, call)
    if not is_module and isinstance(params, Mapping) and 'params' in params and len(params) > 1:
        raise ValueError(
            f'params with the collections {sorted(params)}: expected the parameters alone, as '
            f"derivatives would be taken by the others, too; {_REMEDY}"
        )
    params = jax.tree.map(jnp.asarray, params)
    dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(params)}
    if dtypes not in ({'float32'}, {'float64'}):
        raise ValueError(f'parameters of {sorted(dtypes)}: expected all float32 or all float64')
    k = num_outputs_of(f, params, x1)
    # Two equal examples could not tell: a batch's moments would be those of each.
    other = x1[-1] if np.array_equal(x1[0], x2[-1]) else x2[-1]
    _check_rows(f, params, np.stack([x1[0], other]))
    return f, params, k


def _check_byte_order(name: str, arrays: Any) -> None:
    for leaf in jax.tree.leaves(arrays):
        if isinstance(leaf, np.ndarray) and not leaf.dtype.isnative:
            native = leaf.dtype.newbyteorder('=')
            raise ValueError(
                f"{name} of dtype '{leaf.dtype.str}': expected this machine's byte order; convert "
                f"them with .astype('{native.name}')"
            )


def _check_rows(f: Function, params: Params, pair: np.ndarray) -> None:
    """ValueError unless two examples (2, ...) have the same outputs alone as side by side."""
    alone, together = map(np.asarray, _alone_and_together(f, params, pair))
    if alone.shape != together.shape:
        raise ValueError(f'f maps {pair.shape} to {together.shape}: expected {alone.shape}')
    change, largest = np.abs(together - alone).max(), np.abs(alone).max()
    if change > _TOLERANCE * largest:
        share = f'{change / largest:.0%} of the largest one' if largest else f'{change:.2g}'
        raise ValueError(
            f'f gives an example other outputs beside another one than alone, by up to {share}: '
            'expected independent rows, without BatchNorm in training mode or dropout; '
            f'{_REMEDY}, or functional_on_batch for the moments of a fixed batch'
        )


# In full precision: accelerators may round products differently for other shapes.
@jax.jit
@in_full_precision
def _alone_and_together(f: Function, params: Params, pair: Array) -> tuple[Array, Array]:
    """(2, ...) -> (2, k): one example at a time; and what f makes of both."""
    alone = [f(params, pair[i : i + 1]) for i in range(2)]
    return jnp.concatenate(alone), f(params, pair)
