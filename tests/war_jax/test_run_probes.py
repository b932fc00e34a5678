"""Probes along a run. Oracles: the checkpoints of the same steps, and a run without probes, which
has to end with the same numbers."""

import json
import os
import signal
from pathlib import Path

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import digits
from war_jax.config import Config, resolve
from war_jax.records.probes import list_probes, read_probe
from war_jax.run import train
from war_jax.training import loop

pytestmark = pytest.mark.usefixtures('undrawn', 'optimized')


def config(every: int, **changes) -> Config:
    """Six steps, each of them kept as a checkpoint."""
    values = digits.get_config('smoke')
    values.update_from_flattened_dict(
        {
            'log.tensorboard': False,
            'ntk.every': every,
            'checkpoint.every_steps': 1,
            'checkpoint.keep': 9,
            **changes,
        }
    )
    return resolve(values)


def probes(workdir: Path) -> dict[int, bytes]:
    return {step: path.read_bytes() for step, path in list_probes(workdir).items()}


@pytest.fixture(scope='module')
def probed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('probed')
    train(config(4), workdir)
    return workdir


def interrupted(every: int, workdir: Path, monkeypatch, step: int) -> None:
    """Runs until a signal arrives before this step's update is done."""
    real_batches = loop.Run.batches

    def batches_with_a_signal(self, done, data):
        for i, batch in enumerate(real_batches(self, done, data)):
            if done + i == step - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(loop.Run, 'batches', batches_with_a_signal)
    with pytest.raises(SystemExit):
        train(config(every), workdir)
    monkeypatch.undo()


def test_a_probe_is_the_network_of_its_step(probed):
    assert list(list_probes(probed)) == [0, 4, 6]
    with ocp.StandardCheckpointer() as reader:
        for step in (4, 6):
            state = reader.restore(probed / 'checkpoints' / 'last' / str(step) / 'state')
            expected = {name: state[name] for name in ('params', 'batch_stats')}
            found = read_probe(list_probes(probed)[step])
            chex.assert_trees_all_equal(found, expected)
    first = read_probe(list_probes(probed)[0])
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(first['batch_stats'])[::2])  # means
    assert not np.array_equal(first['params']['head']['kernel'], state['params']['head']['kernel'])


def test_probes_change_no_result(probed, tmp_path):
    train(config(0), tmp_path)
    assert list_probes(tmp_path) == {} and not (tmp_path / 'probes').exists()
    clocks = ('seconds', 'images_per_second')
    rows = [
        [
            {key: value for key, value in json.loads(line).items() if key not in clocks}
            for line in (workdir / 'metrics.jsonl').read_text().splitlines()
        ]
        for workdir in (probed, tmp_path)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize('step', [1, 5])
def test_an_interrupted_run_has_the_same_probes(probed, tmp_path, monkeypatch, step):
    interrupted(4, tmp_path, monkeypatch, step)
    assert max(list_probes(tmp_path)) == (4 if step == 5 else 0)
    train(config(4), tmp_path)
    assert probes(tmp_path) == probes(probed)


def test_a_run_may_go_on_with_probes(probed, tmp_path, monkeypatch):
    """Began without any: it has the first step all the same, which is a function of the seed."""
    interrupted(0, tmp_path, monkeypatch, 3)
    assert list_probes(tmp_path) == {}
    train(config(2), tmp_path)
    assert list(list_probes(tmp_path)) == [0, 4, 6]
    assert probes(tmp_path) == probes(probed)


def test_a_run_that_was_trained_but_not_tested_gets_its_last_probe(probed, tmp_path, monkeypatch):
    def no_test(self, state, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Run, 'measure', no_test)
    with pytest.raises(KeyboardInterrupt):
        train(config(0), tmp_path)
    monkeypatch.undo()
    train(config(4), tmp_path)
    expected = probes(probed)
    assert probes(tmp_path) == {step: expected[step] for step in (0, 6)}


def test_a_moving_average_is_not_what_is_probed(tmp_path):
    natural = {'objective.name': 'natural', 'objective.lam': 0.0, 'optimizer.epochs': 1}
    train(config(3, ema_decay=0.9, **natural), tmp_path)
    with ocp.StandardCheckpointer() as reader:
        state = reader.restore(tmp_path / 'checkpoints' / 'last' / '3' / 'state')
    found = read_probe(list_probes(tmp_path)[3])['params']['head']['kernel']
    np.testing.assert_array_equal(found, state['params']['head']['kernel'])
    assert not np.array_equal(found, state['averaged']['params']['head']['kernel'])
