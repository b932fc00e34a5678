"""Kernels of infinitely wide networks: covariance at the start (NNGP), and of its training (NTK).

    kernel = fully_connected(num_layers=3)                  # or wide_resnet(depth=10)
    kernel(x1, x2, 'ntk')                                   # (n1, n2)
    kernel(x1, None, ('nngp', 'ntk')).nngp                  # (n1, n1)
    compute(kernel, images, get='ntk', cache=Path('runs/kernels'), bar=progress_bar)

NNGP is E f(x) f(x') over weights, per output; NTK is E sum_w df(x)/dw df(x')/dw (Jacot et al. 2018;
Lee et al. 2019). The networks are those of `ntk.networks`, in NTK parametrization: a layer is
gain / sqrt(fan-in) times weights drawn from N(0, 1), gain^2 being `weight_variance`, and
`output_variance` for the last layer; no biases. neural-tangents does the recursion, in float64
where jax_enable_x64 is set and else in float32, which accelerators do not round further.

Traps
- The NTK of a ReLU network has a cusp at x = x'. Its mixed derivative d^2 / dx dx' there is NaN
  here (neural-tangents' own ReLU returns a finite, wrong number: `ntk.infinite.rectifiers`), and
  its first derivative is the mean of those on the two sides. The NNGP kernel has both derivatives.
  Evaluate off the training set, or take 'erf', 'gelu' or 'relu2'.
- 'relu2' keeps no scale: a layer's variance is 3/2 weight_variance times the square of that before.
- A WideResNet needs the covariances of all pairs of pixels, (h w)^2 numbers for a pair of images:
  4 MB at 32x32. `compute` chooses its blocks accordingly; a direct call does not.

    >>> import numpy as np, ntk
    >>> kernel = ntk.infinite.fully_connected(num_layers=2, activation='relu')
    >>> kernel(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)).round(4)      # 1, and 1/(2 pi)
    Array([[1.    , 0.1592],
           [0.1592, 1.    ]], dtype=float32)
"""

from ntk.infinite.blockwise import compute
from ntk.infinite.kernel import Kernel, fully_connected, wide_resnet

__all__ = ['Kernel', 'compute', 'fully_connected', 'wide_resnet']
