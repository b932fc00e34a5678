"""Parts that end, fail, take too long or lack a package, made of Python's own modules; and all of
the rehearsal, on the CPU."""

import json
import signal
import subprocess
import sys

import pytest

from benchmarks import accelerator_day
from benchmarks.accelerator_day import Part, real_parts, rehearsed_parts, run


def part(*commands, needs='', beside=''):
    return Part('part', 1, commands, ['part.json'], needs, beside)


def test_a_part_that_ends_well_brings_its_results_and_no_earlier_ones(tmp_path):
    (tmp_path / 'part.json').write_text('{"seconds": 1}')
    (tmp_path / 'given').write_text('{"a": 2}')
    json_tool = f'json.tool {tmp_path}/given {tmp_path}/part.json'
    row = run(part('this', json_tool, 'platform'), tmp_path, 60)
    assert row['outcome'] == 'done'
    assert row['results'] == {'part.json': {'a': 2}}
    (tmp_path / 'part.log').rename(tmp_path / 'first.log')
    assert run(part('platform'), tmp_path, 60)['results'] == {}
    (tmp_path / 'first.log').rename(tmp_path / 'part.log')
    log = (tmp_path / 'part.log').read_text()
    assert 'Beautiful is better than ugly' in log and '$ python -m platform' in log


def test_a_part_that_fails_ends_there(tmp_path):
    row = run(part('no_such_module', 'this'), tmp_path, 60)
    assert row['outcome'].startswith('failed: no_such_module ended with 1')
    assert 'Beautiful' not in (tmp_path / 'part.log').read_text()


def test_a_part_that_takes_too_long_is_told_to_stop(tmp_path):
    row = run(part('http.server 0 --bind 127.0.0.1', beside='this'), tmp_path, 5)
    assert row['outcome'] == 'stopped after its 5 s'
    assert row['seconds'] >= 5
    assert 'Beautiful' in (tmp_path / 'part.log').read_text()


def test_a_part_without_its_package_is_left_out(tmp_path):
    row = run(part('this', needs='no_such_package'), tmp_path, 60)
    assert row['outcome'] == 'left out: no_such_package is not installed'


def test_a_second_call_keeps_the_parts_of_the_first(tmp_path, monkeypatch, capsys):
    """And ends with 1 only for what it ran itself."""
    parts = [part('this')._replace(name='one'), part('no_such_module')._replace(name='two')]
    monkeypatch.setattr(accelerator_day, 'rehearsed_parts', lambda output: parts)
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')

    def call(name):
        arguments = ['day', '--rehearse', f'--parts={name}', f'--output={tmp_path}']
        monkeypatch.setattr(sys, 'argv', arguments)
        with pytest.raises(SystemExit) as ended:
            accelerator_day.main()
        return ended.value.code

    before = signal.getsignal(signal.SIGTERM)
    try:
        assert call('two') and not call('one')
    finally:
        signal.signal(signal.SIGTERM, before)
    day = json.loads((tmp_path / 'day.json').read_text())
    assert day['one']['outcome'] == 'done' and day['two']['outcome'].startswith('failed')
    assert call('three') == 2 and "must be of one, two" in capsys.readouterr().err


def test_a_rehearsal_has_the_parts_of_the_day(tmp_path):
    real, rehearsed = real_parts(tmp_path, 'cifar10', 34, 6), rehearsed_parts(tmp_path)
    assert [part.name for part in real] == [part.name for part in rehearsed]
    for one, other in zip(real, rehearsed, strict=True):
        assert {c.split()[0] for c in one.commands} == {c.split()[0] for c in other.commands}


def test_rehearsal(tmp_path):
    command = [sys.executable, '-m', 'benchmarks.accelerator_day', '--rehearse', '--minutes=30']
    done = subprocess.run([*command, f'--output={tmp_path}'], capture_output=True, text=True)
    logs = '\n'.join(path.read_text()[-500:] for path in tmp_path.glob('*.log'))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    day = json.loads((tmp_path / 'day.json').read_text())
    assert {day[name]['outcome'] for name in ('checks', 'study', 'attack')} == {'done'}
    distances = day['checks']['results']['device_checks.json']['distances']
    assert distances['float32, highest'] == pytest.approx(
        dict.fromkeys(('start', 'first', 'losses', 'parameters'), 0.0)  # the CPU itself
    )
    assert 0 <= day['attack']['results']['attack/evaluation.json']['robust_accuracy'] <= 1
