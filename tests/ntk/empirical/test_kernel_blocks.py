"""Oracles: enumeration by hand. What the blocks hold is tested with ntk.empirical."""

import jax
import numpy as np
import pytest

from ntk.empirical.blocks import filled, pairs, rotated
from war_jax.mesh import make_mesh, shard


def test_each_pair_comes_once_and_shares_a_block_with_the_last():
    assert list(pairs(3, None)) == [(0, 0), (0, 2), (0, 1), (1, 1), (1, 2), (2, 2)]
    assert list(pairs(2, 3)) == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]
    assert list(pairs(1, None)) == list(pairs(1, 1)) == [(0, 0)]


def test_blocks_are_filled_with_the_last_example():
    block = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(filled(block, 5), block[[0, 1, 2, 2, 2]])
    np.testing.assert_array_equal(filled(block, 3), block)


@pytest.mark.parametrize('by', [0, 1, 3])
def test_parts_move_to_the_device_before(by):
    mesh = make_mesh(jax.devices()[::-1])  # a mesh's order is its own
    array = shard(mesh, np.arange(8).reshape(4, 2))
    moved = rotated(mesh, array, by)
    np.testing.assert_array_equal(moved, np.roll(np.arange(8).reshape(4, 2), -by, axis=0))
    assert moved.sharding == array.sharding
