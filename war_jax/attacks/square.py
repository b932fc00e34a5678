"""Square Attack (Andriushchenko et al. 2020): random search with squares, without gradients.

    attack = Square(ThreatModel('linf', 8 / 255))                 # see attacks.machine

A proposal changes the best perturbation so far inside a square at a random place, and is kept if it
raises the margin. Squares shrink as queries are spent. In L-infinity a square is one colour at the
corners of the ball; in L2, a pattern of two peaks to which the norm of a second square moves.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from war_jax.attacks.losses import margin_loss
from war_jax.attacks.machine import Answer, rows
from war_jax.attacks.threat import ThreatModel

FIRST_SHARE = 0.8  # p in the paper: of the image, that the first squares cover
# Of 10,000 queries, those after which the share is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
TINY = 1e-12


class SquareState(NamedTuple):
    """Leading axis (b,)."""

    point: Array  # (b, h, w, c) the proposal
    best: Array  # (b, h, w, c)
    best_loss: Array
    step: Array  # queries so far


@dataclass(frozen=True)
class Square:
    """num_queries proposals, `restarts` times; image_shape: (h, w, c)."""

    threat: ThreatModel
    image_shape: tuple[int, int, int]
    name: str = 'square'
    num_queries: int = 5000
    restarts: int = 1
    uses_gradient = False
    looks_first = False

    def num_stages(self, num_classes: int) -> int:
        del num_classes
        return self.restarts

    def num_evaluations(self) -> int:
        return self.num_queries + 1

    def start(
        self, keys: Array, x: Array, labels: Array, clean_logits: Array, stages: Array
    ) -> SquareState:
        """Vertical stripes (L-infinity), or a grid of patterns (L2), with random signs."""
        del clean_logits, stages
        draw = self._stripes if self.threat.norm == 'linf' else self._grid
        point = self._at_epsilon(x, jax.vmap(draw)(keys).astype(x.dtype))
        nothing = jnp.zeros_like(x, shape=x.shape[:1])
        return SquareState(point, point, nothing, jnp.zeros_like(labels))

    def loss(self, state: SquareState, logits: Array, labels: Array) -> Array:
        del state
        return margin_loss(logits, labels)

    def observe(
        self, state: SquareState, keys: Array, x: Array, labels: Array, answer: Answer
    ) -> SquareState:
        del labels
        better = (state.step == 0) | (answer.losses > state.best_loss)
        best = rows(better, state.point, state.best)
        keys = jax.vmap(jax.random.fold_in)(keys, state.step + 1)
        sides = jnp.asarray(self._sides)[jnp.minimum(state.step, self.num_queries - 1)]
        propose = self._recolour if self.threat.norm == 'linf' else self._move
        return SquareState(
            point=self._at_epsilon(x, jax.vmap(propose)(keys, best - x, sides)),
            best=best,
            best_loss=jnp.where(better, answer.losses, state.best_loss),
            step=state.step + 1,
        )

    def counts(self, state: SquareState) -> Array:
        return jnp.ones_like(state.step, bool)

    def finished(self, state: SquareState) -> Array:
        return state.step > self.num_queries

    def _at_epsilon(self, x: Array, delta: Array) -> Array:
        """x + delta, scaled to the ball's surface in L2, and cut to the ball and the box."""
        if self.threat.norm == 'l2':
            length = jnp.maximum(self.threat.length(delta), TINY)
            delta = delta * (self.threat.epsilon / length).reshape(-1, *[1] * (x.ndim - 1))
        return self.threat.project(x + delta, x)

    # Of one example each: (h, w, c).

    def _stripes(self, key: Array) -> Array:
        _, width, channels = self.image_shape
        signs = jax.random.rademacher(key, (1, width, channels), jnp.float32)
        return self.threat.epsilon * jnp.broadcast_to(signs, self.image_shape)

    def _recolour(self, key: Array, delta: Array, side: Array) -> Array:
        at, colour = jax.random.split(key)
        inside = self._window(at, side)[..., None]
        signs = jax.random.rademacher(colour, (1, 1, self.image_shape[2]), delta.dtype)
        return jnp.where(inside, delta + 2 * self.threat.epsilon * signs, delta)

    def _grid(self, key: Array) -> Array:
        """5 x 5 patterns side by side, or more of them where sides are no multiple of 5."""
        height, width, channels = self.image_shape
        side = max(height // 5, 1)
        offset = (height - 5 * side) // 2
        (top, row), (left, column) = (
            np.divmod(np.arange(size) - offset, side) for size in (height, width)
        )
        shape = (height // side, max(width // side, 1))
        inside = ((top >= 0) & (top < shape[0]))[:, None] & ((left >= 0) & (left < shape[1]))
        of_turn, of_sign = jax.random.split(key)
        turned = jax.random.bernoulli(of_turn, shape=shape)[top][:, left]
        signs = jax.random.rademacher(of_sign, (*shape, channels), jnp.float32)[top][:, left]
        one = pattern(side)
        values = jnp.where(turned, one.T[row][:, column], one[row][:, column])
        return jnp.where(inside, values, 0.0)[..., None] * signs

    def _move(self, key: Array, delta: Array, side: Array) -> Array:
        """A pattern into one square, with the norm of that and of another one, which is emptied."""
        at, there, of_turn, of_sign = jax.random.split(key, 4)
        corner = self._corner(at, side)
        window = self._square(corner, side)[..., None]
        emptied = self._square(self._corner(there, side), side)[..., None]

        def norm(values: Array) -> Array:  # (1, 1, c)
            return jnp.sqrt(jnp.sum(jnp.square(values), (0, 1), keepdims=True))

        table = jnp.asarray(self._patterns, delta.dtype)[side]
        table = jnp.where(jax.random.bernoulli(of_turn), table.T, table)
        shifted = jnp.roll(table, corner, (0, 1))[..., None]
        signs = jax.random.rademacher(of_sign, (1, 1, self.image_shape[2]), delta.dtype)
        old = jnp.where(window, delta, 0.0)
        new = jnp.where(window, shifted * signs, 0.0) + old / (norm(old) + TINY)
        unused = jnp.maximum(self.threat.epsilon**2 - jnp.sum(jnp.square(delta)), 0.0)
        freed = jnp.square(norm(jnp.where(window | emptied, delta, 0.0)))
        budget = jnp.sqrt(unused / self.image_shape[2] + freed)
        new = new / (norm(new) + TINY) * budget
        return jnp.where(window, new, jnp.where(emptied, 0.0, delta))

    def _window(self, key: Array, side: Array) -> Array:
        return self._square(self._corner(key, side), side)

    def _corner(self, key: Array, side: Array) -> Array:
        sizes = jnp.asarray(self.image_shape[:2], jnp.int32)
        return jax.random.randint(key, (2,), 0, sizes - side + 1)

    def _square(self, corner: Array, side: Array) -> Array:
        """(h, w) bool."""
        rows, columns = (
            (np.arange(size) >= start) & (np.arange(size) < start + side)
            for size, start in zip(self.image_shape[:2], corner, strict=True)
        )
        return rows[:, None] & columns[None, :]

    @cached_property
    def _sides(self) -> np.ndarray:
        """(num_queries,): of the square at each query."""
        height, width, _ = self.image_shape
        l2 = self.threat.norm == 'l2'
        sides = []
        for query in range(self.num_queries):
            at = int(query / self.num_queries * 10_000)
            share = FIRST_SHARE / 2 ** sum(at > halving for halving in HALVINGS)
            side = max(round(math.sqrt(share * height * width)), 3 if l2 else 1)
            sides.append(min(side + (l2 and side % 2 == 0), height, width))
        return np.array(sides, np.int32)

    @cached_property
    def _patterns(self) -> np.ndarray:
        """(largest side + 1, h, w): pattern(side) in the top left corner."""
        height, width, _ = self.image_shape
        largest = int(self._sides.max())
        table = np.zeros((largest + 1, height, width), np.float32)
        for side in range(1, largest + 1):
            table[side, :side, :side] = pattern(side)
        return table


def pattern(side: int) -> np.ndarray:
    """(side, side), of norm 1: a peak in the upper half, its negative in the lower one."""

    def peak(height: int, width: int) -> np.ndarray:
        rows, columns = np.arange(height)[:, None], np.arange(width)
        ring = np.maximum(abs(rows - height // 2), abs(columns - width // 2))
        number = max(height // 2, width // 2) + 1
        heights = np.cumsum(1.0 / np.arange(number, 0, -1) ** 2)[::-1]  # of the rings, inner first
        values = heights[ring]
        return values / np.linalg.norm(values) if values.size else values

    both = np.concatenate([peak(side // 2, side), -peak(side - side // 2, side)])
    return both / np.linalg.norm(both)
