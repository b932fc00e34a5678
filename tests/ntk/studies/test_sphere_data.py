"""Points and pairs on the sphere. Oracle: distances, computed from the points."""

import numpy as np
import pytest

from ntk.studies.sphere import pairs, random_points


def test_random_points_are_on_the_sphere_with_balanced_labels():
    points, labels = random_points(np.random.default_rng(0), 25, 6)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, rtol=1e-14)
    np.testing.assert_array_equal(points[:, -1], 0.5)
    assert sorted(labels) == [-1.0] * 13 + [1.0] * 12


@pytest.mark.parametrize(('n', 'd'), [(5, 3), (30, 6)])
def test_pairs_are_exactly_as_far_apart_as_they_should_be(n: int, d: int):
    points, labels = pairs(np.random.default_rng(1), n, d, 0.1)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, rtol=1e-14)
    np.testing.assert_array_equal(points[:, -1], 0.5)
    np.testing.assert_array_equal(labels, [1.0, -1.0] * n)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    partner = np.arange(2 * n) ^ 1
    np.testing.assert_allclose(distances[np.arange(2 * n), partner], 0.2, rtol=1e-12)
    distances[np.arange(2 * n), partner] = np.inf
    np.fill_diagonal(distances, np.inf)
    assert distances.min() >= 0.4


def test_pairs_without_room_are_refused():
    with pytest.raises(ValueError, match=r'100 pairs .* no room for more than'):
        pairs(np.random.default_rng(2), 100, 3, 0.2)
