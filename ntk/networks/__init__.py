"""Networks without normalisation, of any width: what kernels of infinite width are the limit of.

    model = make_network(Architecture('fcn', num_layers=3), width=512, num_outputs=10)
    weights = plain_weights(model, jax.random.key(0), images.shape[1:])        # N(0, 1)
    logits = model.apply({'params': weights}, images)

`FullyConnected`: f = W_L phi(W_{L-1} ... phi(W_1 x)). `NormFreeWideResNet`: the WideResNet of
`war_jax.models` without BatchNorm, which neural-tangents does not have; with a projection in the
first block of every stage and 'SAME' padding, which it does. Neither has biases. How large weights
are at the start, and how fast each layer learns, is a matter of `ntk.networks.parametrization`.
"""

from ntk.networks.models import (
    Architecture,
    FullyConnected,
    NormFreeWideResNet,
    make_network,
    plain_weights,
    weight_shapes,
)

__all__ = [
    'Architecture',
    'FullyConnected',
    'NormFreeWideResNet',
    'make_network',
    'plain_weights',
    'weight_shapes',
]
