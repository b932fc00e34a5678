"""Two processes of two devices beside one process of four. Oracle: the run of the one process, on
the same configuration, in this process.

What takes several processes is left to `make faults`, which sets WAR_JAX_FAULTS.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from configs import digits
from launch import local
from war_jax.config import resolve
from war_jax.processes import LOST
from war_jax.run import train
from war_jax.training import loop

pytestmark = pytest.mark.usefixtures('undrawn')
ROOT = Path(__file__).parents[2]
IS_FULL = 'WAR_JAX_FAULTS' in os.environ
CHANGES = {
    'optimizer.epochs': 7,  # of three steps
    'evaluation.every_epochs': 7,
    'evaluation.restarts': 1,
    'ntk.every': 20,
    'log.tensorboard': False,
    'checkpoint.every_steps': 1,
}


def config():
    values = digits.get_config('smoke')
    values.update_from_flattened_dict(CHANGES)
    return resolve(values)


@pytest.fixture(scope='module')
def alone(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp('alone')
    train(config(), workdir)
    return workdir


def launch_training(workdir: Path, *flags: str, patience: int = 600) -> subprocess.Popen:
    """flags: further ones of the program. patience: seconds without a sign of life; a busy machine
    may let a process wait for long."""
    command = [sys.executable, 'launch/local.py', '--processes=2', '--devices_per_process=2']
    config = ['--config=configs/digits.py:smoke', f'--workdir={workdir}']
    overrides = [f'--config.{key}={value}' for key, value in CHANGES.items()]
    return subprocess.Popen(
        [*command, '--patience=600', '--', *config, *overrides, *flags],
        cwd=ROOT,
        env={**os.environ, 'WAR_JAX_PATIENCE': str(patience)},
        text=True,
        stdout=subprocess.PIPE,
    )


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    """Until there is a checkpoint of it, or a later one."""
    while newest(workdir) < step:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def newest(workdir: Path) -> int:
    names = [path.name for path in (workdir / 'checkpoints' / 'last').glob('*')]
    return max((int(name) for name in names if name.isdigit()), default=0)


def children(process: subprocess.Popen) -> list[int]:
    text = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text()
    return [int(pid) for pid in text.split()]


def assert_same_run(workdir: Path, other: Path) -> None:
    """The same weights after 20 steps, to the last bit, and the same answer for every image."""
    weights, others = (
        dict(np.load(path / 'probes' / 'step-00000020.npz')) for path in (workdir, other)
    )
    assert weights.keys() == others.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
    summary, expected = (
        json.loads((path / 'summary.json').read_text()) for path in (workdir, other)
    )
    assert summary['num_examples'] == 48
    for name in ('attacks', 'curve', 'natural_accuracy', 'perturbation_stability', 'best_step'):
        assert summary[name] == expected[name]
    rows = [(workdir / 'metrics.jsonl').read_text().splitlines() for workdir in (workdir, other)]
    steps = [[json.loads(row)['step'] for row in each if '"train"' in row] for each in rows]
    assert steps[0] == steps[1] == list(range(1, 22))


def stop_after_four_steps(workdir: Path) -> None:
    """One process, which is told so."""
    real_batches = loop.Run.batches

    def batches_with_a_signal(self, step, data):
        for number, batch in enumerate(real_batches(self, step, data), start=step):
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(loop.Run, 'batches', batches_with_a_signal)
        train(config(), workdir)
    assert newest(workdir) == 4


@pytest.mark.skipif(not IS_FULL, reason='make faults')
def test_two_processes_train_the_network_of_one(alone, tmp_path):
    """They go on from its first steps, and evaluate."""
    stop_after_four_steps(tmp_path)
    process = launch_training(tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert 'after step 4 of 21' in output
    assert_same_run(tmp_path, alone)
    said = [line for line in output.splitlines() if 'report:' in line]
    assert said == [f'[0] report: {tmp_path}/report.md']
    sessions = [
        json.loads(row)
        for row in (tmp_path / 'metrics.jsonl').read_text().splitlines()
        if '"session"' in row
    ]
    assert [(row['step'], row['num_devices']) for row in sessions] == [(0, 4), (4, 4)]


@pytest.mark.skipif(not IS_FULL, reason='make faults')
def test_two_hosts_that_hold_half_of_the_images_train_the_network_of_one(alone, tmp_path):
    """Where the images lie is none of the network's business: theirs has all of them."""
    process = launch_training(tmp_path, '--config.data.placement=host_sharded')
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert_same_run(tmp_path, alone)


@pytest.mark.skipif(not IS_FULL, reason='make faults; that they hear signals is in test_processes')
def test_what_stops_them_and_how_they_go_on(alone, tmp_path):
    """Two from the start, of which one is killed; two, of which one is told to stop; one."""
    process = launch_training(tmp_path, patience=60)
    wait_for_step(tmp_path, 7, process)
    os.kill(children(process)[1], signal.SIGKILL)
    since = time.monotonic()
    output, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGKILL, output
    # At once in a sum over devices; in a barrier around a checkpoint, when patience is at its end.
    assert time.monotonic() - since < 300, 'the other one had to be killed'
    provenance = json.loads((tmp_path / 'config.json').read_text())['provenance']
    assert provenance['num_devices'] == 4

    killed_at = newest(tmp_path)
    process = launch_training(tmp_path)
    wait_for_step(tmp_path, killed_at + 2, process)
    os.kill(children(process)[1], signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, output
    assert f'after step {killed_at} of 21' in output
    assert f'Stopped after step {newest(tmp_path)} with a checkpoint' in output
    assert newest(tmp_path) < 21

    train(config(), tmp_path)
    assert_same_run(tmp_path, alone)


def test_dry_run_prints_a_command_for_each_process(capsys):
    arguments = ['--config=a b.py', '--workdir=x']
    options = ['--processes=2', '--devices_per_process=3', '--gpus', '--dry-run', '--']
    assert local.main([*options, *arguments]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert 'WAR_JAX_PROCESS=0/2@127.0.0.1:' in first and 'CUDA_VISIBLE_DEVICES=0' in first
    assert 'WAR_JAX_PROCESS=1/2@127.0.0.1:' in second and 'CUDA_VISIBLE_DEVICES=1' in second
    for line in (first, second):
        assert 'device_count=3' in line
        assert f'NPROC={max(6, local.cores())} ' in line
        assert line.endswith("-m war_jax.main '--config=a b.py' --workdir=x")


@pytest.mark.parametrize(
    ('codes', 'code'),
    [
        ([0, 0], 0),
        ([0, LOST], LOST),
        ([LOST, 2], 2),
        ([1, LOST], 1),
        ([LOST, 137], 137),
        ([143, 143], 143),
    ],
)
def test_the_exit_code_is_that_of_the_process_to_blame(codes, code):
    assert local.to_blame(codes) == code


def test_a_job_is_started_again_where_that_can_help(tmp_path):
    """A program that counts its starts: lost twice, then done."""
    (tmp_path / 'counting.py').write_text(
        'import pathlib, sys\n'
        f'path = pathlib.Path({str(tmp_path)!r}) / sys.argv[1]\n'
        'count = int(path.read_text()) if path.exists() else 0\n'
        'path.write_text(str(count + 1))\n'
        'sys.exit(int(sys.argv[2 + count]))\n'
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, 'launch/local.py', '--program=counting', '--processes=1']
        return subprocess.run(
            [*command, '--restarts=5', '--', *arguments],
            cwd=ROOT,
            env={**os.environ, 'PYTHONPATH': str(tmp_path)},
            capture_output=True,
            text=True,
        )

    done = run('lost', '75', '75', '0')
    assert done.returncode == 0
    assert (tmp_path / 'lost').read_text() == '3'
    assert done.stdout.count('exit code 75; starting the job again') == 2
    assert run('refused', '2', '0').returncode == 2
    assert (tmp_path / 'refused').read_text() == '1'
