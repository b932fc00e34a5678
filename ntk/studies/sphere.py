"""Inputs as in Gao et al. 2019: on the unit sphere, the last coordinate 1/2.

    x = lifted(directions)                        # (n, d - 1) unit vectors -> (n, d)
    points, labels = random_points(rng, 24, 8)    # (24, 8), (24,) of -1 and 1
    points, labels = pairs(rng, 16, 8, 0.1)      # 16 pairs of opposite labels, 0.2 apart

The last coordinate is the input of a bias: networks here have no others. An adversary stays on the
sphere and leaves it alone: `war_jax.attacks.sphere.Cap(epsilon, fixed=1)`.
"""

import math

import numpy as np

RADIUS = math.sqrt(0.75)  # of the coordinates but the last
_TRIES = 10_000


def lifted(directions: np.ndarray) -> np.ndarray:
    """(..., d - 1) vectors of any length -> (..., d) on the sphere; float64."""
    unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    return np.concatenate([RADIUS * unit, np.full((*unit.shape[:-1], 1), 0.5)], -1)


def random_points(
    rng: np.random.Generator, num_points: int, dimension: int
) -> tuple[np.ndarray, np.ndarray]:
    """Uniform points (n, d), and labels (n,) of -1 and 1, as many of one as of the other (or + 1).

    The labels know nothing of the points.
    """
    points = lifted(rng.normal(size=(num_points, dimension - 1)))
    labels = rng.permutation(np.where(np.arange(num_points) % 2, 1.0, -1.0))
    return points, labels


def pairs(
    rng: np.random.Generator, num_pairs: int, dimension: int, half_gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Adversarial pairs: points (2 n, d), labels (2 n,); row 2 j and 2 j + 1 are a pair.

    The points of a pair lie to both sides of a random centre c_j, in a random direction u_j, at a
    straight distance of 2 half_gap of one another, and have opposite labels. Any two points of
    different pairs are at least 4 half_gap apart, so that a ball of radius half_gap around any
    point meets at most its partner's.

    Raises ValueError where so many pairs do not find room.
    """
    angle = math.asin(half_gap / RADIUS)
    found: list[np.ndarray] = []
    for _ in range(_TRIES):
        if len(found) == num_pairs:
            break
        centre, direction = rng.normal(size=(2, dimension - 1))
        centre /= np.linalg.norm(centre)
        direction -= (direction @ centre) * centre
        direction /= np.linalg.norm(direction)
        sides = np.stack([math.cos(angle) * centre + sign * math.sin(angle) * direction
                          for sign in (1.0, -1.0)])  # fmt: skip
        pair = lifted(sides)
        distances = [np.linalg.norm(pair[:, None] - other, axis=-1).min() for other in found]
        if not distances or min(distances) >= 4.0 * half_gap:
            found.append(pair)
    if len(found) < num_pairs:
        raise ValueError(
            f'{num_pairs} pairs of half gap {half_gap} in dimension {dimension}: no room for more '
            f'than {len(found)}'
        )
    return np.concatenate(found), np.tile([1.0, -1.0], num_pairs)
