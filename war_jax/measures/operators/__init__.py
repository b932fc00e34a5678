"""Layers as linear operators: norms, whole spectra, and the Lipschitz bound that follows.

    layers = fold(wide_resnet_layers(model, variables))        # BatchNorm's scales in the kernels
    spectra = singular_values(layers, (8, 8, 1))               # {'stage1/block0/conv1': (n,), ...}
    bound = certified_bound(layers, (8, 8, 1)).bound

All are between L2 norms, of whole maps; a convolution is no reshaped kernel.
"""

from war_jax.measures.operators.layers import (
    Block,
    Conv,
    LipschitzBound,
    WideResNetLayers,
    fold,
    wide_resnet_layers,
)
from war_jax.measures.operators.norms import (
    NUM_STEPS,
    Padding,
    conv_norm,
    dense_norm,
    largest_eigenvalue,
    operator_norm,
)
from war_jax.measures.operators.spectra import (
    certified_bound,
    conv_singular_values,
    singular_values,
)

__all__ = [
    'NUM_STEPS',
    'Block',
    'Conv',
    'LipschitzBound',
    'Padding',
    'WideResNetLayers',
    'certified_bound',
    'conv_norm',
    'conv_singular_values',
    'dense_norm',
    'fold',
    'largest_eigenvalue',
    'operator_norm',
    'singular_values',
    'wide_resnet_layers',
]
