"""Reading a run: everything comes back, and what is missing or broken is one clear line."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.war_jax.report.runs import make_run, session
from war_jax.records.files import ReportError
from war_jax.report.run_files import read_run


def test_all_four_files_come_back(tmp_path: Path) -> None:
    """Oracle: the files themselves, by json and NumPy."""
    workdir = make_run(tmp_path / 'run')
    run = read_run(workdir)
    about = json.loads((workdir / 'config.json').read_text())
    assert (run.config, run.provenance) == (about['config'], about['provenance'])
    assert run.summary == json.loads((workdir / 'summary.json').read_text())
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert len(run.train) + len(run.validation) + len(run.sessions) == len(rows)
    assert [row['epoch'] for row in run.validation] == list(range(1, 31))
    assert (run.sessions, run.train[0]) == ([rows[0]], rows[1])
    with np.load(workdir / 'examples.npz') as archive:
        np.testing.assert_array_equal(run.examples['adversarial'], archive['adversarial'])


def failure(workdir: Path) -> str:
    with pytest.raises(ReportError) as caught:
        read_run(workdir)
    message = str(caught.value)
    assert '\n' not in message
    assert str(workdir) in message
    return message


def test_missing_files_are_named_together(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    (workdir / 'summary.json').unlink()
    assert 'missing summary.json; ' in failure(workdir)
    (workdir / 'examples.npz').unlink()
    assert 'missing summary.json, examples.npz; ' in failure(workdir)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert failure(tmp_path / 'runs').endswith('no such folder')


@pytest.mark.parametrize('name', ['config.json', 'summary.json', 'metrics.jsonl', 'examples.npz'])
@pytest.mark.parametrize('content', [b'{"a": \n', b'\xff\xfe\n', b'PK\x03\x04broken\n'])
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    workdir = make_run(tmp_path / 'run')
    (workdir / name).write_bytes(content)
    assert f'{workdir / name}: unreadable' in failure(workdir)


def test_an_empty_and_a_damaged_archive_are_named(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    path = workdir / 'examples.npz'
    whole = path.read_bytes()
    middle = len(whole) // 2
    for content in (b'', whole[:middle], whole[:middle] + b'\x00' * 64 + whole[middle + 64 :]):
        path.write_bytes(content)
        assert f'{path}: unreadable' in failure(workdir)


def test_missing_keys_are_named_together(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    path = workdir / 'summary.json'
    found = json.loads(path.read_text())
    del found['lambda'], found['curve']
    path.write_text(json.dumps(found))
    assert failure(workdir) == f'{path}: no lambda, curve'


def test_missing_keys_of_a_part_are_named_with_it(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    path = workdir / 'summary.json'
    found = json.loads(path.read_text())
    del found['curve']['num_examples']
    path.write_text(json.dumps(found))
    assert failure(workdir) == f'{path}: curve: no num_examples'
    del found['attacks']['cw20']['intervals']
    path.write_text(json.dumps(found))
    assert failure(workdir) == f'{path}: attacks: cw20: no intervals'


def test_a_session_that_added_nothing_is_left_out(tmp_path: Path) -> None:
    """Stopped before its first checkpoint, it began where the next one began again."""
    workdir = make_run(tmp_path / 'run')
    rows = [session(0), session(66), session(66, device='gpu'), session(132)]
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    (workdir / 'metrics.jsonl').write_text(text)
    assert read_run(workdir).sessions == [rows[0], rows[2], rows[3]]
