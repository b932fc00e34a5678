"""Probes on disk. Oracles: NumPy's own reader, and the tree that was written."""

import zipfile
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.models.wide_resnet import WideResNet
from war_jax.records.probes import list_probes, read_probe, write_probe


@pytest.fixture(scope='module')
def variables():
    model = WideResNet(depth=10, widen_factor=0.125, num_classes=3, stem_channels=2)
    return model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)


def test_arrays_stand_under_their_paths(tmp_path: Path, variables) -> None:
    write_probe(tmp_path, 120, variables)
    path = tmp_path / 'probes' / 'step-00000120.npz'
    with np.load(path, allow_pickle=False) as found:
        assert len(found.files) == len(jax.tree.leaves(variables))
        kernel = found['params/stage1/block0/conv1/kernel']
        mean = found['batch_stats/norm/mean']
    expected = variables['params']['stage1']['block0']['conv1']['kernel']
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, expected)
    np.testing.assert_array_equal(mean, variables['batch_stats']['norm']['mean'])


def test_the_tree_comes_back(tmp_path: Path, variables) -> None:
    write_probe(tmp_path, 0, variables)
    [path] = list_probes(tmp_path).values()
    found = read_probe(path)
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    chex.assert_trees_all_equal(found, variables)


def test_double_precision_is_kept(tmp_path: Path) -> None:
    write_probe(tmp_path, 0, {'params': {'w': np.array([1 / 3])}})
    assert read_probe(list_probes(tmp_path)[0])['params']['w'] == 1 / 3


def test_equal_networks_make_equal_files(tmp_path: Path, variables) -> None:
    for workdir in ('first', 'second'):
        write_probe(tmp_path / workdir, 7, variables)
    first, second = (list_probes(tmp_path / name)[7].read_bytes() for name in ('first', 'second'))
    assert first == second


def test_probes_are_listed_by_step_and_nothing_else_is(tmp_path: Path) -> None:
    assert list_probes(tmp_path) == {}
    for step in (1000, 20, 123_456_789):
        write_probe(tmp_path, step, {'params': {'w': np.ones(2)}})
    for other in ('step-x.npz', '.step-00000003.npz.77.tmp', 'a-step-00000003.npz'):
        (tmp_path / 'probes' / other).touch()
    found = list_probes(tmp_path)
    assert list(found) == [20, 1000, 123_456_789]
    assert found[20] == tmp_path / 'probes' / 'step-00000020.npz'


def test_a_damaged_file_is_refused(tmp_path: Path, variables) -> None:
    write_probe(tmp_path, 0, variables)
    path = list_probes(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises((zipfile.BadZipFile, EOFError, ValueError)):
        read_probe(path)
