"""Caps of a sphere as threat model: what an adversary may show where inputs have a fixed length.

    threat = Cap(0.1, fixed=1)                     # the last coordinate is not the adversary's
    x_adv = pgd(keys, loss_fn, x, threat, Budget(10, 0.025, 'none', 0.0))

Inputs are (b, d). Their first d - fixed coordinates z lie on the sphere of radius ||z|| around 0,
and what may be shown instead of z are the points of that sphere at distance at most epsilon; the
other coordinates stay. That is the setting of Gao et al. 2019: ||x|| = 1, the last coordinate 1/2.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

_TINY = 1e-12  # divides a vanishing vector without changing any other


@dataclass(frozen=True)
class Cap:
    """`epsilon` >= 0 is a straight (chordal) distance; it may be a traced array ()."""

    epsilon: float | Array
    fixed: int = 0

    def project(self, x_adv: Array, x: Array) -> Array:
        """(b, d), (b, d) -> (b, d): the point of the cap around x that is nearest to x_adv.

        Of all points of the sphere at an angle of at most t from x, the nearest to any vector is
        in the plane of x and that vector, at its own angle or at t. Where x_adv has no direction
        (0, or opposite to x) it is x.
        """
        z, centre = self._free(x_adv), self._free(x)
        radius = _norm(centre)
        axis = centre / radius
        along = jnp.sum(z * axis, -1, keepdims=True)
        across = z - along * axis
        height = _norm(across)
        largest = 2.0 * jnp.arcsin(jnp.minimum(1.0, self.epsilon / (2.0 * radius)))
        angle = jnp.minimum(jnp.arctan2(height, along), largest)
        angle = jnp.where(height > _TINY, angle, 0.0)
        tangent = across / jnp.maximum(height, _TINY)
        nearest = radius * (jnp.cos(angle) * axis + jnp.sin(angle) * tangent)
        return jnp.concatenate([nearest, x[:, x.shape[1] - self.fixed :]], -1)

    def ascend(self, grad: Array) -> Array:
        """(b, d) -> (b, d): the unit step in the free coordinates; zeros stay zeros."""
        free = self._free(grad)
        largest = jnp.max(jnp.abs(free), -1, keepdims=True)
        scaled = free / jnp.where(largest > 0, largest, 1)  # whose square cannot vanish in float32
        unit = scaled / jnp.maximum(_norm(scaled), _TINY)
        return jnp.concatenate([unit, jnp.zeros_like(grad[:, grad.shape[1] - self.fixed :])], -1)

    def sample(self, key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
        """One perturbation of shape (d,), uniform in the ball around 0 in the free coordinates.

        It does not know x, so that it leaves the sphere; the step after it comes back.
        """
        size = shape[0] - self.fixed
        direction_key, radius_key = jax.random.split(key)
        direction = jax.random.normal(direction_key, (size,), dtype)
        radius = self.epsilon * jax.random.uniform(radius_key, (), dtype) ** (1.0 / size)
        step = radius * direction / jnp.maximum(_norm(direction), _TINY)
        return jnp.concatenate([step, jnp.zeros((self.fixed,), dtype)])

    def _free(self, x: Array) -> Array:
        return x[..., : x.shape[-1] - self.fixed]


def _norm(x: Array) -> Array:
    return jnp.linalg.norm(x, axis=-1, keepdims=True)
