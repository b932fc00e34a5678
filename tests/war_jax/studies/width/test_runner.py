"""A study on few digits. Oracle: the same study, made in one go by one process."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from configs import width_study
from war_jax.config import ConfigError
from war_jax.records.provenance import lock_workdir
from war_jax.studies.width import runner
from war_jax.studies.width.settings import Settings, resolve_study

ROOT = Path(__file__).parents[4]
NAMES = {
    'k0.125-lam1-seed0', 'k0.125-lam9-seed0', 'k0.25-lam1-seed0', 'k0.25-lam9-seed0',
}  # fmt: skip


def settings(**changes: Any) -> Settings:
    """Four runs of constant lambda and one with WAR."""
    config = width_study.get_config('smoke').unlock()
    config.update_from_flattened_dict({'study.seeds': (0,), **changes})
    return resolve_study(config)


def run(
    workdir: Path,
    changes: dict[str, Any] | None = None,
    shard: tuple[int, int] = (0, 1),
    command: str = 'python -m war_jax.studies.width ...',
) -> int:
    return runner.run_study(settings(**(changes or {})), workdir, shard, command)


def table(workdir: Path) -> list[dict[str, str]]:
    """study.csv without what a clock or the source tree put there."""
    with (workdir / 'study.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ('device_seconds', 'commit')} for row in rows]


def finished(workdir: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in workdir.glob('runs/*/summary.json')}


@pytest.fixture(autouse=True, scope='module')
def two_devices() -> Iterator[None]:
    """Two workers, as on two cores; more would compile the same programs more often."""
    patch = pytest.MonkeyPatch()
    devices = jax.local_devices()[:2]
    patch.setattr(runner.jax, 'local_devices', lambda: devices)
    yield
    patch.undo()


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp('whole')
    assert run(workdir) == 0
    return workdir


def test_every_run_is_made_each_on_one_device(whole: Path) -> None:
    names = {path.name for path in (whole / 'runs').iterdir()}
    [adjusted] = names - NAMES
    assert names > NAMES and adjusted.startswith('k0.25-war-trajectory-from-k0.125-lam')
    rows = table(whole)
    assert {row['run'] for row in rows} == names
    about = json.loads((whole / 'runs' / adjusted / 'config.json').read_text())
    assert about['provenance']['num_devices'] == 1
    assert about['reference']['widen_factor'] == 0.125
    assert (whole / 'report.md').exists()


def test_the_tuned_lambda_is_the_best_on_validation_images(whole: Path) -> None:
    thin = {
        row['lambda']: float(row['validation_robust_accuracy'])
        for row in table(whole)
        if row['widen_factor'] == '0.125'
    }
    best = max(thin, key=lambda lam: (thin[lam], -float(lam)))
    [adjusted] = [row for row in table(whole) if row['method'] == 'trajectory']
    assert adjusted['lambda'] == best


def test_a_finished_study_is_not_repeated(whole: Path) -> None:
    before = finished(whole), (whole / 'study.csv').read_bytes()
    assert run(whole, command='once more') == 0
    assert (finished(whole), (whole / 'study.csv').read_bytes()) == before
    verdicts = json.loads((whole / 'verdicts.json').read_text())
    # What made them as they are, and not how the study began.
    assert {verdict['command'] for verdict in verdicts} == {'once more'}


def test_shards_with_disks_of_their_own_merge_to_the_whole(
    whole: Path, tmp_path: Path, capsys
) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert run(first, shard=(0, 2)) == 0
    assert '1 runs with WAR wait' in capsys.readouterr().out
    assert run(second, shard=(1, 2)) == 0
    assert finished(first).keys() | finished(second).keys() == NAMES
    assert not finished(first).keys() & finished(second).keys()
    shutil.copytree(second / 'runs', first / 'runs', dirs_exist_ok=True)
    assert run(first) == 0
    assert table(first) == table(whole)


def test_killed_and_started_again_it_keeps_what_is_finished(whole: Path, tmp_path: Path) -> None:
    script = (
        'import tests.conftest, jax\n'
        'from pathlib import Path\n'
        'from tests.war_jax.studies.width.test_runner import run, runner\n'
        'devices = jax.local_devices()[:2]\n'
        'runner.jax.local_devices = lambda: devices\n'
        f'run(Path({str(tmp_path)!r}))\n'
    )
    process = subprocess.Popen([sys.executable, '-c', script], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not finished(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, 'it ended before it was killed'
    before = finished(tmp_path)
    assert 1 <= len(before) < 5
    assert run(tmp_path) == 0
    after = finished(tmp_path)
    assert {name: after[name] for name in before} == before
    assert table(tmp_path) == table(whole)


def test_a_signal_stops_all_workers_with_checkpoints(whole: Path, tmp_path: Path, monkeypatch):
    real = runner.finish

    def interrupted(parts, splits, workdir, stop, *rest):
        if len(finished(tmp_path)) == 1:
            stop.signum = signal.SIGTERM
        return real(parts, splits, workdir, stop, *rest)

    monkeypatch.setattr(runner, 'finish', interrupted)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert 1 <= len(finished(tmp_path)) < 5
    monkeypatch.undo()
    assert run(tmp_path) == 0
    assert table(tmp_path) == table(whole)


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, capsys) -> None:
    assert run(tmp_path, {'study.lams': (1.0, 1e30), 'study.widths': (0.125,)}) == 1
    assert finished(tmp_path).keys() == {'k0.125-lam1-seed0'}
    captured = capsys.readouterr()
    assert 'k0.125-lam1e+30-seed0 failed: step' in captured.err
    assert 'λ = 1e+30 seed 0' in (tmp_path / 'report.md').read_text()


def test_runs_with_war_are_not_awaited_in_vain(tmp_path: Path, capsys) -> None:
    """A thin run diverges; its wide one does not run, as it would diverge too."""
    assert run(tmp_path, {'study.lams': (1.0, 1e30)}) == 1
    captured = capsys.readouterr()
    assert '1 runs with WAR need all runs of the thin network' in captured.err
    assert 'wait for' not in captured.out


def test_a_shard_may_be_empty(tmp_path: Path, capsys) -> None:
    assert run(tmp_path, shard=(90, 100)) == 0
    assert 'study 0/0 (100%)' in capsys.readouterr().err
    assert 'no run' in (tmp_path / 'report.md').read_text().lower()


def test_an_error_in_one_worker_stops_the_others(tmp_path: Path, monkeypatch) -> None:
    real = runner.finish

    def full_disk(parts, splits, workdir, *rest):
        if workdir.name == 'k0.125-lam9-seed0':
            raise OSError(28, 'No space left on device')
        return real(parts, splits, workdir, *rest)

    monkeypatch.setattr(runner, 'finish', full_disk)
    with pytest.raises(OSError, match='No space left'):
        run(tmp_path)
    assert len(finished(tmp_path)) < 4
    monkeypatch.undo()
    assert run(tmp_path) == 0
    assert len(finished(tmp_path)) == 5


def test_a_thin_run_that_is_no_reference_fails_what_needs_it(
    whole: Path, tmp_path: Path, capsys
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    [adjusted] = finished(tmp_path).keys() - NAMES
    shutil.rmtree(tmp_path / 'runs' / adjusted)
    for path in tmp_path.glob('runs/*/war.json'):
        path.unlink()
    assert run(tmp_path) == 1
    assert f'{adjusted} failed: war.reference = ' in capsys.readouterr().err


def test_a_run_of_another_process_is_left_to_it(tmp_path: Path, capsys) -> None:
    with lock_workdir(tmp_path / 'runs' / 'k0.125-lam1-seed0'):
        assert run(tmp_path, {'study.widths': (0.125,)}) == 0
    assert finished(tmp_path).keys() == {'k0.125-lam9-seed0'}
    assert '1 runs are being made by another process' in capsys.readouterr().out


def test_a_run_may_take_several_devices(tmp_path: Path) -> None:
    changes = {'study.widths': (0.125,), 'study.lams': (1.0,), 'study.devices_per_run': 2}
    assert run(tmp_path, changes) == 0
    about = json.loads((tmp_path / 'runs/k0.125-lam1-seed0/config.json').read_text())
    assert about['provenance']['num_devices'] == 2


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'study\.devices_per_run = 3: must be at most .* 2'):
        run(tmp_path / 'new', {'study.devices_per_run': 3})
    assert not (tmp_path / 'new').exists()


def test_another_configuration_is_refused_another_grid_is_not(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'threat\.epsilon = 0\.1 \(there 0\.2\)'):
        run(whole, {'threat.epsilon': 0.1})
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    assert run(tmp_path, {'study.seeds': (0, 1), 'study.war': (), 'study.lams': (1.0,)}) == 0
    assert len(finished(tmp_path)) == 5 + 2
