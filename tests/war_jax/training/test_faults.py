"""What machines, disks and people do to a run. Oracle: the run that nothing happened to, whose bits
it must end with.

A damaged checkpoint is part of the tests; `make faults` sets WAR_JAX_FAULTS, the number of kills,
and takes all faults.
"""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.launch.test_local import children, launch_training, newest
from tests.war_jax.training.test_checkpoint import emptied, flipped, incomplete, truncated
from tests.war_jax.training.test_loop import assert_same_run, config
from war_jax.run import train
from war_jax.training import loop

pytestmark = pytest.mark.usefixtures('undrawn')
ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get('WAR_JAX_FAULTS', '0'))
IS_FULL = 'WAR_JAX_FAULTS' in os.environ
HARMS = [truncated, flipped, incomplete, emptied]
STREAMED = '--config.data.placement=host'
EVERY_STEP = {'checkpoint.every_steps': 1}


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp('undisturbed')
    train(config(), workdir)
    return workdir


def start(workdir: Path, *flags: str, **options) -> subprocess.Popen:
    """A run in a process of its own, with a checkpoint after every step."""
    script = (
        'import sys, tests.conftest\n'
        'from war_jax import main\n'
        'sys.exit(main.main(["", "--config=configs/digits.py:smoke", "--process=alone",\n'
        f'    "--workdir={workdir}", "--config.checkpoint.every_steps=1", *{flags}]))\n'
    )
    command = [sys.executable, '-c', script]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, **options)


def wait_until(happened, process: subprocess.Popen) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


@pytest.mark.skipif(not IS_FULL, reason='make faults')
def test_sigkill_at_any_moment_changes_nothing(undisturbed, tmp_path):
    """The first and every other one hit the write of a checkpoint.

    Those processes, and the one that ends the run, read their images from the host's memory; the
    others have them on the devices, as has the run that nothing happened to.
    """
    rng = np.random.default_rng(0)
    writes_hit = 0
    for kill in range(KILLS):
        seen = newest(tmp_path)
        process = start(tmp_path, *([STREAMED] if kill % 2 == 0 else []))
        if kill % 2 == 0:
            unfinished = tmp_path / 'checkpoints' / 'last'
            before = {path.name for path in unfinished.glob('*tmp*')}

            def is_writing(unfinished=unfinished, before=before) -> bool:
                return any(path.name not in before for path in unfinished.glob('*tmp*'))

            wait_until(is_writing, process)
            writes_hit += 1
        else:
            wait_until(lambda seen=seen: newest(tmp_path) > seen, process)
            time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, 'it ended before it was killed'
        if newest(tmp_path) >= 5:  # of six steps: begin again, for those kills still to come
            aside = tmp_path / f'aside-{kill}'
            aside.mkdir()
            for path in (*tmp_path.glob('*.json*'), tmp_path / 'checkpoints'):
                shutil.move(path, aside)
    assert writes_hit == -(-KILLS // 2)
    train(config(**EVERY_STEP, **{'data.placement': 'host'}), tmp_path)
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.parametrize('harm', HARMS if IS_FULL else HARMS[:1])
def test_a_damaged_checkpoint_costs_an_interval(undisturbed, tmp_path, monkeypatch, capsys, harm):
    real_batches = loop.Run.batches

    def batches_with_a_signal(self, step, data):
        for number, batch in enumerate(real_batches(self, step, data), start=step):
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(loop.Run, 'batches', batches_with_a_signal)
    with pytest.raises(SystemExit):
        train(config(**EVERY_STEP), tmp_path)
    monkeypatch.undo()
    assert newest(tmp_path) == 4
    harm(tmp_path / 'checkpoints' / 'last' / '4')
    capsys.readouterr()
    train(config(**EVERY_STEP), tmp_path)
    said = capsys.readouterr().out
    assert 'it is put aside, and the one before it used' in said and 'after step 3 of 6' in said
    assert_same_run(tmp_path, undisturbed)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """Whether there is one at `folder`: that takes the rights to mount it."""
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(folder)]
    mounted = (
        shutil.which('mount') is not None
        and subprocess.run(mount, capture_output=True).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(['umount', str(folder)], check=True)


@pytest.mark.skipif(not IS_FULL, reason='make faults; the line and the code are in test_main')
def test_a_full_disk_ends_the_run_with_its_last_checkpoint(undisturbed, tmp_path):
    """A small disk that somebody else fills; where none can be made, files may not grow."""
    with small_disk(tmp_path / 'disk', '8m') as mounted:
        workdir = tmp_path / 'disk' / 'run'

        def no_growth() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

        process = start(workdir)
        wait_until(lambda: newest(workdir) >= 2, process)
        if mounted:
            with (
                contextlib.suppress(OSError), (tmp_path / 'disk' / 'filler').open('wb') as filler
            ):
                while True:
                    filler.write(bytes(4096))
                    filler.flush()
        else:
            process.kill()
            process.communicate()
            process = start(workdir, preexec_fn=no_growth)
        _, errors = process.communicate()
        assert process.returncode == 1, errors
        last = [line for line in errors.splitlines() if 'error:' in line]
        assert len(last) == 1 and last[0].startswith('war_jax.main: error: '), errors
        assert newest(workdir) >= 2
        (tmp_path / 'disk' / 'filler').unlink(missing_ok=True)
        train(config(**EVERY_STEP), workdir)
        assert_same_run(workdir, undisturbed)


@pytest.mark.skipif(not IS_FULL, reason='make faults')
@pytest.mark.parametrize('victim', [0, 1])
def test_one_of_two_processes_is_killed(tmp_path, victim):
    """Both go on from the last checkpoint, to the bits of two that nothing happened to."""
    for name in ('whole', 'cut'):
        process = launch_training(tmp_path / name, patience=60)
        if name == 'cut':
            wait_until(lambda: newest(tmp_path / 'cut') >= 9, process)
            os.kill(children(process)[victim], signal.SIGKILL)
            since = time.monotonic()
            output, _ = process.communicate()
            assert process.returncode not in (0, 1, 2), output
            assert time.monotonic() - since < 300
            assert 9 <= newest(tmp_path / 'cut') < 21
            process = launch_training(tmp_path / 'cut')
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert_same_run(tmp_path / 'whole', tmp_path / 'cut')
