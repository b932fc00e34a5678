"""The largest input gradient over a ball of weights and a ball of inputs, by conditional ascent.

    question = Question(x, c, is_loss, radii, epsilon, is_spectral)      # x (d,), radii (L,), ...
    found = climb(network.matrices, question, num_steps=16)
    found.value                                     # of ||grad_x f_c||, or of the loss's gradient
    moved = add(network.matrices, found.movement)      # the network at which it was met

What is climbed is u . grad_x f, u the direction of the gradient now: a forward pass of the input x
beside one of the tangent u. A layer's matrix acts on these two vectors alone, so that the gradient
in the matrix has rank two, and so has the point of either ball that lies farthest along it. Steps
go from where one is towards that point (Frank & Wolfe 1956), by the share 2 / (step + 2): all
iterates are convex combinations of points of the ball and never leave it, without a projection,
and a movement is a short list of such points, not a matrix. For the same reason the ball of the
spectral norm lies between two of the Frobenius norm as far as one input can tell: what a matrix of
spectral norm omega does to two vectors, one of Frobenius norm sqrt(2) omega does as well.

ReLU's gates are constant almost everywhere, and so is the gradient in x: the climb sees gates as
sigmoids, ever steeper ones, to which x and the weights before them matter. Values are those of the
true gates. A gate far from opening may stay unseen: what is found is a lower bound.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ntk.studies.theorem.network import Matrices

_TINY = 1e-30


class Question(NamedTuple):
    """Of which gradient, around which input, in which balls; all of it data."""

    x: Array  # (d,)
    c: Array  # () the output, or the label of the loss
    is_loss: Array  # () bool: the gradient of the cross-entropy, not of an output
    radii: Array  # (L,) of the balls around the matrices
    epsilon: Array  # () of the ball around x, in L2
    is_spectral: Array  # () bool: the balls of matrices are those of the spectral norm


class Movement(NamedTuple):
    """Of a layer: sum over t of share_t left_t right_t^T."""

    shares: Array  # (T,)
    left: Array  # (T, fan-in, 2)
    right: Array  # (T, units, 2)


class Found(NamedTuple):
    value: Array  # () the largest one met, the start among them
    movement: tuple[Movement, ...]  # where, of each layer
    offset: Array  # (d,) of the input there


def climb(matrices: Matrices, question: Question, num_steps: int) -> Found:
    """A lower bound of the supremum, found in num_steps steps and so many atoms per layer."""
    x, radii = question.x, question.radii
    dtype = x.dtype

    def empty(matrix: Array) -> Movement:
        sides = [jnp.zeros((num_steps, size, 2), dtype) for size in matrix.shape]
        return Movement(jnp.zeros(num_steps, dtype), *sides)

    def look(here: Found, best: Found) -> tuple[Found, Array]:
        """The better of two points, and the direction of the gradient here."""
        gradient = _gradient(matrices, here, question)
        value = jnp.sqrt(jnp.sum(jnp.square(gradient)))
        here = here._replace(value=value)
        better = jax.tree.map(lambda a, b: jnp.where(value > best.value, a, b), here, best)
        return better, gradient / jnp.maximum(value, _TINY)

    def step(carry: tuple[Found, Found], number: Array) -> tuple[tuple[Found, Found], None]:
        here, best = carry
        best, direction = look(here, best)
        share = 2.0 / (number + 2.0)
        width = 1.0 / (number + 1.0)  # wide at first, so that closed gates are seen from afar
        slope, sides = _slopes(matrices, here, question, direction, width)
        movement = tuple(
            _towards(old, number, share, *_farthest(*side, radius, question.is_spectral))
            for old, side, radius in zip(here.movement, sides, radii, strict=True)
        )
        offset = (1 - share) * here.offset + share * question.epsilon * _unit(slope)
        return (Found(here.value, movement, offset), best), None

    start = Found(jnp.zeros((), dtype), tuple(map(empty, matrices)), jnp.zeros_like(x))
    (here, best), _ = jax.lax.scan(step, (start, start), jnp.arange(num_steps))
    return look(here, best)[0]


def add(matrices: Matrices, movement: tuple[Movement, ...]) -> Matrices:
    """The moved matrices, written out."""
    return tuple(
        matrix + jnp.einsum('t,tir,tor->io', *of)
        for matrix, of in zip(matrices, movement, strict=True)
    )


def _apply(of: Movement, h: Array) -> Array:
    """(fan-in,) -> (units,)."""
    inner = of.shares[:, None] * jnp.einsum('i,tir->tr', h, of.left)
    return jnp.einsum('tr,tor->o', inner, of.right)


def _weights_of_outputs(logits: Array, question: Question) -> Array:
    """(k,): of the outputs' gradients in the gradient that is asked for."""
    unit = jax.nn.one_hot(question.c, logits.shape[0], dtype=logits.dtype)
    return jnp.where(question.is_loss, jax.nn.softmax(logits) - unit, unit)


def _gradient(matrices: Matrices, here: Found, question: Question) -> Array:
    """(d,), with the true gates."""

    def forward(x: Array) -> Array:
        h = x
        for matrix, of in zip(matrices, here.movement, strict=True):
            z = h @ matrix + _apply(of, h)
            h = jax.nn.relu(z)
        return z

    logits, pull_back = jax.vjp(forward, question.x + here.offset)
    return pull_back(_weights_of_outputs(logits, question))[0]


def _slopes(
    matrices: Matrices, here: Found, question: Question, direction: Array, width: Array | float
) -> tuple[Array, list[tuple[Array, Array]]]:
    """Of direction . grad f, gates as sigmoids of that width, in units of the root mean square
    of a layer's inputs: in x, (d,), and in each matrix as left right^T, (fan-in, 2) and (units, 2).
    """

    def climbed(x: Array, taps: list[Array]) -> tuple[Array, list[Array]]:
        pair, inputs = jnp.stack([x, direction]), []  # rows: input and tangent
        for matrix, of, tap in zip(matrices, here.movement, taps, strict=True):
            inputs.append(pair)
            z, tangent = pair @ matrix + jax.vmap(lambda h, of=of: _apply(of, h))(pair) + tap
            scale = width * jnp.sqrt(jnp.mean(jnp.square(jax.lax.stop_gradient(z))))
            gate = jax.nn.sigmoid(z / jnp.maximum(scale, _TINY))
            pair = jnp.stack([jax.nn.relu(z), gate * tangent])
        return jnp.dot(_weights_of_outputs(z, question), tangent), inputs

    taps = [jnp.zeros((2, matrix.shape[1]), direction.dtype) for matrix in matrices]
    (slope, backward), inputs = jax.grad(climbed, (0, 1), has_aux=True)(
        question.x + here.offset, taps
    )
    return slope, [(h.T, b.T) for h, b in zip(inputs, backward, strict=True)]


def _farthest(left: Array, right: Array, radius: Array, is_spectral: Array) -> tuple[Array, Array]:
    """The point of the ball with the largest product with left right^T, as (left, right) too."""
    (left, a), (right, b) = _orthonormal(left), _orthonormal(right)
    core = a @ b.T
    shape = jnp.where(is_spectral, _nearest_orthogonal(core), _unit(core))
    return radius * left @ shape, right


def _orthonormal(pair: Array) -> tuple[Array, Array]:
    """(n, 2) = q r, by Gram and Schmidt; LAPACK's way compiles slowly in batches."""
    first = _unit(pair[:, 0])
    second = pair[:, 1]
    for _ in range(2):  # once more, against rounding
        second = _unit(second - jnp.dot(first, second) * first)
    q = jnp.stack([first, second], 1)
    return q, q.T @ pair


def _nearest_orthogonal(core: Array) -> Array:
    """Of a 2 x 2 matrix: U V^T of its singular value decomposition."""
    core = _unit(core)
    (a, b), (c, d) = core
    cofactors = jnp.array([[d, -c], [-b, a]])
    return jnp.sqrt(2.0) * _unit(core + jnp.where(a * d >= b * c, 1.0, -1.0) * cofactors)


def _unit(values: Array) -> Array:
    """Of length 1, all entries together; zeros stay zeros. Squares of small ones would vanish."""
    largest = jnp.max(jnp.abs(values))
    scaled = values / jnp.where(largest > 0, largest, 1.0)
    return scaled / jnp.maximum(1.0, jnp.sqrt(jnp.sum(jnp.square(scaled))))


def _towards(old: Movement, number: Array, share: Array, left: Array, right: Array) -> Movement:
    """A step of a share of the way from the old movement to a point of the ball."""
    shares = ((1 - share) * old.shares).at[number].set(share)
    return Movement(shares, old.left.at[number].set(left), old.right.at[number].set(right))
