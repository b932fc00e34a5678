"""Files: whole or absent, and JSON that any parser reads. Oracles: json, NumPy, the file system."""

import json
import math
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from war_jax.records.files import (
    append_json_line,
    plain,
    read_json_lines,
    replacing,
    rewind_json_lines,
    write_json,
    write_npz,
    write_text,
)


def test_replacing_shows_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / 'deep' / 'report.md'
    write_text(path, 'old')
    with replacing(path) as temporary:
        temporary.write_text('ne')
        assert path.read_text() == 'old'
        temporary.write_text('new')
    assert path.read_text() == 'new'
    assert [file.name for file in path.parent.iterdir()] == ['report.md']


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / 'summary.json'
    write_text(path, 'old')
    with pytest.raises(OSError, match='disk full'), replacing(path) as temporary:
        temporary.write_text('half')
        raise OSError('disk full')
    assert path.read_text() == 'old'
    assert [file.name for file in tmp_path.iterdir()] == ['summary.json']


def test_text_is_utf8_with_line_feeds(tmp_path: Path) -> None:
    write_text(tmp_path / 'a', 'λ ≤ 1\nε\n')
    assert (tmp_path / 'a').read_bytes() == 'λ ≤ 1\nε\n'.encode()


def test_json_round_trip_of_every_number_that_a_run_produces(tmp_path: Path) -> None:
    value = {
        'lambda': jnp.float32(0.5),
        'step': np.int64(3),
        'ok': np.bool_(True),
        'half': np.asarray(1.5, ml_dtypes.bfloat16),
        'curve': jnp.array([0.25, 0.5]),
        'boundaries': (75, 90),
        'workdir': Path('runs/demo'),
        'name': 'λ',
        'nothing': None,
    }
    write_json(tmp_path / 'a.json', value)
    assert json.loads((tmp_path / 'a.json').read_text('utf-8')) == {
        'lambda': 0.5,
        'step': 3,
        'ok': True,
        'half': 1.5,
        'curve': [0.25, 0.5],
        'boundaries': [75, 90],
        'workdir': 'runs/demo',
        'name': 'λ',
        'nothing': None,
    }


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, np.float32('nan')])
def test_what_is_not_finite_becomes_null(tmp_path: Path, value: float) -> None:
    """Oracle: a strict parser, one that refuses Python's bare NaN and Infinity."""
    write_json(tmp_path / 'a.json', {'risk_ratio': value, 'curve': [1.0, value]})
    append_json_line(tmp_path / 'a.jsonl', {'loss': value})

    def refuse(word: str) -> None:
        raise AssertionError(f'{word} is not JSON')

    text = (tmp_path / 'a.json').read_text()
    assert json.loads(text, parse_constant=refuse) == {'risk_ratio': None, 'curve': [1.0, None]}
    text = (tmp_path / 'a.jsonl').read_text()
    assert json.loads(text, parse_constant=refuse) == {'loss': None}


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ({'a': {'b': [1, object()]}}, r'value\.a\.b\[1\]: object has no JSON form'),
        ({'a': {8: 1}}, r'value\.a: key 8 is not a string'),
        ({'a': b'bytes'}, r'value\.a: bytes has no JSON form'),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_place(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        plain(value)


def test_npz_round_trip_and_no_pickle(tmp_path: Path) -> None:
    arrays = {'clean': np.ones((2, 8, 8, 1), np.float32), 'labels': np.array([3, 4], np.int32)}
    write_npz(tmp_path / 'examples.npz', arrays)
    with np.load(tmp_path / 'examples.npz', allow_pickle=False) as found:
        assert sorted(found) == sorted(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ValueError, match="'names' holds Python objects"):
        write_npz(tmp_path / 'examples.npz', {'names': np.array(['a', None])})
    assert [file.name for file in tmp_path.iterdir()] == ['examples.npz']


def test_lines_are_appended_in_order(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'metrics.jsonl'
    rows = [{'kind': 'train', 'step': step, 'loss': 1 / step} for step in (1, 2, 3)]
    for row in rows:
        append_json_line(path, row)
    assert read_json_lines(path) == rows
    assert path.read_bytes().count(b'\n') == 3


@pytest.mark.parametrize('torn', [b'{"step": 2, "lo', b'x' * 10_000])
def test_a_line_that_a_kill_left_unfinished_is_skipped_and_then_removed(
    tmp_path: Path, torn: bytes
) -> None:
    path = tmp_path / 'metrics.jsonl'
    append_json_line(path, {'step': 1})
    path.write_bytes(path.read_bytes() + torn)
    assert read_json_lines(path) == [{'step': 1}]
    append_json_line(path, {'step': 2})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_an_unfinished_first_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / 'metrics.jsonl'
    path.write_bytes(b'{"st')
    append_json_line(path, {'step': 1})
    assert path.read_bytes() == b'{"step": 1}\n'


def test_rewind_drops_the_steps_behind_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / 'metrics.jsonl'
    for step in (100, 150, 200):
        append_json_line(path, {'step': step, 'loss': 0.1})
    path.write_bytes(path.read_bytes() + b'{"step": 250')
    rewind_json_lines(path, step=150)
    assert [row['step'] for row in read_json_lines(path)] == [100, 150]
    assert path.read_bytes().endswith(b'}\n')


def test_rewind_of_a_run_that_logged_nothing_does_nothing(tmp_path: Path) -> None:
    rewind_json_lines(tmp_path / 'metrics.jsonl', step=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('line', ['{"step": }', '[1, 2]'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / 'metrics.jsonl'
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(ValueError, match=r'metrics\.jsonl, line 2'):
        read_json_lines(path)
