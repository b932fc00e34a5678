"""Operator norms of layers, and their product: an upper bound of a network's Lipschitz constant.

    bound = lipschitz_bound(model, variables, (32, 32, 3))
    bound.bound, bound.norms['stage1/block0/conv1']

    bound = fully_connected_bound({'layer1': matrix1, 'head': matrix2})      # any layers of yours
    norm = conv_norm(kernel, (32, 32, 16), stride=2, padding='SAME', key=jax.random.key(0))

All norms are those between L2 norms. The constant of a composition is at most the product of the
layers' constants, that of a sum at most their sum: ||f(x) - f(x')||_2 <= bound * ||x - x'||_2 for
all x, x' (Szegedy et al. 2014, section 4.3). How loose that is, is one of the things to look at:
with Gaussian weights the product grows with width where the network's gradients do not.

A convolution is measured as what it is, a linear map of whole images at their actual size, with
its stride and its zero padding; the reshaped kernel's norm is another number.

In `lipschitz_bound` the norm of a convolution is itself an upper bound, by Fourier transform of the
map with its padding around it (`war_jax.measures.operators.certified_bound`): no iteration, and
above the norm by a few percent on large maps, by up to a half on maps of 2 x 2. `conv_norm` and
`operator_norm` come by Lanczos iteration, from below (`largest_eigenvalue` says how fast):
estimates, no bounds. The product is loose by factors.
"""

from ntk.spectral.bound import fully_connected_bound, lipschitz_bound
from war_jax.measures.operators import (
    conv_norm,
    dense_norm,
    largest_eigenvalue,
    operator_norm,
)

__all__ = [
    'conv_norm',
    'dense_norm',
    'fully_connected_bound',
    'largest_eigenvalue',
    'lipschitz_bound',
    'operator_norm',
]
