"""The networks as linen modules, their activations, and weights drawn from N(0, 1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers

from war_jax.config_rules import convert
from war_jax.families import FAMILIES

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    'relu': jax.nn.relu,
    'erf': jax.lax.erf,
    'gelu': lambda x: jax.nn.gelu(x, approximate=False),
    'relu2': lambda x: jnp.square(jax.nn.relu(x)),
}
Kind = Literal['fcn', 'wrn']
FIRST, LAST = ('layer1', 'stem'), 'head'


@dataclass(frozen=True)
class Architecture:
    """What does not change with width.

    kind 'fcn': num_layers weight matrices, num_layers - 1 of them followed by the activation.
    kind 'wrn': `depth` and `strides` as in `war_jax.models.wide_resnet.WideResNet`.
    Raises ConfigError for another kind or activation.
    """

    kind: Kind
    num_layers: int = 3
    depth: int = 10
    strides: Sequence[int] = (1, 2, 2)
    activation: str = 'relu'

    def __post_init__(self) -> None:
        convert('kind', self.kind, Kind)
        convert('activation', self.activation, Literal[*ACTIVATIONS])


class FullyConnected(nn.Module):
    """Images (or vectors) to outputs; `width` units in each of num_layers - 1 hidden layers."""

    num_layers: int
    width: int
    num_outputs: int
    activation: str = 'relu'

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """(n, ...) -> (n, num_outputs)."""
        x = images.reshape(images.shape[0], -1)
        for number in range(1, self.num_layers):
            x = nn.Dense(self.width, use_bias=False, name=f'layer{number}')(x)
            x = ACTIVATIONS[self.activation](x)
        return nn.Dense(self.num_outputs, use_bias=False, name=LAST)(x)


class NormFreeWideResNet(nn.Module):
    """WideResNet-depth-k without BatchNorm; the stem has as many channels as the first stage."""

    depth: int
    widen_factor: float
    num_outputs: int
    strides: Sequence[int] = (1, 2, 2)
    activation: str = 'relu'

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """(n, h, w, c) -> (n, num_outputs)."""
        phi = ACTIVATIONS[self.activation]
        widths = FAMILIES['wide_resnet'].channels(self.widen_factor)
        x = conv(widths[0], 3, 1, 'stem')(images)
        for stage, features in enumerate(widths, start=1):
            for block in range((self.depth - 4) // 6):
                stride = self.strides[stage - 1] if block == 0 else 1
                name = f'stage{stage}_block{block}'
                active = phi(x)
                y = conv(features, 3, stride, f'{name}_conv1')(active)
                y = conv(features, 3, 1, f'{name}_conv2')(phi(y))
                shortcut = x if block else conv(features, 1, stride, f'{name}_shortcut')(active)
                x = shortcut + y
        return nn.Dense(self.num_outputs, use_bias=False, name=LAST)(phi(x).mean((1, 2)))


def conv(features: int, size: int, stride: int, name: str) -> nn.Conv:
    return nn.Conv(features, (size, size), (stride, stride), 'SAME', use_bias=False, name=name)


def make_network(architecture: Architecture, width: float, num_outputs: int) -> nn.Module:
    """width: hidden units, or the widen factor k of a WideResNet."""
    if architecture.kind == 'fcn':
        return FullyConnected(
            architecture.num_layers, int(width), num_outputs, architecture.activation
        )
    return NormFreeWideResNet(
        architecture.depth, width, num_outputs, tuple(architecture.strides), architecture.activation
    )


def plain_weights(model: nn.Module, key: Array, input_shape: Sequence[int]) -> Any:
    """The tree of weights, each drawn from N(0, 1); input_shape is that of one image."""
    shapes = weight_shapes(model, input_shape)
    paths, tree = jax.tree.flatten_with_path(shapes)
    keys = jax.random.split(key, len(paths))
    drawn = [
        initializers.normal(1.0)(key, leaf.shape, leaf.dtype)
        for key, (_, leaf) in zip(keys, paths, strict=True)
    ]
    return jax.tree.unflatten(tree, drawn)


def weight_shapes(model: nn.Module, input_shape: Sequence[int]) -> Any:
    """The same tree of shapes and dtypes; nothing is computed."""
    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.result_type(float))
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)['params']
