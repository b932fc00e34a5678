"""Kernels of wide networks, their input gradients, and how both scale with width.

    import ntk
    theta = ntk.empirical_ntk(model, variables, images, call={'train': False})     # linen: (n, n)
    theta = ntk.empirical_ntk(module, None, images)                                # flax.nnx
    theta = ntk.empirical_ntk(lambda params, x: ..., params, images, others)       # any function
    limit = ntk.infinite.fully_connected(num_layers=3)(images)                     # infinitely wide
    norms = ntk.input_gradient_norms(model, variables, images, call={'train': False})     # (n, k)

`ntk.infinite` has the kernels of infinitely wide networks, fully connected ones and WideResNets; it
needs neural-tangents (war-jax[ntk]), the others do not. These names are loaded when they are first
used: importing ntk imports no JAX.
"""

from typing import TYPE_CHECKING

from war_jax.lazy import on_demand

if TYPE_CHECKING:
    from ntk import infinite as infinite
    from ntk.empirical import empirical_ntk as empirical_ntk
    from ntk.gradients import input_gradient_norms as input_gradient_norms

_HOMES = {
    'empirical_ntk': 'ntk.empirical',
    'infinite': 'ntk.infinite',
    'input_gradient_norms': 'ntk.gradients',
}
__all__ = ['empirical_ntk', 'infinite', 'input_gradient_norms']
__getattr__, __dir__ = on_demand(__name__, globals(), _HOMES)
