"""FAB, the fast adaptive boundary attack (Croce & Hein 2020a), towards one class after another.

    attack = Fab(ThreatModel('linf', 8 / 255))                    # see attacks.machine
    shift = to_hyperplane(x, normals, offsets, 'linf')            # (b, d), in the box

It looks for the *smallest* perturbation: from a point it projects both the point and the clean
image onto the plane where the linearised network changes from the label to the target, steps a
little beyond a mixture of the two, and comes back towards the image whenever it has crossed.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from war_jax.attacks.losses import targeted_margin
from war_jax.attacks.machine import Answer, ranked_target, rows
from war_jax.attacks.threat import Norm, ThreatModel
from war_jax.config_rules import convert

# The authors' settings, in the paper's letters.
ALPHA_MAX = 0.1  # largest share of the step that starts from the clean image
ETA = 1.05  # how far beyond the plane
BETA = 0.9  # what is left of the perturbation on the way back


class FabState(NamedTuple):
    """Leading axis (b,)."""

    point: Array  # (b, h, w, c)
    step: Array  # steps so far
    target: Array  # class
    best: Array  # (b, h, w, c) nearest misclassified point
    distance: Array  # of it, in the threat's norm; infinite if there is none


@dataclass(frozen=True)
class Fab:
    """num_steps for each of at most `num_targets` classes, the likeliest first.

    The first restart starts at the image, the others at random within half of epsilon.
    """

    threat: ThreatModel
    name: str = 'fab-t'
    num_steps: int = 100
    restarts: int = 1
    num_targets: int = 9
    uses_gradient = True
    looks_first = True

    def num_stages(self, num_classes: int) -> int:
        return self.restarts * min(self.num_targets, num_classes - 1)

    def num_evaluations(self) -> int:
        return self.num_steps + 1

    def start(
        self, keys: Array, x: Array, labels: Array, clean_logits: Array, stages: Array
    ) -> FabState:
        draw = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
        radius = jnp.where(stages % self.restarts > 0, self.threat.epsilon / 2, 0.0)
        scale = radius / self.threat.length(draw)
        point = jnp.clip(x + scale.reshape(-1, *[1] * (x.ndim - 1)) * draw, 0.0, 1.0)
        return FabState(
            point=point,
            step=jnp.zeros_like(labels),
            target=ranked_target(clean_logits, labels, stages // self.restarts),
            best=x,
            distance=jnp.full_like(scale, jnp.inf),
        )

    def loss(self, state: FabState, logits: Array, labels: Array) -> Array:
        return targeted_margin(logits, labels, state.target)

    def look(self, state: FabState, x: Array, labels: Array, logits: Array) -> FabState:
        """Back towards the image where the point has crossed."""
        crossed = logits.argmax(-1) != labels
        distance = self.threat.length(state.point - x)
        closer = crossed & (distance < state.distance)
        return state._replace(
            point=rows(crossed, x + BETA * (state.point - x), state.point),
            best=rows(closer, state.point, state.best),
            distance=jnp.where(closer, distance, state.distance),
        )

    def observe(
        self, state: FabState, keys: Array, x: Array, labels: Array, answer: Answer
    ) -> FabState:
        del keys, labels
        return state._replace(point=self._step(state.point, x, answer), step=state.step + 1)

    def counts(self, state: FabState) -> Array:
        return jnp.ones_like(state.step, bool)

    def finished(self, state: FabState) -> Array:
        return state.step > self.num_steps

    def _step(self, point: Array, x: Array, answer: Answer) -> Array:
        normals, z, clean = (a.reshape(a.shape[0], -1) for a in (answer.gradient, point, x))
        # The plane: loss + normal . (z' - z) = 0.
        offsets = jnp.sum(normals * z, -1) - answer.losses
        # Both in one loop.
        of_point, of_image = jax.vmap(
            lambda start: to_hyperplane(start, normals, offsets, self.threat.norm)
        )(jnp.stack([z, clean]))
        near, far = (jnp.maximum(self.threat.length(s), 1e-8) for s in (of_point, of_image))
        share = jnp.minimum(near / (near + far), ALPHA_MAX)[:, None]
        mixed = (1 - share) * (z + ETA * of_point) + share * (clean + ETA * of_image)
        return jnp.clip(mixed, 0.0, 1.0).reshape(point.shape)


def to_hyperplane(x: Array, normals: Array, offsets: Array, norm: Norm) -> Array:
    """(b, d), (b, d), (b,) -> (b, d): the shortest s with normal . (x + s) = offset.

    x and x + s are in the box [0, 1]. Where that does not reach the plane, s comes closest to it.

    With g = normal . x - offset > 0 (else both change sign), s_i = -sign(n_i) min(l r_i, room_i)
    with one number l for the whole image, room_i what the box leaves, r_i = |n_i| in L2 and 1 in
    L-infinity. What is closed of the gap, sum_i |n_i| min(l r_i, room_i), rises with l; halving
    finds the least l at which it is g. Halved are the whole numbers that the bits of positive
    floats are, which have the floats' order: 31 steps end at one float32, wherever l lies.
    Raises ConfigError for any other norm.
    """
    convert('norm', norm, Norm)
    gap = jnp.sum(normals * x, -1) - offsets
    normals = jnp.where(gap < 0, -1.0, 1.0)[:, None] * normals
    gap, size = jnp.abs(gap), jnp.abs(normals)
    room = jnp.where(normals > 0, x, 1 - x)
    rate = size if norm == 'l2' else jnp.ones_like(size)
    farthest = jnp.max(jnp.where(size > 0, room / jnp.where(size > 0, rate, 1.0), 0.0), -1)
    # Finite, also where a number is next to nothing, and not -0, whose bits are below those of 0.
    farthest = jnp.abs(jnp.minimum(farthest, 1e30))
    num_bits = jnp.finfo(gap.dtype).bits
    whole = jnp.dtype(f'int{num_bits}')

    def shift_of(length: Array) -> Array:
        return jnp.minimum(length[:, None] * rate, room)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low) // 2
        length = jax.lax.bitcast_convert_type(middle, gap.dtype)
        is_enough = jnp.sum(size * shift_of(length), -1) >= gap
        return jnp.where(is_enough, low, middle), jnp.where(is_enough, middle, high)

    ends = (jnp.zeros_like(gap, whole), jax.lax.bitcast_convert_type(farthest, whole))
    _, found = jax.lax.fori_loop(0, num_bits - 1, halve, ends)
    length = jax.lax.bitcast_convert_type(found, gap.dtype)
    shift = -jnp.sign(normals) * shift_of(length)
    return jnp.where(size > 0, shift, 0.0)
