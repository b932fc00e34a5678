"""metrics.jsonl across interruptions. Oracle: the rows that were written, in order."""

import json
import sys
from types import SimpleNamespace

import pytest

from war_jax.config_rules import ConfigError
from war_jax.records import logbook
from war_jax.records.logbook import Logbook, check_is_there


def written(tmp_path):
    return [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]


def test_rows_behind_the_checkpoint_are_dropped_and_none_is_written_twice(tmp_path):
    train = [{'kind': 'train', 'step': step, 'loss': step / 2} for step in range(1, 5)]
    validation = {'kind': 'validation', 'step': 2, 'robust_accuracy': 0.5}
    with Logbook(tmp_path, step=0, tensorboard=False) as log:
        for row in (*train[:2], validation, *train[2:]):
            log.write(row)
    with Logbook(tmp_path, step=2, tensorboard=False) as log:
        log.write({'kind': 'session', 'step': 2, 'commit': 'a'})
        log.write(validation)
        log.write(train[2])
    with Logbook(tmp_path, step=2, tensorboard=False) as log:
        log.write({'kind': 'session', 'step': 2, 'commit': 'b'})
    rows = written(tmp_path)
    assert rows[:3] == [*train[:2], validation]
    assert [row.get('commit') for row in rows[3:]] == ['a', 'b']


def test_without_tensorboard_there_is_no_folder(tmp_path):
    with Logbook(tmp_path, step=0, tensorboard=False) as log:
        log.write({'kind': 'train', 'step': 1, 'loss': None})
    assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


def test_wandb_is_one_run_for_all_sessions_and_is_told_the_same(monkeypatch, tmp_path):
    started, told = [], []

    def init(**arguments):
        started.append(arguments)
        log = lambda scalars, step: told.append((step, scalars))  # noqa: E731
        return SimpleNamespace(log=log, finish=lambda: told.append('finished'))

    monkeypatch.setitem(sys.modules, 'wandb', SimpleNamespace(init=init))
    to = {'tensorboard': False, 'wandb': 'war', 'config': {'seed': 3}}
    for step in (0, 1):
        with Logbook(tmp_path, step=step, **to) as log:
            log.write({'kind': 'train', 'step': step + 1, 'loss': 0.5, 'name': 'x'})
    first, second = started
    assert first == second and first['project'] == 'war' and first['config'] == {'seed': 3}
    assert first['resume'] == 'allow' and len(first['id']) == 32
    assert told == [(1, {'train/loss': 0.5}), 'finished', (2, {'train/loss': 0.5}), 'finished']


def test_wandb_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(logbook, 'find_spec', lambda name: None)
    check_is_there('')
    with pytest.raises(ConfigError, match=r"log\.wandb = 'war': needs wandb"):
        check_is_there('war')
