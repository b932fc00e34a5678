"""Which runs are made, by whom, when. Oracles: the grid, and the same study made in one go.

Only one test trains: in the others a run is a stand-in, which leaves what a finished one leaves.
"""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from configs import width_study
from tests.war_jax.studies.width import planted
from war_jax.config import ConfigError
from war_jax.records.provenance import lock_workdir
from war_jax.records.reference import Reference, read_reference, write_reference
from war_jax.studies.width import runner
from war_jax.studies.width.results import Row, read_rows
from war_jax.studies.width.settings import Settings, resolve_study
from war_jax.training.loop import TrainingError

ROOT = Path(__file__).parents[4]
NAMES = {
    'k0.125-lam1-seed0', 'k0.125-lam9-seed0', 'k0.25-lam1-seed0', 'k0.25-lam9-seed0',
}  # fmt: skip
# The thin network's best lambda of two; see planted.TRUTHS.
ADJUSTED = 'k0.25-war-trajectory-from-k0.125-lam1-seed0'


def settings(**changes: Any) -> Settings:
    """Four runs of constant lambda and one with WAR."""
    config = width_study.get_config('smoke').unlock()
    few = {'seeds': (0,), 'widths': (0.125, 0.25), 'lams': (1.0, 9.0), 'war': ('trajectory',)}
    small = {f'study.{key}': value for key, value in few.items()}
    config.update_from_flattened_dict({**small, **changes})
    return resolve_study(config)


def run(
    workdir: Path,
    changes: dict[str, Any] | None = None,
    shard: tuple[int, int] = (0, 1),
    command: str = 'python -m war_jax.studies.width ...',
) -> int:
    return runner.run_study(settings(**(changes or {})), workdir, shard, command)


def stand_in(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> list[Any]:
    """Runs are made up in so many seconds, on two devices; returns the parts that are built."""
    built: list[Any] = []

    def build(config: Any, splits: Any, mesh: Any, reference: Any) -> SimpleNamespace:
        built.append(SimpleNamespace(config=config, mesh=mesh))
        built[-1].rerun = lambda config, reference: SimpleNamespace(
            **{**vars(built[-1]), 'config': config}
        )
        return built[-1]

    def read_checked(config: Any, splits: Any) -> None:
        path = Path(config.war.reference)
        is_file = path.is_file() or (path / 'summary.json').is_file()
        if config.war.reference and not is_file:
            raise ConfigError(f'war.reference = {path}: is no finished run')

    def finish(parts: Any, splits: Any, workdir: Path, stop: Any, *rest: Any) -> None:
        with lock_workdir(workdir):
            if stop.poll():
                raise SystemExit(128 + stop.poll())
            if parts.config.objective.lam > 1e9:
                raise TrainingError('step 1: the loss is not finite')
            if not (workdir / 'summary.json').exists():
                time.sleep(seconds)
                make_up(parts.config, workdir)

    devices = jax.local_devices()[:2]
    monkeypatch.setattr(runner.jax, 'local_devices', lambda: devices)
    for function in (build, read_checked, finish):
        monkeypatch.setattr(runner, function.__name__, function)
    return built


def make_up(config: Any, workdir: Path) -> None:
    """Elsewhere first: a finished run is whole, and its summary says so last."""
    k, lam, seed = config.model.widen_factor, config.objective.lam, config.seed
    method = config.war.variant if config.war.reference else 'fixed'
    values = {name: truth(k, lam, seed) for name, truth in planted.TRUTHS.items()}
    elsewhere = workdir.parents[1] / 'made-up' / workdir.name
    planted.make_run(elsewhere, method, k, lam, seed, values, thin=0.125)
    if not config.war.reference:
        zeta = values['risk_ratio']
        write_reference(
            workdir / 'war.json', Reference(lam, zeta, (zeta,), 10, k, seed, '', {}, {})
        )
    for name in ('config.json', 'metrics.jsonl', 'summary.json'):
        (elsewhere / name).rename(workdir / name)


def rows(workdir: Path) -> list[Row]:
    """Without what a clock or the source tree put there."""
    return [
        {k: v for k, v in row.items() if k not in ('device_seconds', 'commit')}
        for row in read_rows(workdir / 'rows.csv')
    ]


def finished(workdir: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in workdir.glob('runs/*/summary.json')}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    # Figures take most of the time.
    monkeypatch.setattr(runner.findings.pictures, 'draw', lambda *_: [])
    return stand_in(monkeypatch)


@pytest.fixture
def whole(built: list[Any], tmp_path: Path) -> Iterator[Path]:
    assert run(tmp_path / 'whole') == 0
    built.clear()
    yield tmp_path / 'whole'


def test_a_small_study_is_trained(tmp_path: Path, monkeypatch) -> None:
    """Thin run, wide run, and the wide one again with WAR, which reuses what was compiled."""
    devices, builds = jax.local_devices()[:1], []
    real = runner.build
    monkeypatch.setattr(runner.jax, 'local_devices', lambda: devices)
    monkeypatch.setattr(runner.findings.pictures, 'draw', lambda *_: [])
    monkeypatch.setattr(runner, 'build', lambda *a: builds.append(a) or real(*a))
    # Of few programs, as compiling them takes the time.
    fewer = {'study.lams': (9.0,), 'evaluation.curve_scales': (0.0,)}
    assert run(tmp_path, fewer) == 0
    assert len(builds) == 2
    thin, wide, adjusted = rows(tmp_path)
    assert (thin['run'], wide['run']) == ('k0.125-lam9-seed0', 'k0.25-lam9-seed0')
    assert (adjusted['method'], adjusted['lambda'], adjusted['reference_width']) == (
        'trajectory', 9.0, 0.125
    )  # fmt: skip
    assert thin['final_lambda'] == 9.0 and adjusted['final_lambda'] >= 9.0
    assert {row['num_validation'] for row in (thin, wide, adjusted)} == {32}
    about = json.loads((tmp_path / 'runs' / adjusted['run'] / 'config.json').read_text())
    assert about['provenance']['num_devices'] == 1
    study = json.loads((tmp_path / 'study.json').read_text())
    assert study['experiment'] == 'war_jax.studies.width.findings'


def test_every_run_is_made_each_on_one_device(built: list[Any], tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    assert finished(tmp_path).keys() == NAMES | {ADJUSTED}
    assert {row['run'] for row in rows(tmp_path)} == NAMES | {ADJUSTED}
    assert {parts.mesh.devices.size for parts in built} == {1}
    assert (tmp_path / 'report.md').exists()


def test_war_starts_from_the_best_lambda_on_validation_images(whole: Path) -> None:
    thin = {
        row['lambda']: row['validation_robust_accuracy']
        for row in rows(whole)
        if row['widen_factor'] == 0.125
    }
    [adjusted] = [row for row in rows(whole) if row['method'] == 'trajectory']
    assert adjusted['lambda'] == max(thin, key=thin.__getitem__)


VARIANTS = {
    'study.widths': (0.125, 0.25, 0.5), 'study.lams': (1.0, 3.0, 9.0),
    'study.war': ('fixed_step', 'power_law', 'extrapolated'),
}  # fmt: skip


def test_each_variant_waits_for_the_sweeps_it_needs(built: list[Any], tmp_path: Path) -> None:
    """Planted: peaks at 3 sqrt(k), of the grid 1, 1 and 3; risk ratios of 2.5 lambda / sqrt(k)."""
    assert run(tmp_path, VARIANTS) == 0
    held_to = 'k0.125-lam1-k0.25-lam1'
    beside = {name for name in finished(tmp_path) if 'war' in name or 'power' in name}
    assert beside == {
        'k0.25-war-fixed_step-from-k0.125-lam1-seed0', 'k0.5-war-fixed_step-from-k0.125-lam1-seed0',
        'k0.5-power_law-lam2.121-seed0', f'k0.5-war-extrapolated-from-{held_to}-seed0',
    }  # fmt: skip
    assert len(finished(tmp_path)) == 9 + 4
    held = read_reference(tmp_path / f'references/k0.5-war-extrapolated-from-{held_to}-seed0.json')
    assert held.zeta == pytest.approx(2.5 / 0.5**0.5) and held.trajectory == (held.zeta,)
    # One program for a width on each of the two devices, and not one more for what came later.
    assert len(built) <= 3 * 2
    report = (tmp_path / 'report.md').read_text()
    assert '## What is missing\n\nNothing.' in report


def test_shards_share_the_variants(built: list[Any], tmp_path: Path) -> None:
    """Whatever is waited for is made in the end, and nothing twice."""
    for _ in range(2):
        for number in (0, 1):
            assert run(tmp_path, VARIANTS, shard=(number, 2)) == 0
    before = finished(tmp_path)
    assert run(tmp_path, VARIANTS) == 0
    assert len(before) == 9 + 4 and finished(tmp_path) == before


def test_a_finished_study_is_not_repeated(whole: Path) -> None:
    before = finished(whole), (whole / 'rows.csv').read_bytes()
    assert run(whole, command='once more') == 0
    assert (finished(whole), (whole / 'rows.csv').read_bytes()) == before
    verdicts = json.loads((whole / 'verdicts.json').read_text())
    # What made them as they are, and not how the study began.
    assert {verdict['command'] for verdict in verdicts} == {'once more'}


def test_shards_with_disks_of_their_own_merge_to_the_whole(
    whole: Path, tmp_path: Path, capsys
) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert run(first, shard=(0, 2)) == 0
    assert '1 runs of study.war wait' in capsys.readouterr().out
    assert run(second, shard=(1, 2)) == 0
    assert finished(first).keys() | finished(second).keys() == NAMES
    assert not finished(first).keys() & finished(second).keys()
    shutil.copytree(second / 'runs', first / 'runs', dirs_exist_ok=True)
    assert run(first) == 0
    assert rows(first) == rows(whole)


def test_killed_and_started_again_it_keeps_what_is_finished(whole: Path, tmp_path: Path) -> None:
    workdir = tmp_path / 'killed'
    script = (
        'import tests.conftest, pytest\n'
        'from pathlib import Path\n'
        'from tests.war_jax.studies.width.test_runner import run, stand_in\n'
        'stand_in(pytest.MonkeyPatch(), seconds=1.0)\n'
        f'run(Path({str(workdir)!r}))\n'
    )
    process = subprocess.Popen([sys.executable, '-c', script], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not finished(workdir) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, 'it ended before it was killed'
    before = finished(workdir)
    assert 1 <= len(before) < 5
    assert run(workdir) == 0
    after = finished(workdir)
    assert {name: after[name] for name in before} == before
    assert rows(workdir) == rows(whole)


def test_a_signal_stops_all_workers(whole: Path, tmp_path: Path, monkeypatch) -> None:
    workdir, real = tmp_path / 'told', runner.finish

    def interrupted(parts, splits, folder, stop, *rest):
        if finished(workdir):
            stop.signum = signal.SIGTERM
        return real(parts, splits, folder, stop, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(runner, 'finish', interrupted)
        with pytest.raises(SystemExit) as stopped:
            run(workdir)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert 1 <= len(finished(workdir)) < 5
    assert run(workdir) == 0
    assert rows(workdir) == rows(whole)


@pytest.mark.usefixtures('built')
def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, capsys) -> None:
    assert run(tmp_path, {'study.lams': (1.0, 1e30), 'study.widths': (0.125,)}) == 1
    assert finished(tmp_path).keys() == {'k0.125-lam1-seed0'}
    captured = capsys.readouterr()
    assert 'k0.125-lam1e+30-seed0 failed: step' in captured.err
    assert 'λ = 1e+30 seed 0' in (tmp_path / 'report.md').read_text()


@pytest.mark.usefixtures('built')
def test_runs_with_war_are_not_awaited_in_vain(tmp_path: Path, capsys) -> None:
    """A thin run diverges; its wide one does not run, as it would diverge too."""
    assert run(tmp_path, {'study.lams': (1.0, 1e30)}) == 1
    captured = capsys.readouterr()
    assert '1 runs of study.war need all runs of thinner networks' in captured.err
    assert 'wait for' not in captured.out


@pytest.mark.usefixtures('built')
def test_a_shard_may_be_empty(tmp_path: Path, capsys) -> None:
    assert run(tmp_path, shard=(90, 100)) == 0
    assert 'study 0/0 (100%)' in capsys.readouterr().err
    assert 'no run' in (tmp_path / 'report.md').read_text().lower()


@pytest.mark.usefixtures('built')
def test_an_error_in_one_worker_stops_the_others(tmp_path: Path, monkeypatch) -> None:
    real, failed = runner.finish, threading.Event()

    def full_disk(parts, splits, workdir, *rest):
        if workdir.name == 'k0.125-lam9-seed0':
            failed.set()
            raise OSError(28, 'No space left on device')
        failed.wait(60.0)
        time.sleep(0.2)  # until the others are told
        return real(parts, splits, workdir, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(runner, 'finish', full_disk)
        with pytest.raises(OSError, match='No space left'):
            run(tmp_path)
    assert len(finished(tmp_path)) < 4
    assert run(tmp_path) == 0
    assert len(finished(tmp_path)) == 5


def test_a_thin_run_that_is_no_reference_fails_what_needs_it(
    whole: Path, monkeypatch, capsys
) -> None:
    def refused(config: Any, splits: Any) -> None:
        if config.war.reference:
            raise ConfigError(f'war.reference = {config.war.reference}: has no war.json')

    shutil.rmtree(whole / 'runs' / ADJUSTED)
    monkeypatch.setattr(runner, 'read_checked', refused)
    assert run(whole) == 1
    assert f'{ADJUSTED} failed: war.reference = ' in capsys.readouterr().err


@pytest.mark.usefixtures('built')
def test_a_run_of_another_process_is_left_to_it(tmp_path: Path, capsys) -> None:
    with lock_workdir(tmp_path / 'runs' / 'k0.125-lam1-seed0'):
        assert run(tmp_path, {'study.widths': (0.125,)}) == 0
    assert finished(tmp_path).keys() == {'k0.125-lam9-seed0'}
    assert '1 runs are being made by another process' in capsys.readouterr().out


def test_a_run_may_take_several_devices(built: list[Any], tmp_path: Path) -> None:
    changes = {'study.widths': (0.125,), 'study.lams': (1.0,), 'study.devices_per_run': 2}
    assert run(tmp_path, changes) == 0
    assert [parts.mesh.devices.size for parts in built] == [2]


@pytest.mark.usefixtures('built')
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'study\.devices_per_run = 3: must be at most .* 2'):
        run(tmp_path / 'new', {'study.devices_per_run': 3})
    assert not (tmp_path / 'new').exists()


def test_another_configuration_is_refused_another_grid_is_not(whole: Path) -> None:
    with pytest.raises(ConfigError, match=r'threat\.epsilon = 0\.1 \(there 0\.2\)'):
        run(whole, {'threat.epsilon': 0.1})
    assert run(whole, {'study.seeds': (0, 1), 'study.war': (), 'study.lams': (1.0,)}) == 0
    assert len(finished(whole)) == 5 + 2
