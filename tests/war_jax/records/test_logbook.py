"""metrics.jsonl across interruptions. Oracle: the rows that were written, in order."""

import json

from war_jax.records.logbook import Logbook


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
