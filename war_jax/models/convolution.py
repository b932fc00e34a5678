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

from war_jax.lowering import is_for_cpu

FEW_CHANNELS = 16  # the fast kernels begin above
IMAGE_CHANNELS = 4  # at most, of an image
PART = 2**17  # numbers in the examples of which a kernel's gradient is best taken at a time
SMALLEST_PART = 8  # such examples


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """(b, h, w, c), (size, size, c, d), size odd -> (b, ceil(h / stride), ceil(w / stride), d)."""
    return (_for_cpu if is_for_cpu() else _plain)(x, kernel, stride)


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
    size, w, c = kernel.shape[0], x.shape[2], kernel.shape[2]
    if size == 1:
        return _by_pixel(x, kernel, stride)
    if size == 3 and stride == 1 and c <= IMAGE_CHANNELS and w % 2 == 0:
        return _over_pairs(x, kernel, 'HWIO')
    return _to_few_channels(x, kernel, stride)


def _by_pixel(x: Array, kernel: Array, stride: int) -> Array:
    """Size 1: a matrix product. Of two axes, since XLA turns the gradient's others around first."""
    x = x[:, ::stride, ::stride]
    return (x.reshape(-1, x.shape[3]) @ kernel[0, 0]).reshape(*x.shape[:3], kernel.shape[3])


def _to_few_channels(x: Array, kernel: Array, stride: int) -> Array:
    """`_plain`, or several neighbours at once where the result has few channels."""
    size, w, d = kernel.shape[0], x.shape[2], kernel.shape[3]
    count = neighbours_at_once(d)
    if size == 3 and count > 1 and w % (count * stride) == 0:
        return _at_once(x, kernel, stride, count)
    return _plain(x, kernel, stride)


def neighbours_at_once(channels: int) -> int:
    """How many pixels of a row to compute together, so that XLA sees enough channels."""
    return next(n for n in (1, 2, 4, 8, 16, 32) if n * channels > FEW_CHANNELS)


def _at_once(x: Array, kernel: Array, stride: int, count: int) -> Array:
    """Size 3: `count` neighbours in a row of the result become one of as many times the channels.

    Its window is as wide as theirs together, with zeros for taps where one of them does not look:
    of two neighbours, each looks at three of four columns.
    """
    width = (count - 1) * stride  # by which the window is wider
    taps = [
        jnp.pad(kernel, ((0, 0), (i * stride, width - i * stride), (0, 0), (0, 0)))
        for i in range(count)
    ]
    y = jax.lax.conv_general_dilated(
        x,
        jnp.concatenate(taps, -1),
        (stride, count * stride),
        ((1, 1), (1, 1)),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    return y.reshape(*y.shape[:2], y.shape[2] * count, -1)


def _transpose_of_at_once(dx: Array, kernel: Array, count: int) -> Array:
    """Size 3, stride 1: `_plain`(dx, kernel, 1), so written that its transpose, which makes images
    of c channels, has the form of `_at_once`."""
    b, h, w, c = dx.shape
    swapped = jnp.swapaxes(kernel, 2, 3)  # of a NumPy array, too, as JAX 0.9 gives
    taps = [
        jnp.pad(swapped, ((0, 0), (count - 1 - i, i), (0, 0), (0, 0))) for i in range(count)
    ]
    return jax.lax.conv_general_dilated(
        dx.reshape(b, h, w // count, count * c),
        jnp.concatenate(taps, -1),
        (1, 1),
        ((1, 1), (count, count)),
        lhs_dilation=(1, count),
        dimension_numbers=('NHWC', 'HWOI', 'NHWC'),
    )


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
        changes.append(_in_image(dx, kernel, stride))
    if not isinstance(dkernel, SymbolicZero):
        changes.append(_in_kernel(x, dkernel, stride))
    return y, sum(changes[1:], changes[0]) if changes else jnp.zeros_like(y)


_for_cpu.defjvp(_tangent, symbolic_zeros=True)


def _in_image(dx: Array, kernel: Array, stride: int) -> Array:
    """`_plain`(dx, kernel, stride), so written that its transpose is fast."""
    size, w, c = kernel.shape[0], dx.shape[2], kernel.shape[2]
    if size == 1:
        return _by_pixel(dx, kernel, stride)
    swapped = jnp.swapaxes(kernel, 2, 3)  # of a NumPy array, too, as JAX 0.9 gives
    if size == 3 and stride == 1 and c <= IMAGE_CHANNELS and w % 2 == 0:
        return _over_pairs(dx, swapped, 'HWOI')
    count = neighbours_at_once(c)
    if size == 3 and stride == 1 and count > 1 and w % count == 0:
        return _transpose_of_at_once(dx, kernel, count)
    return _plain(dx, swapped, stride, 'HWOI')


def _in_kernel(x: Array, dkernel: Array, stride: int) -> Array:
    """`_plain`(x, dkernel, stride), so written that its transpose is fast."""
    if dkernel.shape[0] == 1:
        return _by_pixel(x, dkernel, stride)
    b, h, w, _ = x.shape
    step = max(SMALLEST_PART, PART // (h * w * max(dkernel.shape[2:])))
    parts = [x[i : i + step] for i in range(0, b, step)]
    return jnp.concatenate([_to_few_channels(part, dkernel, stride) for part in parts])

