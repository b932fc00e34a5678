"""Where arrays lie. Oracle: the arrays' own shards, and slices of the NumPy arrays they are of."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from war_jax.config import ConfigError
from war_jax.mesh import (
    AXIS,
    check_divisible,
    fetch,
    fetched,
    make_mesh,
    replicate,
    shard,
    to_each,
    total,
)


def test_rows_are_split_in_order_and_come_back_whole():
    values = np.arange(24).reshape(8, 3)
    mesh = make_mesh()
    split = shard(mesh, {'a': values, 'b': values[:, 0]})
    for i, part in enumerate(split['a'].addressable_shards):
        np.testing.assert_array_equal(part.data, values[2 * i : 2 * i + 2])
    np.testing.assert_array_equal(fetch(split)['b'], values[:, 0])


@pytest.mark.parametrize('count', [0, 1, 3])
def test_one_is_under_way_while_another_is_fetched(count):
    mesh, events = make_mesh(), []

    def made():
        for number in range(count):
            events.append(f'made {number}')
            yield shard(mesh, np.full(4, number))

    for values in fetched(made()):
        events.append(f'fetched {values[0]}')
    expected = {
        0: [],
        1: ['made 0', 'fetched 0'],
        3: ['made 0', 'made 1', 'fetched 0', 'made 2', 'fetched 1', 'fetched 2'],
    }
    assert events == expected[count]


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


@pytest.mark.parametrize('num_devices', [1, 2, 4])
def test_totals_and_their_gradients(num_devices):
    """Of trees of any shapes. Oracle: the sum over all rows, which are spread over the devices."""
    mesh = make_mesh(jax.devices()[:num_devices])
    rng = np.random.default_rng(0)
    rows = {'a': rng.normal(size=(8, 3)), 'b': rng.normal(size=(8, 2, 5))}
    weights = rng.normal(size=3)

    def loss(weights, rows):
        own = jnp.tanh(rows['a'] @ to_each(weights)).sum()
        return jnp.square(total({'loss': own, 'b': rows['b'].sum(0)})['loss'])

    def totals(rows):
        return total(jax.tree.map(lambda a: a.sum(0), rows)), total(jnp.int32(1))

    with jax.enable_x64(True):
        on = {'mesh': mesh, 'out_specs': P()}
        sums, count = jax.jit(jax.shard_map(totals, in_specs=P(AXIS), **on))(rows)
        gradient = jax.jit(
            jax.shard_map(jax.grad(loss), in_specs=(P(), P(AXIS)), **on)
        )(weights, rows)
        expected = jax.grad(lambda w: jnp.square(jnp.tanh(rows['a'] @ w).sum()))(weights)
    assert count == num_devices
    for name, values in rows.items():
        np.testing.assert_allclose(sums[name], values.sum(0), rtol=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)


def test_a_total_is_taken_in_the_order_of_the_devices():
    """((1e8 + 1) - 1e8) + 1 is 1 in float32, where 1e8 + 1 is 1e8; other orders give 0 or 2.

    XLA's own sum has this order within one process; tests/launch/test_local.py tries several.
    """
    mesh = make_mesh()
    values = np.repeat(np.array([[1e8], [1], [-1e8], [1]], np.float32), 7, 1)
    program = jax.jit(jax.shard_map(total, mesh=mesh, in_specs=P(AXIS), out_specs=P()))
    np.testing.assert_array_equal(program(shard(mesh, values)), np.ones((1, 7)))


def test_a_total_of_many_numbers_is_taken_in_shares():
    """Oracle: NumPy's sum over the first axis, one row after the other."""
    mesh = make_mesh()
    values = np.random.default_rng(0).normal(size=(4, 30_001)).astype(np.float32)
    program = jax.jit(jax.shard_map(total, mesh=mesh, in_specs=P(AXIS), out_specs=P()))
    np.testing.assert_array_equal(program(shard(mesh, values)), values.sum(0, keepdims=True))


def test_a_total_takes_a_few_times_the_memory_of_its_numbers():
    """Not as many times as there are devices."""
    mesh = make_mesh()
    values = jax.ShapeDtypeStruct((mesh.size, 100_000), np.float32)
    program = jax.jit(jax.shard_map(total, mesh=mesh, in_specs=P(AXIS), out_specs=P()))
    plan = program.lower(values).compile().memory_analysis()
    assert plan is not None and plan.temp_size_in_bytes < 4 * 400_000
