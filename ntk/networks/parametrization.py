"""How large weights are, and how fast they learn, as functions of the width.

    of = PARAMETRIZATIONS['ntk']
    scales = of.scales(model, images.shape[1:], weight_variance=2.0, output_variance=1.0)
    weights = scales.draw(plain_weights(model, key, images.shape[1:]))
    logits = model.apply({'params': scales.effective(weights)}, images)
    learning_rate = eta * of.learning_rate_factor(width)

A layer's matrix is multiplier * V, V trained from N(0, std^2); gain^2 is the weight variance (of
the last layer: the output variance), m the width that the last layer sees, n the layer's fan-in.

| name          | source                                 | first, hidden and last layer        |
|---------------|----------------------------------------|-------------------------------------|
| `standard`    | He et al. 2015                         | V of std gain / sqrt(n)             |
| `ntk`         | Jacot et al. 2018                      | gain / sqrt(n) * V, V of std 1      |
| `sqrt_m`      | WAR's theory: inner layers N(0, 2/m),  | first sqrt(m / n) * V, V of std     |
|               | factor sqrt(m) behind W_L ~ N(0, 1/m)  | gain / sqrt(m); last sqrt(d) * V,   |
|               |                                        | V of std gain / sqrt(m)             |
| `sqrt_m_unit` | the same with W_L ~ N(0, 1)            | as sqrt_m; last V of std gain       |
| `mup`         | Yang & Hu 2021, table 1 (with c = 0)   | first sqrt(m) * V, V of std         |
|               |                                        | gain / sqrt(n m); last V / sqrt(m), |
|               |                                        | V of std gain / sqrt(m)             |

Where not said, a layer is that of `standard`. d is the first layer's fan-in. WAR's theory has no
factor behind its first layer, whose output is then of order 1 / sqrt(m): the factor sqrt(d / m) is
moved to the output here, where it meets their sqrt(m). For ReLU nothing changes by that; other
activations would see no more than their slope at 0.

The learning rate is that of all layers: constant in width, as in practice, for `standard`; constant
for `ntk` and `mup` by their definition; and falling as 1/m and 1/m^2 for `sqrt_m` and
`sqrt_m_unit`, whose kernels grow that fast.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
from jax import Array

from ntk.networks.models import FIRST, LAST, weight_shapes

Position = Literal['first', 'hidden', 'last']
Factors = tuple[float, float]  # multiplier, std
# position, fan-in, width, fan-in of the first layer, gain
Rule = Callable[[Position, int, int, int, float], Factors]


class Scales(NamedTuple):
    """Trees of numbers, one per weight array."""

    multipliers: Any
    stds: Any
    gains: Any
    fan_ins: Any

    def draw(self, plain: Any) -> Any:
        """Initial trained weights V from N(0, 1) draws."""
        return jax.tree.map(lambda std, weights: std * weights, self.stds, plain)

    def effective(self, weights: Any) -> Any:
        """The matrices that the network multiplies with."""
        return jax.tree.map(lambda factor, array: factor * array, self.multipliers, weights)

    @property
    def output_scale(self) -> float:
        """At the start this network is `output_scale` times one in the NTK parametrization.

        Layers differ from it in nothing but a factor behind the last one.
        """
        multiplier, std, gain, fan_in = (tree[LAST]['kernel'] for tree in self)
        return multiplier * std * math.sqrt(fan_in) / gain

    def rate(self, layer: str) -> float:
        """Theta_l, the layer's part of the NTK, is `rate` times that in the NTK parametrization."""
        return (self.output_scale / self.stds[layer]['kernel']) ** 2


@dataclass(frozen=True)
class Parametrization:
    """rule: see the table above. learning_rate_power: of 1/m.

    gradient_power: of m, in the RMS input gradient at the start; exact for ReLU at every width.
    """

    name: str
    rule: Rule
    learning_rate_power: int
    gradient_power: float

    def scales(
        self,
        model: nn.Module,
        input_shape: Sequence[int],
        weight_variance: float,
        output_variance: float,
    ) -> Scales:
        """input_shape: of one image."""
        shapes = weight_shapes(model, input_shape)
        width = last_layer(shapes)[0]
        paths = jax.tree.leaves_with_path(shapes)
        (first,) = (math.prod(leaf.shape[:-1]) for path, leaf in paths if path[0].key in FIRST)

        def describe(path: Any, leaf: Any) -> tuple[float, float, float, int]:
            name = path[0].key
            position = 'first' if name in FIRST else 'last' if name == LAST else 'hidden'
            gain = math.sqrt(output_variance if position == 'last' else weight_variance)
            fan_in = math.prod(leaf.shape[:-1])
            multiplier, std = self.rule(position, fan_in, width, first, gain)
            return multiplier, std, gain, fan_in

        leaves, tree = jax.tree.flatten_with_path(shapes)
        columns = zip(*(describe(*leaf) for leaf in leaves), strict=True)
        return Scales(*(jax.tree.unflatten(tree, column) for column in columns))

    def learning_rate_factor(self, width: int) -> float:
        """width: m, the `fan_ins` of the last layer."""
        return float(width) ** -self.learning_rate_power


def last_layer(weights: Any) -> tuple[int, int]:
    """(the width m that it sees, number of outputs)."""
    return weights[LAST]['kernel'].shape


def _standard(position: Position, fan_in: int, width: int, first: int, gain: float) -> Factors:
    del position, width, first
    return 1.0, gain / math.sqrt(fan_in)


def _ntk(position: Position, fan_in: int, width: int, first: int, gain: float) -> Factors:
    del position, width, first
    return gain / math.sqrt(fan_in), 1.0


def _sqrt_m(position: Position, fan_in: int, width: int, first: int, gain: float) -> Factors:
    if position == 'first':
        return math.sqrt(width / first), gain / math.sqrt(width)
    return (math.sqrt(first) if position == 'last' else 1.0), gain / math.sqrt(fan_in)


def _sqrt_m_unit(position: Position, fan_in: int, width: int, first: int, gain: float) -> Factors:
    multiplier, std = _sqrt_m(position, fan_in, width, first, gain)
    return multiplier, (gain if position == 'last' else std)


def _mup(position: Position, fan_in: int, width: int, first: int, gain: float) -> Factors:
    del first
    std = gain / math.sqrt(fan_in)
    if position == 'first':
        return math.sqrt(width), std / math.sqrt(width)
    return (1.0 / math.sqrt(fan_in) if position == 'last' else 1.0), std


PARAMETRIZATIONS = {
    of.name: of
    for of in (
        Parametrization('standard', _standard, 0, 0.0),
        Parametrization('ntk', _ntk, 0, 0.0),
        Parametrization('sqrt_m', _sqrt_m, 1, 0.0),
        Parametrization('sqrt_m_unit', _sqrt_m_unit, 2, 0.5),
        Parametrization('mup', _mup, 0, -0.5),
    )
}


def outputs(model: nn.Module, multipliers: Any, weights: Any, x: Array) -> Array:
    """(n, ...) -> (n, outputs) of the network whose weights are multiplier * weight."""
    effective = jax.tree.map(lambda factor, array: factor * array, multipliers, weights)
    return model.apply({'params': effective}, x)  # type: ignore[return-value]
