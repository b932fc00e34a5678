"""Threat models: which perturbed images an adversary may show.

    threat = ThreatModel('linf', 8 / 255)
    x_adv = threat.project(x + step_size * threat.ascend(gradient), x)

The set is the norm ball of radius epsilon around the clean image, cut to the pixel box [0, 1].
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from war_jax.config_rules import convert, refusal

Norm = Literal['linf', 'l2']

# NumPy, and libraries of attacks after it, name the two norms by their orders.
_BY_ORDER: dict[str, Norm] = {'inf': 'linf', '2': 'l2', '2.0': 'l2'}
_TINY = 1e-12  # divides a vanishing gradient or perturbation without changing any other


class Threat(Protocol):
    """What projected ascent needs of a set of inputs; `war_jax.attacks.sphere` has another one."""

    def project(self, x_adv: Array, x: Array) -> Array: ...
    def ascend(self, grad: Array) -> Array: ...
    def sample(self, key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array: ...


@dataclass(frozen=True)
class ThreatModel:
    """Ball of radius `epsilon` >= 0, in units of pixel intensity in [0, 1], in L-infinity or L2.

    norm: in capitals or not; also by its order: np.inf, 'inf', 2 or '2'. Stored as 'linf' or 'l2'.
    epsilon: finite, and at most 1 in L-infinity; a traced array is taken as it is.
    Raises ConfigError for any other norm or radius.
    """

    norm: Norm
    epsilon: float | Array

    def __post_init__(self) -> None:
        # Frozen: this is the way in which a dataclass sets its own fields.
        object.__setattr__(self, 'norm', _norm_name(self.norm))
        if not isinstance(self.epsilon, Tracer):
            _check_radius(self.norm, self.epsilon)

    def project(self, x_adv: Array, x: Array) -> Array:
        """(b, ...), (b, ...) -> (b, ...): onto the ball around x, then onto [0, 1].

        For x in the box the second projection moves every coordinate towards x, so the point
        stays in the ball; for L-infinity the composition is the exact projection.
        """
        if self.norm == 'linf':
            x_adv = jnp.clip(x_adv, x - self.epsilon, x + self.epsilon)
        else:
            delta = x_adv - x
            shrink = jnp.minimum(1.0, self.epsilon / jnp.maximum(_norm(delta), _TINY))
            x_adv = x + delta * shrink
        return jnp.clip(x_adv, 0.0, 1.0)

    def ascend(self, grad: Array) -> Array:
        """(b, ...) -> (b, ...): per example the unit step of this norm that climbs fastest."""
        if self.norm == 'linf':
            return jnp.sign(grad)
        # Where the network is certain, entries are so small that their squares vanish in float32:
        # bring the largest one to 1 first. A gradient of zeros gives no step.
        largest = jnp.max(jnp.abs(grad), tuple(range(1, grad.ndim)), keepdims=True)
        scaled = grad / jnp.where(largest > 0, largest, 1)
        return scaled / jnp.maximum(_norm(scaled), _TINY)

    def length(self, perturbation: Array) -> Array:
        """(b, ...) -> (b,): in this norm."""
        flat = perturbation.reshape(perturbation.shape[0], -1)
        if self.norm == 'linf':
            return jnp.max(jnp.abs(flat), -1)
        return jnp.sqrt(jnp.sum(jnp.square(flat), -1))

    def sample(self, key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
        """One perturbation of `shape` drawn uniformly from the ball (no batch axis, no box)."""
        if self.norm == 'linf':
            return jax.random.uniform(key, shape, dtype, -self.epsilon, self.epsilon)
        direction_key, radius_key = jax.random.split(key)
        direction = jax.random.normal(direction_key, shape, dtype)
        radius = jax.random.uniform(radius_key, (), dtype) ** (1.0 / direction.size)
        length = jnp.sqrt(jnp.sum(jnp.square(direction)))
        return self.epsilon * radius * direction / jnp.maximum(length, _TINY)


@dataclass(frozen=True)
class BoxOnly(ThreatModel):
    """A ball from which starts are drawn, but that steps may leave: only the pixels' box is kept.

    So the training of N-FGSM (de Jorge et al. 2022), whose perturbations are longer than epsilon.
    """

    def project(self, x_adv: Array, x: Array) -> Array:
        """(b, ...), (b, ...) -> (b, ...): onto [0, 1]."""
        del x
        return jnp.clip(x_adv, 0.0, 1.0)


def _norm_name(norm: Any) -> Norm:
    """Raises ConfigError for what is neither of the two."""
    name = str(norm).lower()
    known = _BY_ORDER.get(name, name)
    return convert('norm', known if known in ('linf', 'l2') else norm, Norm)


def _check_radius(norm: Norm, epsilon: Any) -> None:
    """Raises ConfigError."""
    try:
        radius = float(epsilon)
    except (TypeError, ValueError):
        rule = 'must be one number, as 8 / 255'
        raise refusal('epsilon', epsilon, rule) from None
    if not 0 <= radius < math.inf:
        rule = 'must be at least 0 and finite, in units of pixels in [0, 1]'
        raise refusal('epsilon', radius, rule, '8/255' if norm == 'linf' else '0.5')
    if norm == 'linf' and radius > 1:
        rule = 'must be at most 1 in L-infinity, as pixels are in [0, 1]'
        raise refusal('epsilon', radius, rule, f'{radius:g}/255' if radius <= 255 else '1')


def _norm(values: Array) -> Array:
    """(b, ...) -> (b, 1, ...): L2 norm of each example."""
    return jnp.sqrt(jnp.sum(jnp.square(values), tuple(range(1, values.ndim)), keepdims=True))
