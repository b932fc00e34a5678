"""The study's command line. Oracle: what was typed wrong, and exit codes."""

import shlex
from pathlib import Path

import pytest

from war_jax import mesh
from war_jax.config import ConfigError
from war_jax.data.sources import DataError
from war_jax.records.files import ReportError
from war_jax.studies.width import __main__ as command
from war_jax.studies.width import runner

ROOT = Path(__file__).parents[4]
CONFIG = f'--config={ROOT}/configs/width_study.py:smoke'


@pytest.mark.parametrize(('text', 'shard'), [('0/1', (0, 1)), ('2/8', (2, 8)), ('10/11', (10, 11))])
def test_shards(text: str, shard: tuple[int, int]) -> None:
    assert command.read_shard(text) == shard


@pytest.mark.parametrize('text', ['8/8', '1', '-1/2', '1/0', 'a/b', '0/2/3', ''])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r'must be i/n with i from 0 to n - 1'):
        command.read_shard(text)


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        ([CONFIG], '--workdir: must be given'),
        ([CONFIG, '--workdir=x', '--shard=2/2'], '--shard=2/2: must be i/n'),
        ([CONFIG, '--workdir=x', '--shrad=0/2'], 'no such flag; nearest: --shard'),
        ([CONFIG, '--workdir=x', '--config.study.width=1'], 'nearest: --config.study.widths'),
        ([CONFIG, '--workdir=x', '--config.study.lams=(3.0,1.0)'], 'must be strictly increasing'),
        ([f'--config={ROOT}/configs/digits.py', '--workdir=x'], 'a study needs this group of keys'),
    ],
)
def test_refused_command_lines(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(['prog', *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith('war_jax.studies.width: error: ') and line in error
    assert error.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def test_help(capsys) -> None:
    assert command.main(['prog', '--help']) == 0
    text = capsys.readouterr().out
    assert '--shard' in text and 'configs/width_study.py' in text


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (ConfigError('devices'), 2),
        (DataError('data'), 2),
        (ReportError('summary'), 1),
        (OSError(28, 'No space left on device'), 1),
        (KeyboardInterrupt(), 130),
        (None, 0),
    ],
)
@pytest.mark.parametrize(('devices_per_run', 'batch_sizes'), [(1, ()), (2, (64, 48))])
def test_the_study_is_called_and_its_errors_become_exit_codes(
    error, code, devices_per_run, batch_sizes, tmp_path: Path, monkeypatch, capsys
) -> None:
    calls = []

    def run_study(*arguments):
        calls.append(arguments)
        if error:
            raise error
        return 0

    monkeypatch.setattr(runner, 'run_study', run_study)
    monkeypatch.setattr(mesh, 'spread_over_cores', lambda *sizes: calls.append(sizes))
    key = f'--config.study.devices_per_run={devices_per_run}'
    arguments = [CONFIG, f'--workdir={tmp_path}/a b', '--shard=1/3', key]
    assert command.main(['prog', *arguments]) == code
    sizes, (settings, workdir, shard, line) = calls
    assert sizes == batch_sizes
    assert (workdir, shard) == (tmp_path / 'a b', (1, 3))
    assert settings.study.devices_per_run == devices_per_run
    assert shlex.split(line) == ['python', '-m', 'war_jax.studies.width', *arguments]
    said = str(error) or 'interrupted'
    assert capsys.readouterr().err == (f'war_jax.studies.width: error: {said}\n' if error else '')
