"""The product of the layers' norms, for the networks of this project and for layers of yours."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jax import Array

from ntk.networks import FullyConnected, NormFreeWideResNet
from war_jax.measures.operators import (
    Block,
    Conv,
    LipschitzBound,
    WideResNetLayers,
    certified_bound,
    dense_norm,
    wide_resnet_layers,
)
from war_jax.models.residual import ResidualNetwork

# Largest slopes; that of GELU is at sqrt(2). The square of ReLU (relu2) has none.
SLOPES = {
    'relu': 1.0,
    'erf': 2 / math.sqrt(math.pi),
    'gelu': (1 + math.erf(1)) / 2 + math.exp(-1) / math.sqrt(math.pi),
}


def lipschitz_bound(
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, ...],
) -> LipschitzBound:
    """Of the logits of a WideResNet of war_jax in inference mode, or of a network of ntk.networks.

    variables: {'params', 'batch_stats'}; of a network of ntk.networks {'params'}, the matrices that
    it multiplies with (`Scales.effective`). image_shape: of one image, (h, w, c).
    Raises ValueError for other models, and for activations of unbounded slope.
    """
    if isinstance(model, ResidualNetwork):
        layers = wide_resnet_layers(model, variables)
    elif isinstance(model, NormFreeWideResNet):
        layers = norm_free_layers(model, variables)
    elif isinstance(model, FullyConnected):
        matrices = {name: layer['kernel'] for name, layer in variables['params'].items()}
        return fully_connected_bound(matrices, largest_slope(model.activation))
    else:
        raise ValueError(
            f'model = {type(model).__name__}: expected WideResNet, NormFreeWideResNet or '
            'FullyConnected; describe its layers for certified_bound or fully_connected_bound'
        )
    return certified_bound(layers, image_shape)


def fully_connected_bound(kernels: Mapping[str, Array], slope: float = 1.0) -> LipschitzBound:
    """Product of the norms of all matrices (in, out), as applied, and of the slopes between them.

    slope: the activation's largest.
    """
    norms = {name: float(dense_norm(kernel)) for name, kernel in kernels.items()}
    return LipschitzBound(math.prod(norms.values()) * slope ** (len(norms) - 1), norms)


def norm_free_layers(model: NormFreeWideResNet, variables: Mapping[str, Any]) -> WideResNetLayers:
    """The layers of `ntk.networks.NormFreeWideResNet`, from {'params': effective weights}."""
    params, slope = variables['params'], largest_slope(model.activation)

    def conv(name: str, stride: int) -> Conv:
        return Conv(params[name]['kernel'], stride, 'SAME')

    blocks = {}
    for s, stage_stride in enumerate(model.strides, start=1):
        for b in range((model.depth - 4) // 6):
            name, stride = f'stage{s}_block{b}', stage_stride if b == 0 else 1
            blocks[f'stage{s}/block{b}'] = Block(
                gain1=slope,
                conv1=conv(f'{name}_conv1', stride),
                gain2=slope,
                conv2=conv(f'{name}_conv2', 1),
                shortcut=conv(f'{name}_shortcut', stride) if b == 0 else None,
            )
    return WideResNetLayers(conv('stem', 1), blocks, slope, params['head']['kernel'])


def largest_slope(activation: str) -> float:
    """Raises ValueError for an activation without a Lipschitz constant."""
    if activation not in SLOPES:
        raise ValueError(f'activation = {activation!r}: expected one of {", ".join(SLOPES)}')
    return SLOPES[activation]
