"""How much of a change each layer passes on: ||change of its output|| / ||change of its input||.

    hidden = wide_resnet_hidden(model, variables)
    gains = layer_gains(hidden, x, x_adv)             # {'stem': (n,), 'stage1/block0/conv1': ...}
    coefficient_of_variation(gains['stem'])

A layer is a convolution with the BatchNorm and ReLU in front of it, as in `operators.fold`, whose
norms are upper bounds of these gains; the head comes with the pool before it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from war_jax.models.layers import Convolution
from war_jax.models.residual import Block, ResidualNetwork

Hidden = Callable[[Array], Mapping[str, tuple[Array, Array]]]  # layer -> its input and output


def layer_gains(hidden: Hidden, x: Array, moved: Array) -> dict[str, Array]:
    """(n, ...), (n, ...) -> (n,) per layer; 0 where the layer's input does not change."""

    def length(change: Array) -> Array:
        return jnp.linalg.norm(change.reshape(change.shape[0], -1), axis=-1)

    before, after = hidden(x), hidden(moved)
    gains = {}
    for name, (given, made) in before.items():
        into, out = length(after[name][0] - given), length(after[name][1] - made)
        gains[name] = jnp.where(into > 0, out / jnp.where(into > 0, into, 1), 0)
    return gains


def wide_resnet_hidden(model: ResidualNetwork, variables: Mapping[str, Any]) -> Hidden:
    """In inference mode, in the order and by the names of `operators.singular_values`."""

    def kept(module: nn.Module, method: str) -> bool:
        return method == '__call__' and isinstance(module, Convolution | nn.Dense | Block)

    def hidden(x: Array) -> dict[str, tuple[Array, Array]]:
        _, collections = model.apply(
            variables, x, train=False, capture_intermediates=kept, mutable=['intermediates']
        )
        tree: Any = collections['intermediates']

        def output(*path: str) -> Array:
            node = tree
            for name in path:
                node = node[name]
            return node['__call__'][0]

        current = output('stem')
        found = {'stem': (x, current)}
        for s in range(len(model.strides)):
            for b in range(model.blocks[s]):
                path = f'stage{s + 1}', f'block{b}'
                between = output(*path, 'conv1')
                name = '/'.join(path)
                found[f'{name}/conv1'] = (current, between)
                found[f'{name}/conv2'] = (between, output(*path, 'conv2'))
                if 'shortcut' in tree[path[0]][path[1]]:
                    found[f'{name}/shortcut'] = (current, output(*path, 'shortcut'))
                current = output(*path)
        return {**found, 'head': (current, output('head'))}

    return hidden


def coefficient_of_variation(values: Array) -> Array:
    """Standard deviation over mean, 0 for zeros; of gains it is 0 if all directions are alike."""
    mean = jnp.mean(values)
    return jnp.where(mean > 0, jnp.std(values) / jnp.where(mean > 0, mean, 1), 0)
