"""Square convolutions without bias, padded by (size - 1) / 2 on every side as in PyTorch.

    y = convolve(x, kernel, stride)        # (b, h, w, c), (size, size, c, d) -> (b, h', w', d)

What is computed is always the same, up to the order of summation. How, depends on what XLA is good
at: its CPU backend has fast kernels only for convolutions of more than 16 channels on one side at
least (jax 0.10; measured in docs/performance.md).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

FEW_CHANNELS = 16  # the fast kernels begin above
FAST_CHANNELS = 20  # the cheapest number among these
IMAGE_CHANNELS = 4  # at most, of an image
PART = 16  # examples, of which a kernel's gradient is best taken at a time


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """(b, h, w, c), (size, size, c, d), size odd -> (b, ceil(h / stride), ceil(w / stride), d)."""
    return (_for_cpu if on_cpu() else _plain)(x, kernel, stride)


def _plain(x: Array, kernel: Array, stride: int, order: str = 'HWIO') -> Array:
    """`convolve` as XLA has it; order: of the kernel's axes."""
    pad = (kernel.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=('NHWC', order, 'NHWC'),
    )


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _for_cpu(x: Array, kernel: Array, stride: int) -> Array:
    return _in_image(x, kernel, stride, 'HWIO')


def _in_image(x: Array, kernel: Array, stride: int, order: str) -> Array:
    """As `_plain`, in the way that is fast for these shapes."""
    size, c = kernel.shape[0], x.shape[-1]
    if size == 1:
        matrix = kernel[0, 0] if order == 'HWIO' else kernel[0, 0].T
        return x[:, ::stride, ::stride] @ matrix
    if size == 3 and stride == 1 and c <= IMAGE_CHANNELS and x.shape[2] % 2 == 0:
        return _over_pairs(x, kernel, order)
    return _plain(x, kernel, stride, order)


def _over_pairs(x: Array, kernel: Array, order: str) -> Array:
    """Size 3, stride 1, an even w: neighbours in a row become one pixel of twice the channels.

    Half of the products are with zeros, and yet images of 1 or 3 channels go through it, and their
    gradients come back, in a third of the time.
    """
    b, h, w, c = x.shape
    # Six columns of taps: of the pairs to the left, at and to the right of the two outputs. The
    # kernel's three begin at the second for the first output, at the third for the second one.
    first, second = (
        jnp.pad(kernel, ((0, 0), (start, 3 - start), (0, 0), (0, 0))) for start in (1, 2)
    )
    if order == 'HWIO':  # columns (pair, of the pair), c; output of the pair, d
        taps = jnp.stack([first, second], 3).reshape(3, 3, 2 * c, -1)
    else:
        d = kernel.shape[2]
        taps = jnp.stack([first, second], 2).reshape(3, 3, 2, 2 * d, c).swapaxes(2, 3)
        taps = taps.reshape(3, 3, 2 * d, 2 * c)
    return _plain(x.reshape(b, h, w // 2, 2 * c), taps, 1, order).reshape(b, h, w, -1)


def _tangent(
    stride: int,
    primals: tuple[Array, Array],
    tangents: tuple[Array | SymbolicZero, Array | SymbolicZero],
) -> tuple[Array, Array]:
    """The change of `_for_cpu`, written for the sake of its transpose: the gradients."""
    (x, kernel), (dx, dkernel) = primals, tangents
    y, changes = _for_cpu(x, kernel, stride), []
    if not isinstance(dx, SymbolicZero):
        # The transpose swaps a kernel's channels. Swapped here, they are in XLA's own order there;
        # in the other one XLA takes no fast kernel for a convolution within a loop.
        changes.append(_in_image(dx, kernel.swapaxes(2, 3), stride, 'HWOI'))
    if not isinstance(dkernel, SymbolicZero):
        if kernel.shape[0] == 1:
            x, stride = x[:, ::stride, ::stride], 1
        parts = [x[i : i + PART] for i in range(0, x.shape[0], PART)]
        changes.append(jnp.concatenate([_plain(part, dkernel, stride) for part in parts]))
    return y, sum(changes[1:], changes[0]) if changes else jnp.zeros_like(y)


_for_cpu.defjvp(_tangent, symbolic_zeros=True)


def roomy(channels: int) -> int:
    """How many channels to compute where `channels` are wanted and nobody sees the further ones."""
    return FAST_CHANNELS if channels <= FEW_CHANNELS and on_cpu() else channels


def widen(values: Array, size: int, axis: int = -1) -> Array:
    """`values` with zeros behind it along `axis`, up to `size`."""
    missing = size - values.shape[axis]
    if not missing:
        return values
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, missing)
    return jnp.pad(values, widths)


def on_cpu() -> bool:
    return jax.default_backend() == 'cpu'
