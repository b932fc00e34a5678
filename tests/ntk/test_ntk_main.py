"""The command line of ntk. Oracle: what was typed wrong, and what was meant."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ntk import main

ROOT = Path(main.__file__).parents[1]
WIDTH, RUN, CONVERGENCE, CAPACITY = (
    f'--config={ROOT}/configs/{name}.py'
    for name in ('ntk_width', 'ntk_run', 'ntk_convergence', 'ntk_capacity')
)


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        ([], '--config: must be given'),
        ([WIDTH], '--workdir: must be given'),
        ([WIDTH, '--workdir={}', '--run={}'], 'only configs/ntk_run.py measures a run'),
        ([RUN], '--run: must be given'),
        ([RUN, '--run={}/absent'], 'no such folder'),
        ([f'{WIDTH}:smok', '--workdir={}'], 'nearest: smoke'),
        ([WIDTH, '--workdir={}', '--config.grid.width=3'], 'nearest: --config.grid.widths'),
        ([WIDTH, '--workdir={}', '--config.training.speed=7'], 'must be at most 2'),
        ([WIDTH, '--workdir={}', '--config.experiment=runs'], "nearest: 'run'"),
        ([CONVERGENCE, '--workdir={}', '--run={}'], 'only configs/ntk_run.py measures a run'),
        ([CONVERGENCE, '--workdir={}', '--config.base.width=257'], 'must be even; nearest: 258'),
        ([CAPACITY], '--workdir: must be given'),
        ([CAPACITY, '--workdir={}', '--config.base.radius=1'], 'must be below 1'),
        ([f'--config={ROOT}/configs/digits.py', '--workdir={}'], 'has no key experiment'),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code = main.main(['ntk.main', *(argument.format(tmp_path) for argument in arguments)])
    output = capsys.readouterr()
    assert code == 2
    assert line in output.err and output.err.count('\n') == 1 and not output.out
    assert list(tmp_path.iterdir()) == []


def test_help_says_how_to_use_it(capsys: pytest.CaptureFixture[str]):
    assert main.main(['ntk.main', '--help']) == 0
    output = capsys.readouterr().out
    assert 'configs/ntk_width.py' in output and '--run' in output and '--workdir' in output


def test_smoke(tmp_path: Path):
    """The smallest study as a user starts it; TensorFlow is not imported on the way."""
    code = (
        'import sys; from ntk.main import main; code = main(sys.argv); '
        "assert 'tensorflow' not in sys.modules; sys.exit(code)"
    )
    changes = ['--config.grid.parametrizations=("ntk",)', '--config.grid.phases=("natural",)']
    command = [sys.executable, '-c', code, f'{WIDTH}:smoke', f'--workdir={tmp_path}', *changes]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'report:' in done.stdout
    assert len(json.loads((tmp_path / 'cells' / 'ntk-m8-seed0.json').read_text())) == 2
    assert (tmp_path / 'figures' / 'start.png').exists()
