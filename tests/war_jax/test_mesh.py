"""Where arrays lie. Oracle: the arrays' own shards, and slices of the NumPy arrays they are of."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from war_jax.config import ConfigError
from war_jax.mesh import check_divisible, fetch, make_mesh, replicate, shard


def test_rows_are_split_in_order_and_come_back_whole():
    values = np.arange(24).reshape(8, 3)
    mesh = make_mesh()
    split = shard(mesh, {'a': values, 'b': values[:, 0]})
    for i, part in enumerate(split['a'].addressable_shards):
        np.testing.assert_array_equal(part.data, values[2 * i : 2 * i + 2])
    np.testing.assert_array_equal(fetch(split)['b'], values[:, 0])


def test_replicas_are_whole_and_keys_keep_their_numbers():
    mesh = make_mesh()
    copies = replicate(mesh, {'x': np.arange(5), 'key': jax.random.key(3)})
    assert len(copies['x'].addressable_shards) == 4
    for part in copies['x'].addressable_shards:
        np.testing.assert_array_equal(part.data, np.arange(5))
    assert copies['key'].is_fully_replicated
    assert jax.random.bits(copies['key']) == jax.random.bits(jax.random.key(3))


def test_a_batch_that_devices_cannot_share_names_its_neighbours():
    mesh = make_mesh()
    check_divisible(mesh, 'optimizer.batch_size', 64)
    with pytest.raises(ConfigError, match=r'size = 66: .* devices, 4; nearest: 64 or 68'):
        check_divisible(mesh, 'optimizer.batch_size', 66)
    with pytest.raises(ConfigError, match=r'nearest: 4$'):
        check_divisible(mesh, 'optimizer.batch_size', 3)


@pytest.mark.parametrize(
    ('flags', 'expected'), [('', '1'), ('--xla_force_host_platform_device_count=5', '5')]
)
def test_cores_become_devices(flags, expected):
    """Batches of 25 and 35 can be shared by 5 devices or 1; here by 1 unless the user says 5."""
    script = (
        'import os; os.sched_getaffinity = lambda pid: range(4)\n'
        'from war_jax.mesh import spread_over_cores; spread_over_cores(25, 35)\n'
        'import jax; print(jax.device_count())'
    )
    run = subprocess.run(
        [sys.executable, '-c', script],
        env={**os.environ, 'XLA_FLAGS': flags},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == expected
