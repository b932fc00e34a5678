"""The memory of a step. Oracles: the arrays of a real state, and XLA's plan of the real step."""

import jax
import numpy as np
import pytest

from configs import digits
from war_jax.config import resolve
from war_jax.data.device import DeviceData
from war_jax.data.sources import load
from war_jax.mesh import make_mesh
from war_jax.training import memory
from war_jax.training.build import build


def parts_of(**changes):
    values = digits.get_config('smoke')
    values.update_from_flattened_dict(changes)
    config = resolve(values)
    splits = load(config.data)
    return build(config, splits, make_mesh()), splits


@pytest.fixture(scope='module')
def plain():
    return parts_of()


def test_what_has_to_be_there_is_counted(plain):
    parts, splits = plain
    sizes = memory.estimate(parts, splits)
    state = parts.create_state()
    assert sizes['state'] == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert sizes['gradient'] == sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    assert sizes['images'] == splits.train.images.nbytes
    spread, _ = parts_of(**{'data.placement': 'host_sharded'})
    assert memory.estimate(spread, splits)['images'] == splits.train.images.nbytes // 4
    streamed, _ = parts_of(**{'data.placement': 'host'})
    assert memory.estimate(streamed, splits)['images'] == 8 * 64 * 8 * 8 // 4  # batches ahead


def test_activations_are_of_the_rows_at_work():
    def activations(**changes) -> int:
        # Enough rows that what is kept of the weights does not count.
        return memory.estimate(*parts_of(**{'optimizer.batch_size': 192, **changes}))['activations']

    whole = activations()
    assert activations(**{'optimizer.accumulation': 4}) == pytest.approx(whole / 4, rel=0.25)
    assert activations(**{'model.remat': True}) < whole / 2
    assert activations(**{'objective.name': 'natural'}) == whole / 2  # one pass instead of two


def test_the_plan_is_of_the_same_size(plain):
    """Within a factor of three, on a network of a few kilobytes; and its state is the real one."""
    parts, splits = plain
    batch = DeviceData(parts.mesh, splits.train).batch(np.zeros(64, np.int32), np.ones(64, bool))
    compiled = parts.step.lower(parts.create_state(), parts.key, parts.rule, batch).compile()
    plan, sizes = compiled.memory_analysis(), memory.estimate(parts, splits)
    assert plan.argument_size_in_bytes >= sizes['state']
    assert sizes['activations'] / 3 < plan.temp_size_in_bytes < 3 * sizes['activations']
    assert memory.describe_plan(compiled).startswith('memory per device, as XLA plans a step: ')
    assert 'estimated: ' in memory.describe_estimate(parts, splits)


def test_units():
    assert memory.in_units(1536 * 2**20) == '1.5 GiB'
    assert memory.in_units(300 * 2**10) == '0.3 MiB'
    assert memory.in_units(1536) == '1.5 KiB'
