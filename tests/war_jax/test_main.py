"""The command line. Oracle: what was typed wrong, and the key or value that was meant.

Programs are run in this process, apart from what only a process shows: exit codes, one line on
stderr, and which modules an import pulls in.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from configs import digits
from war_jax import command_line, main
from war_jax import run as run_module
from war_jax.config import ConfigError, resolve
from war_jax.data.sources import DataError
from war_jax.records.files import ReportError
from war_jax.records.provenance import lock_workdir
from war_jax.training import loop

ROOT = Path(main.__file__).parents[1]
WRN = f'--config={ROOT}/configs/wrn.py'


def parse(*arguments: str):
    return command_line.parse(['prog', *arguments], main.define_flags)


def run(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONDONTWRITEBYTECODE': '1'}
    return subprocess.run(
        [sys.executable, *command], cwd=directory, env=environment, capture_output=True, text=True
    )


def test_overrides_are_applied():
    values = parse(
        '--config.threat.epsilon=8/255',
        '--config.optimizer.epochs',
        '3',
        f'{WRN}:34-5,lambda=12',
        '--noconfig.data.flip',
        '--config.model.strides=1,2,1',
        '--config.data.name=npz:my,own=1.npz',
        '--workdir=runs/x',
    )
    config = resolve(values.config)
    assert values.workdir == 'runs/x'
    assert (config.threat.epsilon, config.optimizer.epochs) == (8 / 255, 3)
    assert (config.model.widen_factor, config.objective.lam) == (5.0, 12.0)
    assert (config.data.flip, config.data.name) == (False, 'npz:my,own=1.npz')
    assert config.model.strides == (1, 2, 1)


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        ([], '--config: must be given'),
        (['configs/wrn.py'], '; nearest: --config=configs/wrn.py'),
        ([WRN], '--workdir: must be given'),
        ([WRN, '--workdir='], '--workdir: must be given'),
        ([WRN, '--workdir'], 'Missing value for flag --workdir'),
        ([WRN, '--wrokdir=x'], '--wrokdir: no such flag; nearest: --workdir'),
        ([WRN, 'seed=1'], "'seed=1': must be a flag"),
        ([WRN.replace('wrn', 'wrm')], f'wrm.py: no such file; nearest: {WRN}'),
        ([f'{WRN}:34-5,lamda=12'], "config argument 'lamda=12' in '34-5,lamda=12': must be one of"),
        ([WRN, '--config.sede=1'], '--config.sede=1: no such key; nearest: --config.seed'),
        ([WRN, '--config.atack.num_steps=1'], 'no such key; nearest: --config.attack.num_steps'),
        ([WRN, '--config.attack.stepsize=1'], 'no such key; nearest: --config.attack.step_size'),
        ([WRN, '--config.attack.init.x=1'], 'no such key; nearest: --config.attack.init'),
        ([WRN, '--config.threat=1'], 'is a group of keys, set one of them; nearest: --config.thr'),
        ([WRN, '--config.seed=1.5'], '--config.seed=1.5: must be a whole number; nearest: 0'),
        ([WRN, '--config.attack.step_size=a'], 'attack.step_size=a: must be a finite number'),
        ([WRN, '--config.data.flip=maybe'], '--config.data.flip=maybe: must be True or False; '),
        ([WRN, '--config.model.strides=(1,'], 'strides=(1,: must be a tuple; nearest: (1, 2, 2)'),
    ],
)
def test_refused_command_lines(arguments: list[str], line: str):
    with pytest.raises(ConfigError) as caught:
        parse(*arguments)
    assert line in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('body', 'line'),
    [
        ('def get_config(): return 1 1', 'SyntaxError'),
        ('import no_such_module', 'no_such_module'),
        ('x = 1', "no attribute 'get_config'"),
        ('def get_config(): return {}', 'get_config() must return a ConfigDict'),
        ('def get_config(): open("/no/such/file")', '/no/such/file'),
        (
            'from configs import default\n'
            'def get_config():\n'
            '  config = default.get_config()\n'
            '  config.threat.epsilonn = 1.0\n',
            'Did you mean "epsilon"',
        ),
    ],
)
def test_broken_config_files(body: str, line: str, tmp_path: Path, monkeypatch):
    # The name under which ml_collections loads every config file, on top of what was there.
    monkeypatch.delitem(sys.modules, 'config_config', raising=False)
    path = tmp_path / 'broken.py'
    path.write_text(body)
    with pytest.raises(ConfigError) as caught:
        parse(f'--config={path}', '--workdir=x')
    assert line in str(caught.value)
    assert '\n' not in str(caught.value)


def test_workdir_must_be_a_directory(tmp_path: Path):
    (tmp_path / 'file').touch()
    assert command_line.check_workdir(f'{tmp_path}/a/b') == f'{tmp_path}/a/b'
    for path in ('file', 'file/below'):
        with pytest.raises(ConfigError, match=r'must be a directory, but .*/file is a file'):
            command_line.check_workdir(f'{tmp_path}/{path}')


@pytest.mark.parametrize('address', ['gs://bucket/run', 's3://b', 'file:///tmp/x', 'abfs+s://b/c'])
def test_an_address_is_no_workdir(address: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scheme = re.escape(address.partition(':')[0])
    line = rf'^--workdir={scheme}:/.*: must be a folder of a file system, which {scheme}:// is not'
    with pytest.raises(ConfigError, match=line):
        command_line.check_workdir(address)
    config = resolve(digits.get_config('smoke'))
    for workdir in (address, Path(address)):
        with pytest.raises(ConfigError, match=line):
            run_module.train(config, workdir)
        with pytest.raises(ConfigError, match=line), lock_workdir(Path(workdir)):
            pass
    assert command_line.check_workdir('a:b/c') == f'{tmp_path}/a:b/c'
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (
            [WRN, '--workdir=x', '--config.threat.epsilon=-0.1'],
            'threat.epsilon = -0.1: must be at least 0; nearest: 0',
        ),
        (
            [WRN, '--workdir=x', '--config.threat.epsilonn=1'],
            '--config.threat.epsilonn=1: no such key; nearest: --config.threat.epsilon',
        ),
        (
            [WRN, '--workdir=x', f'--config.data.name=npz:{ROOT}/no_such_file.npz'],
            'no_such_file.npz',
        ),
    ],
)
def test_refusal_is_one_line_exit_code_2_and_nothing_written(
    arguments: list[str], line: str, tmp_path: Path
):
    done = run(tmp_path, '-m', 'war_jax.main', *arguments)
    assert done.returncode == 2
    assert done.stdout == ''
    assert done.stderr.startswith('war_jax.main: error: ') and line in done.stderr
    assert done.stderr.count('\n') == 1
    assert not os.listdir(tmp_path)


def test_help_imports_no_jax(tmp_path: Path):
    """Importing JAX alone takes longer than --help may."""
    script = (
        'import sys, war_jax.main as m\n'
        'code = m.main(["prog", "--help"])\n'
        'slow = {"jax", "numpy", "flax", "tensorflow"} & set(sys.modules)\n'
        'sys.exit(f"imported {slow}" if slow else code)'
    )
    done = run(tmp_path, '-c', script)
    assert (done.returncode, done.stderr) == (0, '')
    assert '--workdir' in done.stdout and 'configs/digits.py' in done.stdout


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (ConfigError('batch'), 2),
        (DataError('data'), 2),
        (loop.TrainingError('loss'), 1),
        (ReportError('summary'), 1),
        (OSError(28, 'No space left on device'), 1),
        (KeyboardInterrupt(), 130),
        (None, 0),
    ],
)
def test_training_is_called_and_its_errors_become_exit_codes(
    error: BaseException | None, code: int, tmp_path: Path, monkeypatch, capsys
):
    calls = []

    def train(*arguments):
        calls.append(arguments)
        if error:
            raise error

    monkeypatch.setattr(run_module, 'train', train)
    arguments = [f'{WRN}:lambda=9', f'--workdir={tmp_path}/a b']
    assert main.main(['prog', *arguments]) == code
    [(config, workdir, command)] = calls
    assert (config.objective.lam, workdir) == (9.0, f'{tmp_path}/a b')
    assert shlex.split(command) == ['python', '-m', 'war_jax.main', *arguments]
    line = str(error) or 'interrupted'
    assert capsys.readouterr().err == (f'war_jax.main: error: {line}\n' if error else '')


@pytest.mark.parametrize(('statistics', 'calls'), [('global', [(128, 96)]), ('per_device', [])])
def test_cores_become_devices_where_that_changes_no_result(
    statistics: str, calls: list, tmp_path: Path, monkeypatch
):
    order: list[object] = []
    monkeypatch.setattr(run_module, 'spread_over_cores', lambda *sizes: order.append(sizes))
    monkeypatch.setattr(run_module, 'train', lambda *_: order.append('train'))
    overrides = (f'batch_norm.statistics={statistics}', 'evaluation.batch_size=96')
    arguments = [WRN, f'--workdir={tmp_path}', *(f'--config.{each}' for each in overrides)]
    assert main.main(['prog', *arguments]) == 0
    assert order == [*calls, 'train']


def test_an_interrupt_while_data_are_loaded_is_one_line(tmp_path: Path):
    """In a process of its own, by the signal of the keyboard."""
    script = (
        'import signal, sys\n'
        # What a shell starts in the background ignores it otherwise.
        'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
        'from war_jax import main, run\n'
        'run.load = lambda data: signal.raise_signal(signal.SIGINT)\n'
        f'sys.exit(main.main(["prog", "{WRN}", "--workdir={tmp_path}/x"]))'
    )
    done = run(tmp_path, '-c', script)
    assert (done.returncode, done.stderr) == (130, 'war_jax.main: error: interrupted\n')
