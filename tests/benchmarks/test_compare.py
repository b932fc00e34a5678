"""Oracle: two planted files, their changes by hand."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import compare


def row(network: str, speed: float, ratio: float, share: float | None = 0.0) -> dict:
    return {
        'network': network, 'batch': 64, 'precision': 'float32', 'images_per_second': speed,
        'ratio': ratio, 'others_share': share,
    }  # fmt: skip


def write(path: Path, *rows: dict) -> Path:
    path.write_text(json.dumps({'machine': {}, 'rows': list(rows)}))
    return path


def test_changes_of_speed_and_ratio(tmp_path, capsys, monkeypatch):
    old = row('16-2', 100, 1.0), row('10-1', 200, 1.2, 0.2), row('9', 1, 1)
    hoisted = row('16-2', 125, 0.9) | {'baseline_targets': 'hoisted'}
    new = row('10-1', 150, 1.5, None), hoisted, row('8', 1, 1)
    before, after = write(tmp_path / 'a', *old), write(tmp_path / 'b', *new)
    monkeypatch.setattr(sys, 'argv', ['compare', str(before), str(after)])
    compare.main()
    head, first, second, *alone = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ['network', 'batch', 'precision']
    expected = '10-1 64 float32 200.0 150.0 -25.0% 1.20 1.50 +25.0% busy machine'
    assert ' '.join(first.split()) == expected
    expected = '16-2 64 float32 100.0 125.0 +25.0% 1.00 0.90 -10.0% another baseline'
    assert ' '.join(second.split()) == expected
    assert alone == ['only before: 9 64 float32', 'only after: 8 64 float32']


OTHERS = ['', '{}', '[1]', '{"rows": [3]}', '{"rows": [{"network": "10-1"}]}']


@pytest.mark.parametrize('text', OTHERS)
def test_another_kind_of_file_is_refused(tmp_path, text):
    path = tmp_path / 'file'
    path.write_text(text)
    with pytest.raises(ValueError, match='no results of a benchmark'):
        compare.read(path)
    with pytest.raises(ValueError, match='no results of a benchmark'):
        compare.read(tmp_path / 'nowhere')
